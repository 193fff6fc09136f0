//! Run with: cargo run --example counter
//!
//! The smallest application: sessions in the memory of one node.

use axum::Router;
use axum::routing::get;
use distributable::{MemoryStore, Session, SessionError, SessionLayer};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/", get(count))
        .layer(SessionLayer::new(MemoryStore::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("Open http://127.0.0.1:8080/ and reload the page.");
    axum::serve(listener, app).await
}

/// Counts the visits of a browser. Two requests at the same time count as two.
async fn count(session: Session) -> Result<String, SessionError> {
    let next = |visits: Option<u64>| visits.unwrap_or(0) + 1;
    let visits = session.update("visits", next).await?;
    Ok(format!("Visit {visits}"))
}
