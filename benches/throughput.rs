//! Requests per second of an application with sessions.
//!
//! Run with: `cargo bench --bench throughput`
//!
//! Each application is a process of its own on core 0, with one thread; the client is on core 1 and
//! sends requests of 10,000 sessions over kept-alive connections. The applications alternate in
//! short slices, so that other load on the machine affects them equally; figures are medians over
//! the rounds, relative to plain axum in the same round. The second figure compares processor time
//! per request instead of requests per second: it is also valid on a busy machine.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::apps::{App, Page, cookie};

mod apps;

const SESSIONS: usize = 10_000;
const CONNECTIONS: usize = 128;
const ROUNDS: usize = 40;
const SLICE: Duration = Duration::from_millis(100);
const TARGETS: [&str; 3] = ["0.94", "0.92", "0.90"];

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--serve") => serve(args.get(2).ok_or("which application?")?.parse()?).await,
        _ => compare().await,
    }
}

async fn serve(app: App) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.router()).await?)
}

async fn compare() -> Result<()> {
    pin(process::id(), 1)?;
    let mut servers = Vec::new();
    for app in App::ALL {
        servers.push(Server::start(app).await?);
    }
    println!("requests per second (median of {ROUNDS} rounds), and as a share of plain axum's:");
    println!("by the clock, and by processor time per request\n");
    println!(
        "{:16}{:>24}{:>24}{:>24}",
        "", "untouched", "read", "counter"
    );
    let mut columns = Vec::new();
    for page in Page::ALL {
        columns.push(measure(&mut servers, page).await?);
    }
    for (at, server) in servers.iter().enumerate() {
        print!("{:16}", server.app.name());
        for column in &columns {
            let Figures { rate, share, time } = column[at];
            print!("{rate:>12.0} {share:>5.2} {time:>5.2}");
        }
        println!();
    }
    print!("{:16}", "target");
    for target in TARGETS {
        print!("{:>12} {target:>5} {:>5}", "", "");
    }
    println!();
    Ok(())
}

/// One application on one page.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    share: f64,
    time: f64,
}

async fn measure(servers: &mut [Server], page: Page) -> Result<Vec<Figures>> {
    let mut rounds: Vec<Vec<Slice>> = Vec::new();
    // The first round warms up.
    for round in 0..=ROUNDS {
        let mut slices = Vec::new();
        for server in &mut *servers {
            slices.push(server.drive(page, round * 7_919).await?);
        }
        if round > 0 {
            rounds.push(slices);
        }
    }
    let figures = (0..servers.len()).map(|at| Figures {
        rate: median(rounds.iter().map(|round| round[at].rate)),
        share: median(rounds.iter().map(|round| round[at].rate / round[0].rate)),
        time: median(rounds.iter().map(|round| round[0].time / round[at].time)),
    });
    Ok(figures.collect())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The measurements of a server in a slice of time.
struct Slice {
    /// Requests per second.
    rate: f64,
    /// Its processor time per request, in nanoseconds.
    time: f64,
}

/// An application, its process, and the connections to it.
struct Server {
    app: App,
    process: Child,
    connections: Vec<Connection>,
    cookies: Vec<String>,
}

impl Server {
    async fn start(app: App) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["--serve", app.name()])
            .stdout(Stdio::piped())
            .spawn()?;
        pin(process.id(), 0)?;
        let mut address = String::new();
        let stdout = process.stdout.take().ok_or("the child has no output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        let address: SocketAddr = address.trim().parse()?;
        let mut server = Self {
            app,
            process,
            connections: Vec::new(),
            cookies: Vec::new(),
        };
        for _ in 0..CONNECTIONS {
            server.connections.push(Connection::open(address).await?);
        }
        for _ in 0..SESSIONS {
            let headers = server.connections[0].get(Page::Counter, None).await?;
            server.cookies.push(cookie(&headers));
        }
        Ok(server)
    }

    /// Sends requests for one slice, beginning with session `first`.
    async fn drive(&mut self, page: Page, first: usize) -> Result<Slice> {
        let time_before = self.processor_time()?;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        let share = SESSIONS / CONNECTIONS;
        for (at, mut connection) in self.connections.drain(..).enumerate() {
            let from = (first + at * share) % (SESSIONS - share);
            let cookies = self.cookies[from..from + share].to_vec();
            tasks.spawn(async move {
                let mut count = 0;
                while start.elapsed() < SLICE {
                    let cookie = &cookies[count % cookies.len()];
                    connection.get(page, Some(cookie)).await?;
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
        let requests = requests as f64;
        let time = (self.processor_time()? - time_before) as f64;
        Ok(Slice {
            rate: requests / start.elapsed().as_secs_f64(),
            time: time / requests,
        })
    }

    /// How long the server's only thread has been on a processor, in nanoseconds.
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
            eprintln!("{} is still running: {error}", self.app.name());
        }
    }
}

/// A minimal client: the server has to be the bottleneck.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4_096),
        })
    }

    async fn get(&mut self, page: Page, cookie: Option<&str>) -> Result<HeaderMap> {
        let path = page.path();
        let cookie = cookie.map_or_else(String::new, |pair| format!("Cookie: {pair}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{cookie}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server has closed the connection".into());
            }
            if let Some((headers, body)) = response(&self.buffer)? {
                if !cookie.is_empty() && !page.is_kept(body) {
                    return Err("the session is lost".into());
                }
                return Ok(headers);
            }
        }
    }
}

/// The cookie and the body of a complete response; `None` while it is not complete.
fn response(bytes: &[u8]) -> Result<Option<(HeaderMap, &[u8])>> {
    let text = str::from_utf8(bytes)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    let mut lines = head.lines();
    if lines.next() != Some("HTTP/1.1 200 OK") {
        return Err(head.into());
    }
    let mut headers = HeaderMap::new();
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "content-length" => length = value.parse()?,
            "set-cookie" => {
                headers.insert(header::SET_COOKIE, HeaderValue::from_str(value)?);
            }
            _ => {}
        }
    }
    Ok((body.len() >= length).then_some((headers, body.as_bytes())))
}

/// Restricts a process of one thread to one core.
fn pin(process: u32, core: usize) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-p", "-c", &core.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("taskset: {error}; try: apt-get install util-linux"))?;
    if !status.success() {
        return Err(format!("this machine has no core {core} to spare").into());
    }
    Ok(())
}
