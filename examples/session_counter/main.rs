//! Run with: cargo run --release --features replicated --example session_counter
//!
//! Run it in two terminals, open both pages in one browser, and end either of them: one session,
//! one counter. Without flags each node takes the next free ports and finds the others itself.

use std::error::Error;
use std::io::ErrorKind;
use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use clap::{Parser, ValueEnum};
use distributable::{
    MemoryStore, ReplicatedStore, Route, Session, SessionError, SessionLayer, store::Member,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Counts how often you come back, on any of its nodes.
#[derive(Parser)]
struct Args {
    /// Where to serve HTTP [default: the first free port of 127.0.0.1:8080 to 8099]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// This node's name [default: node1 on port 8080, node2 on port 8081, …]
    #[arg(long)]
    route: Option<String>,
    /// Another node's cluster port; may be given several times [default: 127.0.0.1:4000 to 4009]
    #[arg(long, value_name = "ADDR")]
    peer: Vec<String>,
    /// Where sessions live
    #[arg(long, value_enum, default_value = "replicated")]
    store: Store,
}

#[derive(ValueEnum, Clone, Copy)]
enum Store {
    Memory,
    Replicated,
}

/// The data shown on the page beside the session.
#[derive(Clone)]
struct Node {
    name: String,
    cluster: Option<ReplicatedStore>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let args = Args::parse();
    let listener = listen(args.listen.as_deref()).await?;
    let address = listener.local_addr()?;
    let name = args.route.unwrap_or_else(|| name(address.port()));

    let (layer, cluster) = match args.store {
        Store::Memory => (SessionLayer::new(MemoryStore::new()), None),
        Store::Replicated => {
            let store = join(&name, args.peer).await?;
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
    println!(
        "{} is ready. Open http://{address}/ in a browser.",
        node.name
    );
    if let Some(store) = &node.cluster {
        println!(
            "It meets other nodes at {}. Start one more in another terminal,",
            store.local_addr()
        );
        println!("open its page in the same browser, and end one of them with Ctrl-C or kill -9.");
    }
    serve(listener, app, end_wanted).await?;
    if let Some(store) = &node.cluster {
        let report = store.drain().await;
        let (name, sessions) = (&node.name, report.sessions);
        match report.complete {
            true => println!("{name} has left: other nodes have all {sessions} sessions."),
            false => println!("{name} has left, and its {sessions} sessions are on no other node."),
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
    let page = include_str!("page.html")
        .replace("{node}", &node.name)
        .replace("{hue}", &hue(&node.name).to_string())
        .replace("{count}", &count.to_string())
        .replace("{id}", &id)
        .replace("{members}", &members(&node));
    Ok(Html(page))
}

/// The button: ends the session on every node.
async fn end(session: Session) -> Result<Redirect, SessionError> {
    session.invalidate().await?;
    Ok(Redirect::to("/"))
}

/// The rows of the table of members.
fn members(node: &Node) -> String {
    let Some(store) = &node.cluster else {
        return "<tr><td>no others: this store is one node's memory</td></tr>".to_owned();
    };
    let mut members = store.status().members;
    members.sort_by(|a, b| a.route.cmp(&b.route));
    let row = |member: &Member| {
        let own = if member.route == node.name {
            " class=\"own\""
        } else {
            ""
        };
        let Member {
            route,
            address,
            state,
            ..
        } = member;
        let hue = hue(route);
        let state = format!("{state:?}").to_lowercase();
        format!(
            "<tr{own} style=\"--hue: {hue}\"><td>{route}</td><td>{address}</td><td>{state}</td></tr>"
        )
    };
    members.iter().map(row).collect()
}

/// A color for every node: the same on every page.
fn hue(name: &str) -> u32 {
    let sum = name.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    sum.wrapping_mul(137) % 360
}

/// Starts this node of the cluster, and waits until it has received its sessions.
async fn join(name: &str, peers: Vec<String>) -> Result<ReplicatedStore, Box<dyn Error>> {
    let peers = match peers.is_empty() {
        true => (4000..=4009)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect(),
        false => peers,
    };
    let builder = ReplicatedStore::builder(name);
    let store = peers
        .into_iter()
        .fold(builder, |builder, peer| builder.peer(peer))
        .start()
        .await?;
    store.ready().await;
    Ok(store)
}

/// Listens on the given address, or on the first free port.
async fn listen(address: Option<&str>) -> Result<TcpListener, Box<dyn Error>> {
    if let Some(address) = address {
        return Ok(TcpListener::bind(address).await?);
    }
    for port in PORTS {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return Ok(bound?),
        }
    }
    Err("every port from 8080 to 8099 is taken: give one with --listen".into())
}

fn name(port: u16) -> String {
    match PORTS.contains(&port) {
        true => format!("node{}", port - PORTS.start() + 1),
        false => format!("node{port}"),
    }
}

/// Serves until the end is requested; requests in progress may finish.
async fn serve(
    listener: TcpListener,
    app: Router,
    end_wanted: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // Nothing is ever sent: dropping the sender is the signal.
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server.into_future());
    end_wanted.await;
    drop(stop);
    if let Ok(served) = timeout(LAST_REQUESTS_MAX, &mut server).await {
        served??;
    }
    Ok(())
}

const PORTS: RangeInclusive<u16> = 8080..=8099;

/// How long browsers may keep their connections after this node was asked to end.
const LAST_REQUESTS_MAX: Duration = Duration::from_secs(5);
