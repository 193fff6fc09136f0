//! Run with: cargo run --example login
//!
//! A login: the id changes when the user does, and logging out ends the session.

use axum::Router;
use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use distributable::{Attribute, MemoryStore, Session, SessionError, SessionLayer};
use serde::{Deserialize, Serialize};

/// The user who is logged in: a typed name, so that no handler can use another type under it.
const USER: Attribute<User> = Attribute::new("user");

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
    visits: u32,
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .layer(SessionLayer::new(MemoryStore::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("Open http://127.0.0.1:8080/ and log in: any name, and the password \"secret\".");
    Ok(axum::serve(listener, app).await?)
}

async fn home(session: Session) -> Result<Html<String>, SessionError> {
    // Reading does not create a session: a visitor without one gets no cookie.
    let Some(mut user) = session.get(USER)? else {
        return Ok(Html(LOGIN_FORM.to_owned()));
    };
    user.visits += 1;
    session.insert(USER, &user)?;
    let User { name, visits } = user;
    let name = name.replace('&', "&amp;").replace('<', "&lt;");
    Ok(Html(format!(
        "<p>Hello {name}, visit {visits}.</p>{LOGOUT_FORM}"
    )))
}

async fn login(session: Session, Form(form): Form<Credentials>) -> Result<Response, SessionError> {
    if form.password != "secret" {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN_FORM)).into_response());
    }
    // Rotates the id and binds the session to the user: an id that was planted before is worthless
    // now.
    session.log_in(&form.name)?;
    let (name, visits) = (form.name, 0);
    session.insert(USER, &User { name, visits })?;
    Ok(Redirect::to("/").into_response())
}

async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.invalidate().await?;
    Ok(Redirect::to("/"))
}

const LOGIN_FORM: &str = r#"<form method="post" action="/login">
<input name="name" placeholder="name"> <input name="password" type="password"> <button>Log in</button>
</form>"#;

const LOGOUT_FORM: &str = r#"<form method="post" action="/logout"><button>Log out</button></form>"#;
