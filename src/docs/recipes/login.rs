use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use distributable::{Attribute, MemoryStore, Session, SessionError, SessionStore};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub const NAME: Attribute<String> = Attribute::new("name");

/// Names and hashes of passwords, `$argon2id$v=19$…`: a table of your database.
#[derive(Clone)]
pub struct Users {
    pub hashes: Arc<RwLock<HashMap<String, String>>>,
    /// Checked for names that do not exist, so that they take as long.
    pub decoy: Arc<str>,
    /// The store below the session layer, of any kind.
    pub store: MemoryStore,
}

#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
}

#[derive(Deserialize)]
pub struct Change {
    old: String,
    new: String,
}

pub async fn log_in(
    State(users): State<Users>,
    session: Session,
    Form(given): Form<Credentials>,
) -> Result<Response, SessionError> {
    let known = users.hash_of(&given.name);
    let hash = known.clone().unwrap_or_else(|| users.decoy.to_string());
    if !verify(hash, given.password).await || known.is_none() {
        return Ok(rejected());
    }
    // Binds the session to the user, under a new id: one that was planted before is worthless.
    session.log_in(&given.name)?;
    session.insert(NAME, &given.name)?;
    // The password may have been changed since it was checked. From here on the login is in the
    // user's list, so either `change_password` ends it, or the change is seen here.
    session.save().await?;
    if users.hash_of(&given.name) != known {
        session.log_out().await?;
        return Ok(rejected());
    }
    Ok(Redirect::to("/").into_response())
}

/// Replaces the password, and ends all other sessions of the user. If a step fails, the new
/// password is in force and some of these sessions may be live: the user changes it once more.
pub async fn change_password(
    State(users): State<Users>,
    session: Session,
    Form(given): Form<Change>,
) -> Result<Response, SessionError> {
    let (Some(name), Some(key)) = (session.get(NAME)?, session.key()) else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let Some(known) = users.hash_of(&name) else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    if !verify(known, given.old).await {
        return Ok(rejected());
    }
    let Ok(Ok(new)) = spawn_blocking(move || hash(&given.new)).await else {
        return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    };
    // First the password: from now on no login with the old one succeeds.
    users.replace(name.clone(), new);
    users.store.end_user_except(&*name, key).await?;
    // A copy of this session's cookie becomes worthless as well.
    session.cycle_id()?;
    Ok(Redirect::to("/").into_response())
}

pub async fn log_out(session: Session) -> Result<Redirect, SessionError> {
    session.log_out().await?;
    Ok(Redirect::to("/"))
}

fn rejected() -> Response {
    (StatusCode::UNAUTHORIZED, "wrong name or password").into_response()
}

impl Users {
    fn hash_of(&self, name: &str) -> Option<String> {
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.get(name).cloned()
    }

    fn replace(&self, name: String, hash: String) {
        let mut hashes = self.hashes.write().unwrap_or_else(PoisonError::into_inner);
        hashes.insert(name, hash);
    }
}

/// Hashes a new password, with a salt of its own.
pub fn hash(password: &str) -> Result<String, Error> {
    Ok(Argon2::default()
        .hash_password(password.as_bytes())?
        .to_string())
}

async fn verify(hash: String, password: String) -> bool {
    let Ok(_turn) = HASHES.acquire().await else {
        return false;
    };
    let check = move || {
        let hash = PasswordHash::new(&hash)?;
        Argon2::default().verify_password(password.as_bytes(), &hash)
    };
    // Slow on purpose: not on a thread that serves other requests meanwhile.
    matches!(spawn_blocking(check).await, Ok(Ok(())))
}

/// Each takes 19 MiB and a processor.
static HASHES: Semaphore = Semaphore::const_new(4);
