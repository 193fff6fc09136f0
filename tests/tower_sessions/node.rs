//! One replicated node of the application with axum-login, as a process.
//!
//! Its arguments are its name and the cluster addresses of the other nodes. It prints its own
//! cluster address and its HTTP address, each in a line, and serves until it is killed.

#![expect(clippy::unwrap_used, reason = "a node that cannot go on ends")]

mod application;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::ReplicatedStore;
use distributable::store::{MemberState, ReplicatedStoreBuilder};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().expect("the first argument is the node's name");
    let builder = ReplicatedStore::builder(&name).bind("127.0.0.1:0");
    let builder = args.fold(builder, ReplicatedStoreBuilder::peer);
    let store = builder.start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("cluster {}", store.local_addr());
    println!("http {}", listener.local_addr().unwrap());

    let nodes = store.clone();
    // The number of members that have caught up, once every session has all its copies.
    let health = async move || {
        let status = nodes.status();
        let ready = |state| state == MemberState::Ready;
        let ready = status.members.iter().filter(|it| ready(it.state)).count();
        if status.complete && status.under_replicated == 0 {
            (StatusCode::OK, ready.to_string())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, ready.to_string())
        }
    };
    let app = application::application(name.leak(), &store);
    let app = Router::new().route("/health", get(health)).merge(app);
    axum::serve(listener, app).await.unwrap();
}
