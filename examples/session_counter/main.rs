//! Run with: cargo run --release --features replicated --example session_counter
//!
//! Run it in two terminals, open both pages in one browser, and end either of them: one session,
//! one counter. Without flags each node takes the next free ports and finds the others itself.

mod args;
mod cluster;
mod page;
mod ports;
mod server;

use std::error::Error;
use std::io::{IsTerminal, stderr};

use args::{Args, Store};
use axum::Router;
use axum::extract::State;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use clap::Parser;
use distributable::{MemoryStore, ReplicatedStore, Route, Session, SessionError, SessionLayer};

/// The data shown on the page beside the session.
#[derive(Clone)]
struct Node {
    name: String,
    cluster: Option<ReplicatedStore>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = tracing_subscriber::fmt().with_writer(stderr);
    log.with_ansi(stderr().is_terminal()).init();
    let args = Args::parse();
    let listener = ports::listen(args.listen.as_deref()).await?;
    let address = listener.local_addr()?;
    let default = || ports::node_name(address.port());
    let name = args.route.unwrap_or_else(default);
    let (layer, cluster) = match args.store {
        Store::Memory => (SessionLayer::new(MemoryStore::new()), None),
        Store::Replicated => {
            let store = cluster::join(&name, args.peer).await?;
            (SessionLayer::new(store.clone()), Some(store))
        }
    };
    let layer = layer.with_route(Route::new(&name)?);
    let node = Node { name, cluster };
    let app = Router::new()
        .route("/", get(page))
        .route("/end", post(end))
        .layer(layer)
        .with_state(node.clone());

    // From now on a signal requests the end, instead of ending the process.
    let end_wanted = distributable::shutdown_signal()?;
    let name = &node.name;
    println!("{name} is ready. Open http://{address}/ in a browser.");
    if let Some(store) = &node.cluster {
        let address = store.local_addr();
        println!("It meets other nodes at {address}. Start one more in another terminal,");
        println!("open its page in the same browser, and end one of them with Ctrl-C or kill -9.");
    }
    server::serve(listener, app, end_wanted).await?;
    if let Some(store) = &node.cluster {
        let report = store.drain().await;
        let sessions = report.sessions;
        if report.complete {
            println!("{name} has left: other nodes have all {sessions} sessions.");
        } else {
            println!("{name} has left, and its {sessions} sessions are on no other node.");
        }
    }
    Ok(())
}

/// The page: counts a visit, and shows which node serves it.
async fn page(State(node): State<Node>, session: Session) -> Result<Html<String>, SessionError> {
    let visit = |before: Option<u64>| before.unwrap_or(0) + 1;
    let count = session.update("session_counter", visit).await?;
    // The id is a secret: your own pages must not show it.
    let id = session.routed_id().unwrap_or_default();
    Ok(Html(page::render(&node, count, &id)))
}

/// The button: ends the session on every node.
async fn end(session: Session) -> Result<Redirect, SessionError> {
    session.invalidate().await?;
    Ok(Redirect::to("/"))
}
