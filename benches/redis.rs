//! Cost of sessions in Redis: commands, requests per second, time, memory of the server.
//!
//! Run with: `cargo bench --features redis --bench redis`
//!
//! It starts a Redis server of its own on a free port. Each application is a process with one
//! thread on core 0; client and server share core 1. The applications alternate in short slices;
//! figures are medians over the rounds, relative to plain axum in the same round: by the clock, and
//! by processor time per request.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener as Port};
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use distributable::session::{Changes, Outcome, Value};
use distributable::{RedisStore, Root, Session, SessionLayer, SessionStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const APPS: [&str; 3] = ["plain", "redis", "near-cache"];
const PAGES: [&str; 2] = ["/read", "/counter"];
const SESSIONS: usize = 2_000;
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 12;
const SLICE: Duration = Duration::from_millis(150);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--serve") => serve(&args[2], &args[3]).await,
        _ => measure().await,
    }
}

async fn serve(app: &str, url: &str) -> Result<()> {
    async fn read(session: Session) -> String {
        let count: Option<u64> = session.get("counter").expect("it is a number");
        count.unwrap_or(0).to_string()
    }

    async fn counter(session: Session) -> String {
        let count: Option<u64> = session.get("counter").expect("it is a number");
        let next = count.unwrap_or(0) + 1;
        session.insert("counter", &next).expect("numbers encode");
        next.to_string()
    }

    let sessions = Router::new()
        .route("/read", get(read))
        .route("/counter", get(counter));
    let builder = RedisStore::builder(url);
    let router = match app {
        "plain" => Router::new()
            .route("/read", get(async || 1u64.to_string()))
            .route("/counter", get(async || 2u64.to_string())),
        "redis" => sessions.layer(SessionLayer::new(builder.connect().await?)),
        _ => sessions.layer(SessionLayer::new(
            builder.near_cache(64 << 20).connect().await?,
        )),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

async fn measure() -> Result<()> {
    let redis = Redis::start()?;
    commands(&redis).await?;
    latency(&redis).await?;
    memory(&redis).await?;
    redis.cli(&["FLUSHALL"])?;
    pin(process::id(), 1)?;
    pin(redis.process.id(), 1)?;
    let mut servers = Vec::new();
    for app in APPS {
        servers.push(Server::start(app, &redis.url()).await?);
    }
    println!("\nrequests per second (median of {ROUNDS} rounds), as a share of plain axum's:");
    println!("by the clock, and by processor time per request of the application\n");
    for page in PAGES {
        let mut rounds: Vec<Vec<Slice>> = Vec::new();
        // The first round warms up.
        for round in 0..=ROUNDS {
            let mut slices = Vec::new();
            for server in &mut servers {
                slices.push(server.drive(page).await?);
            }
            if round > 0 {
                rounds.push(slices);
            }
        }
        for (at, app) in APPS.iter().enumerate() {
            let rate = median(rounds.iter().map(|round| round[at].rate));
            let share = median(rounds.iter().map(|round| round[at].rate / round[0].rate));
            let time = median(rounds.iter().map(|round| round[0].time / round[at].time));
            println!("{page:10}{app:12}{rate:>10.0} {share:>6.2} {time:>6.2}");
        }
    }
    Ok(())
}

/// The commands sent to the server, by operation.
async fn commands(redis: &Redis) -> Result<()> {
    println!("commands sent per operation (the time of day travels in the same write):");
    for near in [false, true] {
        let builder = RedisStore::builder(redis.url());
        let store = if near {
            builder.near_cache(1 << 20).connect().await?
        } else {
            builder.connect().await?
        };
        let key = create(&store, 100).await?;
        let mut base = store.load(&key, None).await?.into_live().ok_or("lost")?;
        let before = redis.commands()?;
        for _ in 0..100 {
            store.load(&key, None).await?;
        }
        let loads = redis.commands()? - before;
        let before = redis.commands()?;
        for turn in 0..100 {
            let mut changes = Changes::default();
            changes.insert("counter".into(), Value::from_bytes(vec![turn]));
            match store.commit(&key, Some(&base), changes).await? {
                Outcome::Committed(record) => base = record,
                _ => return Err("not committed".into()),
            }
        }
        let commits = redis.commands()? - before;
        let name = if near { "near-cache" } else { "redis" };
        println!(
            "{name:12} load {:.2}, commit {:.2}",
            per(loads),
            per(commits)
        );
    }
    Ok(())
}

fn per(commands: u64) -> f64 {
    commands as f64 / 100.0
}

/// The latency of a load that finds a copy, and of one that does not.
async fn latency(redis: &Redis) -> Result<()> {
    let builder = RedisStore::builder(redis.url());
    let far = builder.clone().connect().await?;
    let near = builder.near_cache(1 << 20).connect().await?;
    let key = create(&far, 1_000).await?;
    near.load(&key, None).await?;
    let mut times = Vec::new();
    for (store, count) in [(&near, 200_000), (&far, 2_000)] {
        let start = Instant::now();
        for _ in 0..count {
            store.load(&key, None).await?.into_live().ok_or("lost")?;
        }
        times.push(start.elapsed() / count);
    }
    println!(
        "\na load: {:?} from the near-cache, {:?} from the server",
        times[0], times[1]
    );
    Ok(())
}

/// The memory that a session with an attribute of 1 KB takes in the server.
async fn memory(redis: &Redis) -> Result<()> {
    const COUNT: usize = 20_000;
    println!();
    for listpack in ["64", "2048"] {
        redis.cli(&["FLUSHALL"])?;
        redis.cli(&["CONFIG", "SET", "hash-max-listpack-value", listpack])?;
        let store = RedisStore::connect(&redis.url()).await?;
        let before = redis.used_memory()?;
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let store = store.clone();
            tasks.spawn(async move {
                for _ in 0..COUNT / 20 {
                    create(&store, 1_000).await?;
                }
                Result::Ok(())
            });
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        let bytes = (redis.used_memory()? - before) / COUNT;
        println!(
            "memory of a session of 1 KB: {bytes} bytes with hash-max-listpack-value {listpack}"
        );
    }
    Ok(())
}

async fn create(store: &RedisStore, bytes: usize) -> Result<Root> {
    let id = store.new_id();
    let hour = Duration::from_secs(3_600);
    let mut changes = Changes::create(id.hash(), Some(hour), 24 * hour);
    changes.insert("cart".into(), Value::from_bytes(vec![b'x'; bytes]));
    store.commit(&id.key(), None, changes).await?;
    Ok(id.key())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server for this benchmark.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    fn start() -> Result<Self> {
        let port = Port::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .args(["--hash-max-listpack-value", "2048"])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server: {error}; try: apt-get install redis-server"))?;
        let redis = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while redis.cli(&["PING"])? != "PONG" {
            if Instant::now() > deadline {
                return Err("redis-server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn cli(&self, command: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(command)
            .stderr(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// The number of commands that clients have sent, excluding those that scripts run, the time,
    /// and this question. Scripts read whole sessions only for callers that have an old one.
    fn commands(&self) -> Result<u64> {
        let stats = self.cli(&["INFO", "commandstats"])?;
        let calls = stats.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let sent = matches!(name, "evalsha" | "eval" | "hgetall" | "wait");
            let count: u64 = rest.split(',').next()?.parse().ok()?;
            sent.then_some(count)
        });
        Ok(calls.sum())
    }

    fn used_memory(&self) -> Result<usize> {
        let memory = self.cli(&["INFO", "memory"])?;
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.ok_or("no used_memory")?.trim().parse()?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = killed {
            eprintln!("redis-server is still running: {error}");
        }
    }
}

/// The measurements of an application in a slice of time.
struct Slice {
    rate: f64,
    time: f64,
}

/// An application, its process, and the connections to it.
struct Server {
    process: Child,
    connections: Vec<TcpStream>,
    cookies: Vec<String>,
}

impl Server {
    async fn start(app: &str, url: &str) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["--serve", app, url])
            .stdout(Stdio::piped())
            .spawn()?;
        pin(process.id(), 0)?;
        let mut address = String::new();
        let stdout = process.stdout.take().ok_or("the child has no output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        let address: SocketAddr = address.trim().parse()?;
        let mut server = Self {
            process,
            connections: Vec::new(),
            cookies: Vec::new(),
        };
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            server.connections.push(stream);
        }
        for _ in 0..SESSIONS {
            let head = ask(&mut server.connections[0], "/counter", "").await?;
            let cookie = head
                .lines()
                .find_map(|line| line.strip_prefix("set-cookie: "));
            let pair = cookie.and_then(|cookie| cookie.split(';').next());
            let pair = pair
                .unwrap_or("JSESSIONID=0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF01234567");
            server.cookies.push(format!("Cookie: {pair}\r\n"));
        }
        Ok(server)
    }

    async fn drive(&mut self, page: &'static str) -> Result<Slice> {
        let before = self.processor_time()?;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        let share = SESSIONS / CONNECTIONS;
        for (at, mut connection) in self.connections.drain(..).enumerate() {
            let cookies = self.cookies[at * share..(at + 1) * share].to_vec();
            tasks.spawn(async move {
                let mut count = 0;
                while start.elapsed() < SLICE {
                    ask(&mut connection, page, &cookies[count % cookies.len()]).await?;
                    count += 1;
                }
                Result::Ok((connection, count))
            });
        }
        let mut requests = 0;
        while let Some(task) = tasks.join_next().await {
            let (connection, count) = task??;
            requests += count;
            self.connections.push(connection);
        }
        let time = (self.processor_time()? - before) as f64;
        Ok(Slice {
            rate: requests as f64 / start.elapsed().as_secs_f64(),
            time: time / requests as f64,
        })
    }

    /// How long the only thread has been on a processor, in nanoseconds.
    fn processor_time(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.process.id()))?;
        let first = text.split_whitespace().next();
        Ok(first.ok_or("an empty schedstat")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = killed {
            eprintln!("an application is still running: {error}");
        }
    }
}

/// Sends a request and reads its response, which is small and arrives at once.
async fn ask(connection: &mut TcpStream, page: &str, cookie: &str) -> Result<String> {
    let request = format!("GET {page} HTTP/1.1\r\nHost: shop.example\r\n{cookie}\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(1_024);
    loop {
        if connection.read_buf(&mut buffer).await? == 0 {
            return Err("the server has closed the connection".into());
        }
        let text = str::from_utf8(&buffer)?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.ok_or("no length")?.parse()? {
            continue;
        }
        if !head.starts_with("HTTP/1.1 200") || (!cookie.is_empty() && body == "0") {
            return Err(format!("{head}\n{body}").into());
        }
        return Ok(head.to_owned());
    }
}

/// Restricts a process to one core.
fn pin(process: u32, core: usize) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("taskset: {error}; try: apt-get install util-linux"))?;
    if !status.success() {
        return Err(format!("this machine has no core {core} to spare").into());
    }
    Ok(())
}
