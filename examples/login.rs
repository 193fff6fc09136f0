//! Run with: cargo run --example login
//!
//! A login with a new id, the list of the user's devices, and "log out everywhere".

use axum::Router;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use distributable::{Attribute, MemoryStore, Session, SessionError, SessionLayer, SessionStore};
use serde::Deserialize;

const USER: Attribute<String> = Attribute::new("user");

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    let app = Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/logout-everywhere", post(logout_all))
        .layer(SessionLayer::new(store.clone()))
        .with_state(store);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("Open http://127.0.0.1:8080/ and log in: any name, and the password \"secret\".");
    Ok(axum::serve(listener, app).await?)
}

async fn home(store: State<MemoryStore>, session: Session) -> Result<Html<String>, SessionError> {
    // Looking does not create a session: a visitor without one gets no cookie.
    let Some(name) = session.get(USER)? else {
        return Ok(Html(LOGIN_FORM.to_owned()));
    };
    let mut page = format!("<p>Hello {}.</p><ul>", escape(&name));
    for device in store.sessions_of(&*name).await? {
        let label = device.label.unwrap_or_default();
        let this = if session.key() == Some(device.key) {
            " (this one)"
        } else {
            ""
        };
        page += &format!("<li>{}{this}</li>", escape(&label));
    }
    Ok(Html(page + "</ul>" + LOGOUT_FORMS))
}

async fn login(
    session: Session,
    headers: HeaderMap,
    Form(form): Form<Credentials>,
) -> Result<Response, SessionError> {
    if form.password != "secret" {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN_FORM)).into_response());
    }
    let agent = headers
        .get("user-agent")
        .map_or(&b"unknown"[..], |agent| agent.as_bytes());
    let device: String = String::from_utf8_lossy(agent).chars().take(60).collect();
    // The id that was valid until now may have been planted: it is rejected from here on.
    session.log_in_with_label(&form.name, &device)?;
    session.insert(USER, &form.name)?;
    Ok(Redirect::to("/").into_response())
}

async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.log_out().await?;
    Ok(Redirect::to("/"))
}

async fn logout_all(store: State<MemoryStore>, session: Session) -> Result<Redirect, SessionError> {
    if let Some(user) = session.user() {
        store.end_user(user).await?;
    }
    Ok(Redirect::to("/"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const LOGIN_FORM: &str = r#"<form method="post" action="/login"><input name="name" placeholder="name">
<input name="password" type="password"> <button>Log in</button></form>"#;

const LOGOUT_FORMS: &str = r#"<form method="post" action="/logout"><button>Log out</button></form>
<form method="post" action="/logout-everywhere"><button>Log out everywhere</button></form>"#;
