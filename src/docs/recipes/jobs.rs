use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use distributable::{Attribute, ReplicatedStore, Root, Session, SessionError, SessionStore};

pub const REPORT: Attribute<String> = Attribute::new("report");
pub const PAID: Attribute<u64> = Attribute::new("paid");

/// Starts work that goes on after the response.
pub async fn start_report(session: Session) -> Result<StatusCode, SessionError> {
    session.insert(REPORT, &"is being made".to_owned())?;
    // A job cannot create a session, whose cookie it could not send: it exists from here on.
    session.save().await?;
    let session = session.detached();
    tokio::spawn(async move {
        let report = make_report().await;
        // Stored at once, and only if the visitor has not logged out meanwhile.
        if let Err(error) = session.update(REPORT, |_| report.clone()).await {
            tracing::info!(
                cause = &error as &dyn std::error::Error,
                "a report is not needed"
            );
        }
    });
    Ok(StatusCode::ACCEPTED)
}

async fn make_report() -> String {
    "ready".to_owned()
}

#[derive(Clone)]
pub struct Shop {
    pub store: ReplicatedStore,
    /// Orders that wait for the payment provider's call: a table of your database. A `Root` names
    /// a session and does not give access to it, so it may be stored.
    pub orders: Arc<Mutex<HashMap<u64, Root>>>,
}

impl Shop {
    fn orders(&self) -> MutexGuard<'_, HashMap<u64, Root>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub async fn order(
    State(shop): State<Shop>,
    Path(order): Path<u64>,
    session: Session,
) -> Result<StatusCode, SessionError> {
    session.insert("order", &order)?;
    // Stored before the provider can call.
    session.save().await?;
    if let Some(key) = session.key() {
        shop.orders().insert(order, key);
    }
    Ok(StatusCode::CREATED)
}

/// The provider's call, on any node and without a cookie. Check its signature before this. It may
/// come twice, or again after an error.
pub async fn paid(
    State(shop): State<Shop>,
    Path(order): Path<u64>,
) -> Result<StatusCode, SessionError> {
    let key = shop.orders().get(&order).copied();
    let Some(key) = key else {
        return Ok(StatusCode::NOT_FOUND);
    };
    Ok(match shop.store.update(&key, PAID, |_| order).await? {
        Some(_) => StatusCode::OK,
        // The visitor has gone; an update does not bring the session back.
        None => StatusCode::GONE,
    })
}
