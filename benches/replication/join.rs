//! Joining: the transfer of sessions to a new node.

use std::env;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use distributable::session::{Changes, Value};
use distributable::{ReplicatedStore, Root, SessionStore};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::sleep;

use crate::{PATIENCE, Result, create};

/// Measures a node with many sessions on one processor, and a joining node on the other.
pub(crate) async fn measure() -> Result<()> {
    let sessions = env::var("JOIN").unwrap_or_else(|_| SESSIONS.to_string());
    let status = pinned(0)?.args(["--give", &sessions]).status().await;
    let status = status.map_err(|error| without_taskset(&error))?;
    if !status.success() {
        return Err(format!("the node that gives: {status}").into());
    }
    Ok(())
}

pub(crate) async fn give(sessions: usize) -> Result<()> {
    let one = ReplicatedStore::builder("node1").bind("127.0.0.1:0");
    let one = one.max_sessions(sessions).max_bytes(ROOM).start().await?;
    one.ready().await;
    let keys: Vec<_> = (0..sessions).map(|_| one.new_id().key()).collect();
    let before = resident()?;
    for key in &keys {
        create(&one, key, 1_024).await?;
    }
    let each = (resident()? - before) / sessions as u64;
    println!("join: {sessions} sessions of 1 KB, {each} bytes each in memory");

    let mut newcomer = pinned(1)?
        .args(["--take", &one.local_addr().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| without_taskset(&error))?;
    let said = newcomer.stdout.take().ok_or("the child has no output")?;
    let mut said = BufReader::new(said);
    let mut text = String::new();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(one.clone(), keys.clone(), stop.clone()));
    said.read_line(&mut text).await?;
    stop.store(true, Relaxed);
    let during = writing.await??;
    print!("{text}");
    stop.store(false, Relaxed);
    let writing = tokio::spawn(write_until(one.clone(), keys, stop.clone()));
    sleep(Duration::from_secs(1)).await;
    stop.store(true, Relaxed);
    let after = writing.await??;
    let members = one.status().members.len();
    newcomer.kill().await?;
    println!(
        "p99 of a write at the node that gives: {:.2} ms meanwhile, {:.2} ms afterward",
        p99(during),
        p99(after)
    );
    println!("aim: 100,000 in 2 s, 1,000,000 in 20 s, p99 at most twice as long");
    if members < 2 || !text.contains(&format!("with {sessions} of them")) {
        return Err("the newcomer lacks some".into());
    }
    Ok(())
}

/// Joins, and runs until it is killed.
pub(crate) async fn take(peer: &str) -> Result<()> {
    let began = Instant::now();
    let two = ReplicatedStore::builder("node2").bind("127.0.0.1:0");
    let two = two
        .peer(peer)
        .max_sessions(usize::MAX >> 1)
        .max_bytes(ROOM)
        .start()
        .await?;
    two.ready().await;
    let took = began.elapsed().as_secs_f64();
    let held = two.status().sessions;
    println!("ready after {took:.2} s with {held} of them");
    sleep(PATIENCE).await;
    Ok(())
}

/// Writes to one session after the other. Returns the duration of each write.
async fn write_until(
    store: ReplicatedStore,
    keys: Vec<Root>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while !stop.load(Relaxed) {
        let key = &keys[(took.len() * 7_919) % keys.len()];
        let began = Instant::now();
        let base = store.load(key, None).await?.into_live();
        let mut change = Changes::default();
        change.insert("n".into(), Value::from_bytes(b"12345678".as_slice()));
        store.commit(key, base.as_ref(), change).await?;
        took.push(began.elapsed());
        tokio::task::yield_now().await;
    }
    Ok(took)
}

/// This program on one processor.
fn pinned(core: usize) -> Result<Command> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &core.to_string()])
        .arg(env::current_exe()?)
        .kill_on_drop(true);
    Ok(command)
}

fn without_taskset(error: &std::io::Error) -> String {
    format!("taskset: {error}; try: apt-get install util-linux")
}

fn p99(mut took: Vec<Duration>) -> f64 {
    took.sort();
    let worst = took.get(took.len() * 99 / 100).copied();
    worst.unwrap_or_default().as_secs_f64() * 1e3
}

/// The resident memory of this process.
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4_096)
}

const SESSIONS: usize = 100_000;
/// More than the size of all sessions that fit into the machine.
const ROOM: usize = 16 << 30;
