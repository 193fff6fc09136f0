//! An application with axum-login and axum-messages, of which only the store is from this crate:
//! users, a login page, a protected page, a logout, and messages that are shown once.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use axum_login::{
    AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId, login_required,
};
use axum_messages::{Messages, MessagesManagerLayer};
use distributable::{ReplicatedStore, TowerSessions};
use serde::Deserialize;
use tower_sessions::cookie::time::Duration;
use tower_sessions::{Expiry, Session, SessionManagerLayer};

#[derive(Clone, Debug)]
struct User {
    id: i64,
    name: String,
    hash: Vec<u8>,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.hash
    }
}

#[derive(Clone, Debug, Default)]
struct Users(HashMap<i64, User>);

#[derive(Clone, Debug, Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, given: Credentials) -> Result<Option<User>, Infallible> {
        let fits = |user: &&User| user.name == given.name && user.hash == given.password.as_bytes();
        Ok(self.0.values().find(fits).cloned())
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.0.get(id).cloned())
    }
}

async fn log_in(
    mut auth: AuthSession<Users>,
    messages: Messages,
    Form(given): Form<Credentials>,
) -> Response {
    let Some(user) = auth.authenticate(given).await.unwrap() else {
        messages.error("wrong name or password");
        return Redirect::to("/login").into_response();
    };
    match auth.login(&user).await {
        Ok(()) => {
            messages.success(format!("welcome, {}", user.name));
            Redirect::to("/").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn log_out(mut auth: AuthSession<Users>) -> Response {
    match auth.logout().await {
        Ok(_) => Redirect::to("/login").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn home(auth: AuthSession<Users>, messages: Messages) -> String {
    let name = auth.user.map(|user| user.name).unwrap_or_default();
    format!("{name}: {}", shown(messages))
}

async fn login_page(messages: Messages) -> String {
    format!("login: {}", shown(messages))
}

async fn count(State(node): State<&'static str>, session: Session) -> String {
    let n = session.get::<u32>("count").await.unwrap().unwrap_or(0) + 1;
    session.insert("count", n).await.unwrap();
    format!("{node} {n}")
}

fn shown(messages: Messages) -> String {
    let texts: Vec<_> = messages
        .into_iter()
        .map(|message| message.message)
        .collect();
    texts.join(", ")
}

/// The application of one node. The first line is the one that differs.
pub(crate) fn application(name: &'static str, store: &ReplicatedStore) -> Router {
    let store = TowerSessions::new(store.clone());
    let sessions = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(Duration::days(1)));
    let ada = User {
        id: 7,
        name: "ada".to_owned(),
        hash: b"engine".to_vec(),
    };
    let users = Users(HashMap::from([(7, ada)]));
    let auth = AuthManagerLayerBuilder::new(users, sessions).build();
    Router::new()
        .route("/", get(home))
        .route("/count", get(count))
        .route_layer(login_required!(Users, login_url = "/login"))
        .route("/login", post(log_in).get(login_page))
        .route("/logout", post(log_out))
        .layer(MessagesManagerLayer)
        .layer(auth)
        .with_state(name)
}
