//! Test probe: a node with which `curl`, or a test, can drive every operation of a session on every
//! store.
//!
//! It logs to stderr; stdout has the address on which it listens. Run with:
//! cargo run --release --all-features --example playground -- --help

mod args;
mod backend;
mod events;
mod graceful_listener;
mod handlers;
mod reply;

use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use args::Args;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::serve::ListenerExt;
use backend::Backend;
use clap::Parser;
use distributable::SessionLayer;
use events::Users;
use graceful_listener::GracefulListener;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// State shared by the handlers.
struct App {
    node: Option<String>,
    backend: Backend,
    sessions: SessionLayer,
    draining: AtomicBool,
    users: Users,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::registry()
        .with(
            fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal()),
        )
        .with(log_filter())
        .init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("playground: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    args.check()?;
    // Before anything else: a signal that arrives now must be handled.
    let end_wanted = distributable::shutdown_signal()?;
    let refused = |error| format!("cannot listen on {}: {error}", args.listen);
    let socket = bind(args.listen).map_err(refused)?;
    let address = socket.local_addr()?;
    let (listener, backend) = if args.listen_when_ready {
        let backend = Backend::start(&args, address.port()).await?;
        backend.ready().await;
        (socket.listen(BACKLOG).map_err(refused)?, backend)
    } else {
        let listener = socket.listen(BACKLOG).map_err(refused)?;
        (listener, Backend::start(&args, address.port()).await?)
    };
    let app = Arc::new(App {
        sessions: backend.layer(&args)?,
        backend,
        node: args.route.clone(),
        draining: AtomicBool::new(false),
        users: Users::default(),
    });
    let router = router(&app);

    let (stop, stopped) = oneshot::channel::<()>();
    let (graceful, closer) = GracefulListener::new(listener)?;
    let listener = graceful.tap_io(|stream| {
        // A small reply must not wait for the acknowledgement of the previous one.
        if let Err(error) = stream.tcp().set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        // A dropped sender stops the server as well.
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server.into_future());
    println!("listening on http://{address}");

    end_wanted.await;
    app.draining.store(true, Ordering::Relaxed);
    app.backend.start_draining();
    sleep(Duration::from_secs(args.drain_wait)).await;
    closer.close().await;
    drop(stop);
    match timeout(LAST_REQUESTS_MAX, &mut server).await {
        Ok(served) => served??,
        Err(_) => tracing::warn!("requests that did not end in time are cut short"),
    }
    app.backend.drain().await;
    app.backend.save().await?;
    Ok(())
}

/// Binds the port; connections are refused until the socket listens.
fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The outermost layer turns every error inside it into JSON.
fn router(app: &Arc<App>) -> Router {
    handlers::router()
        .layer(app.sessions.clone())
        .layer(CatchPanicLayer::custom(reply::panicked))
        .layer(from_fn_with_state(app.clone(), reply::render))
        .with_state(app.clone())
}

/// The levels in `RUST_LOG`, by target; `INFO` without a valid one.
fn log_filter() -> Targets {
    let levels = std::env::var("RUST_LOG")
        .ok()
        .filter(|levels| !levels.is_empty());
    let targets = levels.and_then(|levels| levels.parse().ok());
    targets.unwrap_or_else(|| Targets::new().with_default(Level::INFO))
}

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long requests may continue after this node has stopped accepting.
const LAST_REQUESTS_MAX: Duration = Duration::from_secs(10);
