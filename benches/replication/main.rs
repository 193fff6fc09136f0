//! Cost of keeping sessions on two nodes, and duration of the transfer to a joining node.
//!
//! Run with: `cargo bench --features replicated --bench replication`
//!
//! *Counter*: an application with a counter page on one node, on two nodes of one machine that
//! acknowledge every change to each other, and with the memory store, alternating. All connections
//! go to the first node; processor time is that of all nodes together. *Wire*: bytes sent between
//! nodes for a change of one attribute of eight bytes in a session of 10 KB. *Join*: how long a new
//! node takes to be ready with all sessions of the other, and the duration of a write meanwhile,
//! each of the two on a processor of its own. `CONNECTIONS=200` counts with as many, `JOIN=1000000`
//! joins with as many; `TOMCAT=1` also counts with two Apache Tomcats 10 (`apt-get install
//! tomcat10`), synchronous DeltaManager.

mod client;
mod counter;
mod join;
mod server;
mod tomcat;
mod wire;

use std::env;
use std::error::Error;
use std::time::Duration;

use distributable::session::{Changes, SecretHash, Value};
use distributable::{ReplicatedStore, Root, SessionStore};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--serve") => server::serve(&args[2..]).await,
        Some("--give") => join::give(args[2].parse()?).await,
        Some("--take") => join::take(&args[2]).await,
        _ => {
            counter::measure().await?;
            wire::measure().await?;
            join::measure().await
        }
    }
}

/// Creates a session of this many bytes.
async fn create(store: &ReplicatedStore, key: &Root, bytes: usize) -> Result<()> {
    let mut changes = Changes::create(SecretHash::from_bytes([1; 16]), Some(HOUR), HOUR);
    changes.insert("payload".into(), Value::from_bytes(vec![b'x'; bytes]));
    store.commit(key, None, changes).await?;
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);
