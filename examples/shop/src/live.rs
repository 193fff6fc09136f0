//! Events and a chat, which outlive their response and end with the session.

use axum::BoxError;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response, sse};
use distributable::{Attribute, Session, SessionError, SessionErrorKind as Kind};
use futures_util::{StreamExt, stream::unfold};

/// The chat, in the session: any node can go on with it.
const CHAT: Attribute<Vec<String>> = Attribute::new("chat");

/// Sends the number of packets in the cart when it changes, and `end` when the session ends.
pub(crate) async fn events(session: Session) -> impl IntoResponse {
    let event = |name, data: usize| sse::Event::default().event(name).data(data.to_string());
    let events = unfold(Some((session.detached(), None)), move |state| async move {
        let (session, sent) = state?;
        loop {
            let count = session.get(crate::CART).ok()?.unwrap_or_default().len();
            if sent != Some(count) {
                return Some((event("cart", count), Some((session, Some(count)))));
            }
            if let Err(error) = session.changed().await {
                // In other cases the browser connects again: after a login, with its new id.
                let is_over = matches!(error.kind(), Kind::Invalidated | Kind::NoSession);
                return is_over.then(|| (event("end", 0), None));
            }
        }
    });
    sse::Sse::new(events.map(Ok::<_, BoxError>)).keep_alive(sse::KeepAlive::default())
}

pub(crate) async fn chat(session: Session, headers: HeaderMap, ws: WebSocketUpgrade) -> Response {
    // A page of another site can open a WebSocket too, and the cookie may go along.
    let part = |name| headers.get(name)?.to_str().ok()?.rsplit('/').next();
    if session.user().is_none() || part("origin") != part("host") {
        return StatusCode::FORBIDDEN.into_response();
    }
    let (session, ws) = (session.detached(), ws.max_message_size(500));
    ws.on_upgrade(async move |socket| _ = talk(socket, session).await)
}

/// Returns when the browser or the session has gone. That closes the socket.
async fn talk(mut socket: WebSocket, session: Session) -> Result<(), SessionError> {
    loop {
        let lines = session.get(CHAT)?.unwrap_or_default();
        let sent = socket.send(Message::text(lines.join("\n"))).await;
        let message = tokio::select! {
            message = socket.recv() => message,
            changed = session.changed() => { changed?; continue }
        };
        let (Ok(()), Some(Ok(Message::Text(text)))) = (sent, message) else {
            return Ok(());
        };
        // This counts as a use of the session; the open socket does not.
        let add = |lines: Option<Vec<String>>| {
            let mut lines = lines.unwrap_or_default();
            lines.extend([format!("You: {text}"), "Shop: Noted, thank you!".to_owned()]);
            lines.split_off(lines.len().saturating_sub(20))
        };
        session.update(CHAT, add).await?;
    }
}
