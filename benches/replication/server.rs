//! Processes that serve a counter.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use distributable::{MemoryStore, ReplicatedStore, Session, SessionLayer};
use tokio::net::TcpListener;

use crate::Result;

/// A process that serves.
pub(crate) struct Server {
    process: Child,
    pub(crate) http: SocketAddr,
    pub(crate) cluster: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .arg("--serve")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().ok_or("the child has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let (http, cluster) = line.trim().split_once(' ').ok_or("no addresses")?;
        Ok(Self {
            process,
            http: http.parse()?,
            cluster: cluster.to_owned(),
        })
    }

    /// Another program that serves the counter at `http`.
    pub(crate) fn of(process: Child, http: SocketAddr) -> Self {
        Self {
            process,
            http,
            cluster: String::new(),
        }
    }

    /// The processor time that the process has used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().unwrap_or_default();
            nanos += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("a server is still running: {error}");
        }
    }
}

/// Serves a counter: with the memory store, or as a node that may have a peer.
pub(crate) async fn serve(args: &[String]) -> Result<()> {
    let app = Router::new().route("/counter", get(count));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let http = listener.local_addr()?;
    match args {
        [name] if name == "memory" => {
            println!("{http} -");
            let app = app.layer(SessionLayer::new(MemoryStore::new()));
            Ok(axum::serve(listener, app).await?)
        }
        [name, peers @ ..] => {
            let node = ReplicatedStore::builder(name).bind("127.0.0.1:0");
            let node = peers.iter().fold(node, |node, peer| node.peer(peer));
            let store = node.start().await?;
            store.ready().await;
            println!("{http} {}", store.local_addr());
            let app = app.layer(SessionLayer::new(store));
            Ok(axum::serve(listener, app).await?)
        }
        [] => Err("which store?".into()),
    }
}

async fn count(session: Session) -> String {
    let count: Option<u64> = session.get("counter").expect("it is a number");
    let next = count.unwrap_or(0) + 1;
    session.insert("counter", &next).expect("numbers encode");
    next.to_string()
}
