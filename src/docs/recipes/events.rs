use std::convert::Infallible;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use distributable::{Session, SessionError};
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::{Sender, error::RecvError};

/// `GET /news`: server-sent events until the visitor's session ends, on whichever node.
pub async fn news(State(news): State<Sender<String>>, session: Session) -> Response {
    if session.user().is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let texts = stream::unfold(news.subscribe(), async |mut news| {
        let text = match news.recv().await {
            Ok(text) => text,
            Err(RecvError::Lagged(_)) => "some news were skipped".to_owned(),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok::<_, Infallible>(Event::default().data(text)), news))
    });
    // A detached handle stays valid after this response has begun.
    let events = texts.take_until(ended(session.detached()));
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// Waits until the session has ended or expired, or belongs to another login. One future for the
/// whole stream: with one for each event, fast events would keep it from finishing.
async fn ended(session: Session) -> SessionError {
    loop {
        // An error of the store ends the stream, too: the browser comes back by itself.
        if let Err(error) = session.changed().await {
            return error;
        }
    }
}
