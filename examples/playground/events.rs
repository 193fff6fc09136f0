//! `/events`: what happens to sessions, as server-sent events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use distributable::{
    EndReason, Lagged, Root, Scope, SessionEvent, SessionEventKind, SessionEvents, StoreErrorKind,
    UserKey,
};
use futures_util::stream;
use serde_json::json;
use tokio::time::timeout;

use crate::App;
use crate::reply::Failure;

/// The ids of users that this program has seen: events have one-way keys.
#[derive(Default)]
pub(crate) struct Users(Mutex<HashMap<UserKey, String>>);

impl Users {
    /// Keeps the id of a user who logs in.
    pub(crate) fn note(&self, uid: &str) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS_MAX {
            users.clear();
        }
        users.insert(UserKey::of(uid), uid.to_owned());
    }

    fn find(&self, user: &UserKey) -> Option<String> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(user).cloned()
    }
}

/// The stream of events, until the client goes or this node drains.
pub(crate) async fn serve(app: Arc<App>, scope: Scope) -> Result<Response, Failure> {
    let events = app
        .backend
        .events(scope)
        .map_err(|error| match error.kind() {
            StoreErrorKind::Unsupported => {
                let message = "this store reports no events";
                Failure::new(StatusCode::NOT_IMPLEMENTED, "unsupported", message)
            }
            _ => error.into(),
        })?;
    // What a client does once it has an answer should be in its stream, whichever node it asks.
    events.ready().await;
    let start = Feed {
        app,
        events,
        is_new: true,
        uids: HashMap::new(),
    };
    let body = stream::unfold(start, |mut feed| async move {
        let text = feed.next().await?;
        Some((Ok::<_, Infallible>(text), feed))
    });
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((head, Body::from_stream(body)).into_response())
}

struct Feed {
    app: Arc<App>,
    events: SessionEvents,
    is_new: bool,
    /// The users of the sessions in the stream: the end may be reported by a node that keeps no
    /// copy.
    uids: HashMap<Root, String>,
}

impl Feed {
    async fn next(&mut self) -> Option<String> {
        if std::mem::take(&mut self.is_new) {
            return Some(": listening\n\n".to_owned());
        }
        for _ in 0..COMMENT_EVERY {
            if self.app.draining.load(Ordering::Relaxed) {
                return None;
            }
            match timeout(DRAIN_POLL, self.events.recv()).await {
                Ok(Some(Ok(event))) => return Some(self.text(event).await),
                Ok(Some(Err(Lagged(lost)))) => {
                    return Some(format!(
                        "event: lagged\ndata: {}\n\n",
                        json!({ "lost": lost })
                    ));
                }
                Ok(None) => return None,
                Err(_) => {}
            }
        }
        // The end of a client is detected by writing to it.
        Some(":\n\n".to_owned())
    }

    async fn text(&mut self, event: SessionEvent) -> String {
        let known = self.uids.remove(&event.key);
        let uid = match event.user {
            Some(user) => self.uid(&event, &user).await,
            None => known,
        };
        if let Some(uid) = &uid
            && event.kind.reason().is_none()
            && self.uids.len() < USERS_MAX
        {
            self.uids.insert(event.key, uid.clone());
        }
        let kind = event.kind.as_str();
        let mut data = json!({
            "kind": kind,
            "key": event.key.to_string(),
            "reason": event.kind.reason().map(EndReason::as_str),
            "uid": uid,
            "node": event.node.as_ref().or(self.app.node.as_ref()),
            "at": event.at.as_millis(),
        });
        if event.possible_repeat {
            data["possible_repeat"] = true.into();
        }
        format!("event: {kind}\ndata: {data}\n\n")
    }

    /// The user's id: from a login at this node, or from the session while there is one.
    async fn uid(&self, event: &SessionEvent, user: &UserKey) -> Option<String> {
        if let Some(uid) = self.app.users.find(user) {
            return Some(uid);
        }
        if !matches!(
            event.kind,
            SessionEventKind::Created | SessionEventKind::Rotated
        ) {
            return None;
        }
        let session = self.app.backend.peek(&event.key).await.ok()??;
        let uid: String = session.get("uid")?.decode().ok()?;
        self.app.users.note(&uid);
        self.app.users.find(user)
    }
}

/// The number of users whose ids are kept at a time.
const USERS_MAX: usize = 10_000;

/// How often a stream looks whether this node drains.
const DRAIN_POLL: Duration = Duration::from_millis(250);

/// After so many looks without an event a comment is sent.
const COMMENT_EVERY: usize = 40;
