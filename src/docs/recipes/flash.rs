use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Redirect;
use distributable::{Attribute, Session, SessionError};

/// Messages for the next page that shows them.
const FLASH: Attribute<Vec<String>> = Attribute::new("flash");

/// Those that wait to be shown. Extracting them takes them out of the session.
pub struct Flash(pub Vec<String>);

impl<S: Sync> FromRequestParts<S> for Flash {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        let session = Session::from_parts(parts).await?;
        Ok(Self(session.take(FLASH)?.unwrap_or_default()))
    }
}

/// Adds a message. `update` is atomic: of two requests at once, none loses its message.
pub async fn flash(session: &Session, text: &str) -> Result<(), SessionError> {
    let add = |waiting: Option<Vec<String>>| {
        let mut waiting = waiting.unwrap_or_default();
        if waiting.len() < WAITING_MAX {
            waiting.push(text.to_owned());
        }
        waiting
    };
    session.update(FLASH, add).await?;
    Ok(())
}

pub async fn order(session: Session) -> Result<Redirect, SessionError> {
    flash(&session, "Thank you for your order.").await?;
    Ok(Redirect::to("/"))
}

pub async fn home(Flash(messages): Flash) -> String {
    format!("Shop. {}", messages.join(" "))
}

const WAITING_MAX: usize = 10;
