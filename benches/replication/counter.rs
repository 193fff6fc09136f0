//! Many users who increment counters, at one store after the other.

use std::env;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Result;
use crate::client::Client;
use crate::server::Server;
use crate::tomcat;

pub(crate) async fn measure() -> Result<()> {
    let connections = match env::var("CONNECTIONS") {
        Ok(text) => text.parse()?,
        Err(_) => CONNECTIONS,
    };
    let first = Server::start(&["node1"])?;
    let second = Server::start(&["node2", &first.cluster])?;
    let mut candidates = vec![
        Candidate::new(
            "memory store",
            vec![Server::start(&["memory"])?],
            connections,
        )
        .await?,
        Candidate::new("one node", vec![Server::start(&["alone"])?], connections).await?,
        Candidate::new("two nodes", vec![first, second], connections).await?,
    ];
    if tomcat::is_wanted() {
        let tomcat = Candidate::new("two Tomcats", tomcat::two().await?, connections).await?;
        candidates.push(tomcat);
        // A virtual machine compiles code that runs often.
        for _ in 0..WARM_UP {
            candidates.last_mut().ok_or("none")?.drive(false).await?;
        }
    }
    // The first round warms up.
    for round in 0..=ROUNDS {
        for candidate in &mut candidates {
            candidate.drive(round > 0).await?;
        }
    }
    println!("counter, {connections} connections, median of {ROUNDS} rounds\n");
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
    if let [.., ours, theirs] = &mut candidates[2..] {
        let ratio = median(&mut ours.rates) / median(&mut theirs.rates);
        println!("two nodes answer {ratio:.1} times as many requests as two Tomcats (aim: 4)");
    }
    println!("aim for two nodes: at most 30 µs, p99 at most 2 ms\n");
    Ok(())
}

/// Servers that are measured together; requests are sent to the first.
struct Candidate {
    name: &'static str,
    servers: Vec<Server>,
    clients: Vec<Client>,
    rates: Vec<f64>,
    times: Vec<f64>,
    latencies: Vec<Duration>,
}

impl Candidate {
    async fn new(name: &'static str, servers: Vec<Server>, connections: usize) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..connections {
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 8;
const WARM_UP: usize = 40;
const SLICE: Duration = Duration::from_millis(500);
