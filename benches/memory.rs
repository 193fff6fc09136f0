//! Memory taken by a session with one attribute of 1,024 bytes.
//!
//! Run with: `cargo bench --bench memory`
//!
//! Every candidate keeps its sessions in a process of its own; the result is the growth of its
//! resident memory. It is measured once after creation, and once after each session has been
//! changed twice, as sessions are: memory that the allocator cannot reuse counts too.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use distributable::session::{Changes, Outcome, Record, Value};
use distributable::{MemoryStore, SessionId, SessionStore};
use tower_sessions::cookie::time::OffsetDateTime;
use tower_sessions::session::Record as PeerRecord;
use tower_sessions::{MemoryStore as PeerStore, SessionStore as _};

const SESSIONS: usize = 200_000;
const VALUE_BYTES: usize = 1_024;
const TARGET: usize = 1_400;
const CANDIDATES: [&str; 3] = ["distributable", "bare map", "tower-sessions"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let candidate = env::args().skip_while(|arg| arg != "--candidate").nth(1);
    match candidate.as_deref() {
        None => compare(),
        Some("distributable") => distributable().await,
        Some("bare map") => bare_map(),
        Some("tower-sessions") => tower_sessions().await,
        Some(other) => Err(format!("no such candidate: {other}").into()),
    }
}

fn compare() -> Result<()> {
    println!("bytes per session, {SESSIONS} sessions with one attribute of {VALUE_BYTES} bytes");
    println!("{:16} {:>8} {:>14}", "", "created", "changed twice");
    for candidate in CANDIDATES {
        let mut child = Command::new(env::current_exe()?);
        let output = child.args(["--candidate", candidate]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let mut figures = text.split_whitespace();
        let (created, changed) = (figures.next(), figures.next());
        let (Some(created), Some(changed)) = (created, changed) else {
            return Err(format!("{candidate} has printed: {text}").into());
        };
        println!("{candidate:16} {created:>8} {changed:>14}");
    }
    println!("target for distributable: at most {TARGET}");
    Ok(())
}

async fn distributable() -> Result<()> {
    let store = MemoryStore::new();
    let ids: Vec<SessionId> = (0..SESSIONS).map(|_| SessionId::generate()).collect();
    let growth = Growth::start()?;
    for id in &ids {
        let mut changes = Changes::create(id.hash(), Some(HALF_HOUR), 48 * HALF_HOUR);
        changes.insert("cart".into(), encoded());
        store.commit(&id.key(), None, changes).await?;
    }
    growth.print()?;
    for _ in 0..2 {
        for id in &ids {
            let loaded = store.load(&id.key(), Some(&id.hash())).await?;
            let base: Arc<Record> = loaded.into_live().ok_or("lost")?;
            let mut changes = Changes::default();
            changes.insert("cart".into(), encoded());
            let outcome = store.commit(&id.key(), Some(&base), changes).await?;
            assert!(matches!(outcome, Outcome::Committed(_)));
        }
    }
    growth.print()
}

/// A value as `Session::insert` encodes a string: a codec's tag, and quotes around the text.
fn encoded() -> Value {
    let mut bytes = vec![1];
    bytes.extend(format!("\"{}\"", text()).bytes());
    Value::from_bytes(bytes)
}

/// The simplest implementation: a concurrent map from ids to attributes, without any expiry.
fn bare_map() -> Result<()> {
    let sessions: DashMap<String, HashMap<String, String>> = DashMap::new();
    let ids: Vec<String> = (0..SESSIONS)
        .map(|_| SessionId::generate().expose())
        .collect();
    let growth = Growth::start()?;
    for id in &ids {
        let attributes = HashMap::from([("cart".to_owned(), text())]);
        sessions.insert(id.clone(), attributes);
    }
    growth.print()?;
    for _ in 0..2 {
        for id in &ids {
            let mut attributes = sessions.get(id).ok_or("lost")?.clone();
            attributes.insert("cart".to_owned(), text());
            sessions.insert(id.clone(), attributes);
        }
    }
    growth.print()
}

async fn tower_sessions() -> Result<()> {
    let store = PeerStore::default();
    let mut ids = Vec::with_capacity(SESSIONS);
    let growth = Growth::start()?;
    for _ in 0..SESSIONS {
        let mut record = PeerRecord {
            id: Default::default(),
            data: HashMap::from([("cart".to_owned(), text().into())]),
            expiry_date: OffsetDateTime::now_utc() + HALF_HOUR,
        };
        store.create(&mut record).await?;
        ids.push(record.id);
    }
    growth.print()?;
    for _ in 0..2 {
        for id in &ids {
            let mut record = store.load(id).await?.ok_or("lost")?;
            record.data.insert("cart".to_owned(), text().into());
            store.save(&record).await?;
        }
    }
    growth.print()
}

fn text() -> String {
    "x".repeat(VALUE_BYTES)
}

/// The growth of this process's resident memory.
struct Growth {
    before: usize,
}

impl Growth {
    fn start() -> Result<Self> {
        Ok(Self {
            before: resident_bytes()?,
        })
    }

    fn print(&self) -> Result<()> {
        println!("{}", (resident_bytes()? - self.before) / SESSIONS);
        Ok(())
    }
}

fn resident_bytes() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes
        .ok_or("no VmRSS in /proc/self/status")?
        .parse::<usize>()?
        * 1_024)
}

const HALF_HOUR: Duration = Duration::from_secs(1_800);
