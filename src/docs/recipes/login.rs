use std::collections::HashMap;
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use distributable::{Attribute, Session, SessionError};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub const NAME: Attribute<String> = Attribute::new("name");

/// Names and hashes of passwords, `$argon2id$v=19$…`: a table of your database.
#[derive(Clone)]
pub struct Users {
    pub hashes: Arc<HashMap<String, String>>,
    /// Checked for names that do not exist, so that they take as long.
    pub decoy: Arc<str>,
}

#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
}

pub async fn log_in(
    State(users): State<Users>,
    session: Session,
    Form(given): Form<Credentials>,
) -> Result<Response, SessionError> {
    let known = users.hashes.get(&given.name);
    let hash = known.map_or(&*users.decoy, String::as_str).to_owned();
    if !verify(hash, given.password).await || known.is_none() {
        return Ok((StatusCode::UNAUTHORIZED, "wrong name or password").into_response());
    }
    // Binds the session to the user, under a new id: one that was planted before is worthless.
    session.log_in(&given.name)?;
    session.insert(NAME, &given.name)?;
    Ok(Redirect::to("/").into_response())
}

pub async fn log_out(session: Session) -> Result<Redirect, SessionError> {
    session.log_out().await?;
    Ok(Redirect::to("/"))
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
