//! Run with: cargo run -p shop -- --store replicated

use axum::BoxError;
use clap::Parser;
use distributable::{MemoryStore, RedisStore, ReplicatedStore, Route, SessionStore, SnapshotStore};
use tokio::net::TcpListener;

/// A tea shop.
#[derive(Parser)]
struct Args {
    /// Where sessions live: nodes share `redis` and `replicated`
    #[arg(long, value_parser = ["memory", "file", "redis", "replicated"], default_value = "memory")]
    store: String,
    /// The port of 127.0.0.1 on which to serve
    #[arg(long, default_value = "8080")]
    port: u16,
    /// The file, the URL of the Redis server, or the address of another replicated node
    #[arg(long)]
    at: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    log.init();
    let Args { store, port, at } = Args::parse();
    let at = |default: &str| at.unwrap_or_else(|| default.to_owned());
    match &*store {
        "memory" => serve(port, MemoryStore::new()).await?,
        "file" => {
            let file = SnapshotStore::builder(at("shop.sessions"));
            let store = file.open(MemoryStore::new()).await?;
            serve(port, store.clone()).await?;
            store.save().await?;
        }
        "redis" => serve(port, RedisStore::builder(at("redis://127.0.0.1")).build()?).await?,
        _ => {
            let node = ReplicatedStore::builder(format!("node{port}")).peer(at("127.0.0.1:4000"));
            let store = node.start().await?;
            store.ready().await;
            serve(port, store.clone()).await?;
            store.drain().await;
        }
    }
    Ok(())
}

/// Serves until the process is asked to end.
async fn serve<S: SessionStore + Clone>(port: u16, store: S) -> Result<(), BoxError> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("Open http://{}/ in a browser.", listener.local_addr()?);
    let app = shop::app(store, Route::new(&format!("node{port}"))?);
    tokio::select! {
        served = axum::serve(listener, app).into_future() => Ok(served?),
        () = distributable::shutdown_signal()? => Ok(()),
    }
}
