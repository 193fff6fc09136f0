//! Run with: cargo run -p shop -- --store replicated

use std::future::ready;
use std::time::Duration;

use axum::BoxError;
use axum::http::StatusCode;
use axum::routing::get;
use clap::Parser;
use distributable::{MemoryStore, RedisStore, ReplicatedStore, Route, SessionStore, SnapshotStore};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

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
    // From now on a signal requests the end, instead of ending the process.
    let ended = distributable::shutdown_signal()?;
    match &*store {
        "memory" => serve(port, MemoryStore::new(), |_| true, ready(()), ended).await?,
        "file" => {
            let file = SnapshotStore::builder(at("shop.sessions"));
            let store = file.open(MemoryStore::new()).await?;
            serve(port, store.clone(), |_| true, ready(()), ended).await?;
            store.save().await?;
        }
        "redis" => {
            let store = RedisStore::builder(at("redis://127.0.0.1")).build()?;
            serve(port, store, RedisStore::is_ready, ready(()), ended).await?;
        }
        _ => {
            let node = ReplicatedStore::builder(format!("node{port}")).peer(at("127.0.0.1:4000"));
            let store = node.start().await?;
            let stop = store.drain_on(ended, BALANCER_NOTICES);
            let joining = store.clone();
            let joined = async move { joining.ready().await };
            serve(port, store.clone(), ReplicatedStore::is_ready, joined, stop).await?;
            store.drain().await;
        }
    }
    Ok(())
}

/// Serves until `stop`. From then on open requests have a limited time: an event stream has no end.
async fn serve<S: SessionStore + Clone>(
    port: u16,
    store: S,
    is_ready: fn(&S) -> bool,
    ready: impl Future<Output = ()> + Send + 'static,
    stop: impl Future<Output = ()>,
) -> Result<(), BoxError> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let node = store.clone();
    let health = async move || {
        if is_ready(&node) {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let app = shop::app(store, Route::new(&format!("node{port}"))?).route("/health", get(health));
    let (closing, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // Nothing is ever sent: dropping the sender is the signal.
        let _ = closed.await;
    });
    let mut server = tokio::spawn(server.into_future());
    tokio::spawn(async move {
        ready.await;
        println!("Open http://{address}/ in a browser.");
    });
    stop.await;
    drop(closing);
    if let Ok(served) = timeout(LAST_REQUESTS_MAX, &mut server).await {
        served??;
    }
    Ok(())
}

/// How long requests are still accepted while `/health` fails. A balancer checks it twice a second.
const BALANCER_NOTICES: Duration = Duration::from_secs(1);

/// How long open requests may take after the last one was accepted.
const LAST_REQUESTS_MAX: Duration = Duration::from_secs(5);
