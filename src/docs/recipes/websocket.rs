use std::pin::pin;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use distributable::{Session, SessionError};

/// `GET /chat`: a WebSocket until the visitor's session ends, on whichever node.
pub async fn chat(upgrade: WebSocketUpgrade, session: Session) -> Response {
    if session.user().is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    // A detached handle stays valid after this response.
    let session = session.detached();
    upgrade.on_upgrade(|socket| serve(socket, session))
}

async fn serve(mut socket: WebSocket, session: Session) {
    let mut ended = pin!(ended(&session));
    loop {
        let message = tokio::select! {
            _ = &mut ended => break,
            message = socket.recv() => message,
        };
        let Some(Ok(Message::Text(text))) = message else {
            return;
        };
        // A message is a use of the session, as a request is: it does not expire meanwhile.
        if session.touch().await.is_err() {
            break;
        }
        let answer = format!("you said {text}");
        if socket.send(Message::from(answer)).await.is_err() {
            return;
        }
    }
    let close = CloseFrame {
        code: close_code::POLICY,
        reason: "the session has ended".into(),
    };
    let _ = socket.send(Message::Close(Some(close))).await;
}

/// Waits until the session has ended or expired, or belongs to another login.
async fn ended(session: &Session) -> SessionError {
    loop {
        if let Err(error) = session.changed().await {
            return error;
        }
    }
}
