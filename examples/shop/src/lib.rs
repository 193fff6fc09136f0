//! A tea shop whose carts and logins survive the node that served them.

mod live;

use std::{collections::BTreeMap, sync::LazyLock};

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use axum::body::{Body, to_bytes};
use axum::extract::{Form, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{RequestExt, Router};
use distributable::{Attribute, Route, Session, SessionError, SessionLayer, SessionStore};
use minijinja::{Environment, Value, context};
use subtle::ConstantTimeEq;
use tokio::task::spawn_blocking;
use tower::limit::GlobalConcurrencyLimitLayer;

const CART: Attribute<Vec<String>> = Attribute::new("cart");
const FLASH: Attribute<String> = Attribute::new("flash");
const NAME: Attribute<String> = Attribute::new("name");
const ROLE: Attribute<String> = Attribute::new("role");
const TOKEN: Attribute<String> = Attribute::new("token");
type Answer = Result<Response, SessionError>;

/// The fields of all forms.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Fields {
    token: String,
    tea: String,
    name: String,
    password: String,
}

/// Returns the shop as one node serves it, with sessions in `store`.
pub fn app<S: SessionStore + Clone>(store: S, node: Route) -> Router {
    // Each takes 19 MiB and a processor for a moment.
    let logins = GlobalConcurrencyLimitLayer::new(4);
    Router::new()
        .route("/", get(shop))
        .route("/cart", post(add))
        .route("/order", post(order))
        .route("/login", post(log_in).layer(logins))
        .route("/logout", post(log_out))
        .route("/account", get(account::<S>))
        .route("/account/others", post(log_out_others::<S>))
        .route("/admin", get(admin::<S>))
        .route("/events", get(live::events))
        .route("/chat", get(live::chat))
        .layer(from_fn(check_token))
        .layer(SessionLayer::new(store.clone()).with_route(node))
        .with_state(store)
}

async fn shop(session: Session) -> Answer {
    show(&session, context! { page => "shop", teas => TEAS.clone() })
}

async fn add(session: Session, Form(form): Form<Fields>) -> Answer {
    let tea = TEAS.contains_key(&form.tea).then_some(form.tea);
    // Two tabs may do this at once, at two nodes: neither loses the other's tea.
    let add = |cart: Option<Vec<String>>| -> Vec<String> {
        let cart = cart.into_iter().flatten().chain(tea.clone());
        cart.take(30).collect()
    };
    session.update(CART, add).await?;
    go(&session, "/", "Your cart has changed.")
}

async fn order(session: Session) -> Answer {
    session.remove(CART)?;
    go(&session, "/", "Thank you! Your tea is on its way.")
}

async fn log_in(session: Session, headers: HeaderMap, Form(form): Form<Fields>) -> Answer {
    let Some(role) = verify(&form.name, form.password.into_bytes()).await else {
        return go(&session, "/", "The name or the password is wrong.");
    };
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    session.log_in_with_label(&form.name, &agent[..agent.len().min(200)])?;
    session.insert(NAME, &form.name)?;
    session.insert(ROLE, &role.to_owned())?;
    session.remove(TOKEN)?;
    go(&session, "/", "You are logged in.")
}

async fn log_out(session: Session) -> Answer {
    session.log_out().await?;
    go(&session, "/", "You are logged out.") // In a new session.
}

async fn account<S: SessionStore>(State(store): State<S>, session: Session) -> Answer {
    let Some(user) = session.user() else {
        return go(&session, "/", "Log in first.");
    };
    let devices = store.sessions_of(user).await?.into_iter().map(|it| {
        let used = it.last_accessed_at.as_millis();
        context! { agent => it.label, used, is_this => session.key() == Some(it.key) }
    });
    let devices: Vec<_> = devices.collect();
    show(&session, context! { page => "account", devices })
}

async fn log_out_others<S: SessionStore>(State(store): State<S>, session: Session) -> Answer {
    if let (Some(user), Some(key)) = (session.user(), session.key()) {
        store.end_user_except(user, key).await?;
    }
    go(&session, "/account", "All other devices are logged out.")
}

async fn admin<S: SessionStore>(State(store): State<S>, session: Session) -> Answer {
    if session.get(ROLE)?.as_deref() != Some("admin") {
        return refuse(&session, "This page is for administrators.");
    }
    let mut users = BTreeMap::new();
    for name in USERS.keys() {
        users.insert(name.clone(), store.sessions_of(&**name).await?.len());
    }
    show(&session, context! { page => "admin", users })
}

/// Redirects to a page, which shows a message once.
fn go(session: &Session, page: &str, flash: &str) -> Answer {
    session.insert(FLASH, &flash.to_owned())?;
    Ok(Redirect::to(page).into_response())
}

fn show(session: &Session, page: Value) -> Answer {
    let token = session
        .get(TOKEN)?
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    session.insert(TOKEN, &token)?;
    let (cart, name, role) = (session.get(CART)?, session.get(NAME)?, session.get(ROLE)?);
    let page = context! { cart, name, role, flash => session.take(FLASH)?, token, ..page };
    // The suffix makes it escape what it inserts.
    let html = Environment::new()
        .render_named_str("shop.html", include_str!("shop.html"), page)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR);
    Ok(([(header::CACHE_CONTROL, "no-store")], html.map(Html)).into_response())
}

fn refuse(session: &Session, why: &str) -> Answer {
    let page = show(session, context! { page => "refused", why })?;
    Ok((StatusCode::FORBIDDEN, page).into_response())
}

/// Admits a form only if a page of the same session has sent it: another site's has no token.
async fn check_token(mut request: Request, next: Next) -> axum::response::Result<Response> {
    if !request.method().is_safe() {
        let session: Session = request.extract_parts().await?;
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 10_000)
            .await
            .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        let again = || Request::from_parts(parts.clone(), Body::from(body.clone()));
        let Form::<Fields>(form) = Form::from_request(again(), &()).await?;
        let token = session.get(TOKEN)?.unwrap_or_default();
        if token.is_empty() || !bool::from(token.as_bytes().ct_eq(form.token.as_bytes())) {
            return Ok(refuse(&session, "This form is not from your session.")?);
        }
        request = again();
    }
    Ok(next.run(request).await)
}

/// The role of the user with this password. An unknown name takes as long as a wrong password.
async fn verify(name: &str, password: Vec<u8>) -> Option<&'static str> {
    let user = USERS.get(name);
    let hash = user.or_else(|| USERS.get("ann"))?["hash"].as_str();
    let check = move || Argon2::default().verify_password(&password, &PasswordHash::new(hash)?);
    spawn_blocking(check).await.ok()?.ok()?;
    Some(user?["role"].as_str())
}

static TEAS: LazyLock<BTreeMap<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("teas.json")).expect("it is JSON"));
static USERS: LazyLock<BTreeMap<String, BTreeMap<String, String>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("users.json")).expect("it is JSON"));
