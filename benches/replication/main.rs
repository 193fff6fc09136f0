//! What does it cost to keep sessions on two nodes, and how fast does a newcomer have them?
//!
//! Run with: `cargo bench --features replicated --bench replication`
//!
//! *Counter*: an application with a counter page on one node, on two nodes of one machine that
//! acknowledge every change to each other, and with the memory store, in turns. All connections go
//! to the first node; processor time is that of all nodes together. *Wire*: bytes from node to node
//! for a change of one attribute of eight bytes in a session of 10 KB. *Join*: how long a new node
//! takes to be ready with all sessions of the other, and what a write takes there meanwhile, each of
//! the two on a processor of its own. `JOIN=1000000` joins with as many.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use distributable::session::{Changes, Value};
use distributable::{
    MemoryStore, ReplicatedStore, Session, SessionKey, SessionLayer, SessionStore,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 8;
const SLICE: Duration = Duration::from_millis(500);
const JOIN: usize = 100_000;
/// More than any number of sessions that fits into the machine.
const ROOM: usize = 16 << 30;
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--serve") => serve(&args[2..]).await,
        Some("--give") => give(args[2].parse()?).await,
        Some("--take") => take(&args[2]).await,
        _ => {
            counter().await?;
            wire().await?;
            join().await
        }
    }
}

/// Serves a counter: with the memory store, or as a node that may have a peer.
async fn serve(args: &[String]) -> Result<()> {
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

/// A process that serves.
struct Server {
    process: Child,
    http: SocketAddr,
    cluster: String,
}

impl Server {
    fn start(args: &[&str]) -> Result<Self> {
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

    /// How long the process has been on a processor.
    fn processor_time(&self) -> Result<Duration> {
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

/// Servers that are measured together; requests go to the first.
struct Candidate {
    name: &'static str,
    servers: Vec<Server>,
    clients: Vec<Client>,
    rates: Vec<f64>,
    times: Vec<f64>,
    latencies: Vec<Duration>,
}

async fn counter() -> Result<()> {
    let first = Server::start(&["node1"])?;
    let second = Server::start(&["node2", &first.cluster])?;
    let mut candidates = vec![
        Candidate::new("memory store", vec![Server::start(&["memory"])?]).await?,
        Candidate::new("one node", vec![Server::start(&["alone"])?]).await?,
        Candidate::new("two nodes", vec![first, second]).await?,
    ];
    // The first round warms up.
    for round in 0..=ROUNDS {
        for candidate in &mut candidates {
            candidate.drive(round > 0).await?;
        }
    }
    println!("counter, {CONNECTIONS} connections, median of {ROUNDS} rounds\n");
    println!(
        "{:14}{:>14}{:>12}{:>12}{:>22}",
        "", "requests/s", "p50, ms", "p99, ms", "processor, µs/request"
    );
    for candidate in &mut candidates {
        candidate.latencies.sort();
        let at = |share: f64| {
            let index = (candidate.latencies.len() as f64 * share) as usize;
            candidate.latencies[index].as_secs_f64() * 1e3
        };
        let (p50, p99) = (at(0.5), at(0.99));
        println!(
            "{:14}{:>14.0}{p50:>12.2}{p99:>12.2}{:>22.1}",
            candidate.name,
            median(&mut candidate.rates),
            median(&mut candidate.times),
        );
    }
    println!("aim for two nodes: at most 30 µs, p99 at most 2 ms\n");
    Ok(())
}

impl Candidate {
    async fn new(name: &'static str, servers: Vec<Server>) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::open(servers[0].http).await?);
        }
        Ok(Self {
            name,
            servers,
            clients,
            rates: Vec::new(),
            times: Vec::new(),
            latencies: Vec::new(),
        })
    }

    async fn drive(&mut self, counts: bool) -> Result<()> {
        let before = self.processor_time()?;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for mut client in self.clients.drain(..) {
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                while start.elapsed() < SLICE {
                    latencies.push(client.count().await?);
                }
                Result::Ok((client, latencies))
            });
        }
        let mut requests = 0;
        while let Some(task) = tasks.join_next().await {
            let (client, latencies) = task??;
            requests += latencies.len();
            self.clients.push(client);
            if counts {
                self.latencies.extend(latencies);
            }
        }
        if counts {
            let time = self.processor_time()?.saturating_sub(before);
            self.times.push(time.as_secs_f64() * 1e6 / requests as f64);
            let rate = requests as f64 / start.elapsed().as_secs_f64();
            self.rates.push(rate);
        }
        Ok(())
    }

    fn processor_time(&self) -> Result<Duration> {
        self.servers.iter().map(Server::processor_time).sum()
    }
}

/// A browser that counts up, and does as little as it can.
struct Client {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
    last: u64,
}

impl Client {
    async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: "GET /counter HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_owned(),
            buffer: Vec::with_capacity(1_024),
            last: 0,
        })
    }

    /// One request; the counter must have gone up by one.
    async fn count(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.stream.write_all(self.request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server has closed the connection".into());
            }
            let text = str::from_utf8(&self.buffer)?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            if let Some(cookie) = head.split("set-cookie: ").nth(1) {
                let cookie = cookie.split(';').next().unwrap_or_default();
                self.request = format!(
                    "GET /counter HTTP/1.1\r\nHost: shop.example\r\nCookie: {cookie}\r\n\r\n"
                );
            }
            let count: u64 = body.parse().map_err(|_| head.to_owned())?;
            if count != self.last + 1 {
                return Err(format!("{count} follows {}", self.last).into());
            }
            self.last = count;
            return Ok(began.elapsed());
        }
    }
}

/// A way to a node that counts what goes to it.
async fn counting_way(
    bytes: Arc<AtomicU64>,
) -> Result<(SocketAddr, Arc<std::sync::OnceLock<SocketAddr>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let target = Arc::new(std::sync::OnceLock::<SocketAddr>::new());
    let to = target.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (bytes, to) = (bytes.clone(), to.clone());
            tokio::spawn(async move {
                if let Some(to) = to.get()
                    && let Ok(far) = TcpStream::connect(to).await
                {
                    forward(near, far, &bytes).await;
                }
            });
        }
    });
    Ok((address, target))
}

async fn forward(near: TcpStream, far: TcpStream, bytes: &AtomicU64) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let back = tokio::io::copy(&mut far_in, &mut near_out);
    let forth = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = near_in.read(&mut buffer).await {
            bytes.fetch_add(count as u64, Relaxed);
            if far_out.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    // Whichever ends first, the connection is over.
    tokio::select! {
        _ = back => {}
        () = forth => {}
    }
}

async fn wire() -> Result<()> {
    let bytes = Arc::new(AtomicU64::new(0));
    let (way, target) = counting_way(bytes.clone()).await?;
    let two = ReplicatedStore::builder("node2")
        .bind("127.0.0.1:0")
        .advertise(way.to_string());
    let two = two.start().await?;
    target.set(two.local_addr()).map_err(|_| "set twice")?;
    let one = ReplicatedStore::builder("node1").bind("127.0.0.1:0");
    let one = one.peer(way.to_string()).start().await?;
    met(&one, &two).await?;

    let key = one.new_id().key();
    create(&one, &key, 10 * 1024).await?;
    let changes = 1_000;
    let before = bytes.load(Relaxed);
    for number in 0..changes {
        let base = one.load(&key).await?;
        let mut change = Changes::default();
        let value = format!("{number:08}");
        change.insert("counter".into(), Value::from_bytes(value.as_bytes()));
        one.commit(&key, base.as_ref(), change).await?;
    }
    let each = (bytes.load(Relaxed) - before) / changes;
    println!(
        "wire: {each} bytes for a change of eight bytes in a session of 10 KB, membership included"
    );
    println!("aim: at most 200\n");
    Ok(())
}

async fn met(one: &ReplicatedStore, two: &ReplicatedStore) -> Result<()> {
    let both = async {
        while one.status().members.len() < 2 || !(one.is_ready() && two.is_ready()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(timeout(PATIENCE, both).await?)
}

async fn create(store: &ReplicatedStore, key: &SessionKey, bytes: usize) -> Result<()> {
    let mut changes = Changes::create(Some(HOUR), HOUR);
    changes.insert("payload".into(), Value::from_bytes(vec![b'x'; bytes]));
    store.commit(key, None, changes).await?;
    Ok(())
}

/// A node with many sessions on one processor, and a newcomer on the other.
async fn join() -> Result<()> {
    let sessions = env::var("JOIN").unwrap_or_else(|_| JOIN.to_string());
    let status = pinned(0)?.args(["--give", &sessions]).status().await;
    let status = status.map_err(|error| without_taskset(&error))?;
    if !status.success() {
        return Err(format!("the node that gives: {status}").into());
    }
    Ok(())
}

async fn give(sessions: usize) -> Result<()> {
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
    let mut said = tokio::io::BufReader::new(said);
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
        "p99 of a write at the node that gives: {:.2} ms meanwhile, {:.2} ms afterwards",
        p99(during),
        p99(after)
    );
    println!("aim: 100,000 in 2 s, 1,000,000 in 20 s, p99 at most twice as long");
    if members < 2 || !text.contains(&format!("with {sessions} of them")) {
        return Err("the newcomer lacks some".into());
    }
    Ok(())
}

/// Joins, and stays until it is killed.
async fn take(peer: &str) -> Result<()> {
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

/// Writes to one session after the other. What each write took.
async fn write_until(
    store: ReplicatedStore,
    keys: Vec<SessionKey>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while !stop.load(Relaxed) {
        let key = &keys[(took.len() * 7_919) % keys.len()];
        let began = Instant::now();
        let base = store.load(key).await?;
        let mut change = Changes::default();
        change.insert("n".into(), Value::from_bytes(b"12345678".as_slice()));
        store.commit(key, base.as_ref(), change).await?;
        took.push(began.elapsed());
        tokio::task::yield_now().await;
    }
    Ok(took)
}

/// This program on one processor.
fn pinned(core: usize) -> Result<tokio::process::Command> {
    let mut command = tokio::process::Command::new("taskset");
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The resident memory of this process.
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4_096)
}
