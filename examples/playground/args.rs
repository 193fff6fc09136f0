//! The flags of the playground, and their validation.

use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use distributable::{Ack, Affinity, Copies, Secure};

/// Drives every operation of a distributable session over HTTP.
#[derive(Parser, Debug)]
#[command(name = "playground")]
pub(crate) struct Args {
    /// Where to serve HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Refuse connections until the store is ready, instead of answering 503
    #[arg(long)]
    pub(crate) listen_when_ready: bool,
    /// This node's route, the cookie's suffix [default: none]
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Where sessions live
    #[arg(long, value_enum, default_value = "memory")]
    pub(crate) store: Store,

    /// Where sessions are while this node is down: the file of `--store file`, and if given, one
    /// for `--store replicated`
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Write the file of `--store file` again and again [default: at the end only]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) file_every: Option<u64>,
    /// The server of `--store redis`
    #[arg(long)]
    pub(crate) redis_url: Option<String>,
    /// How long an operation of `--store redis` may take [default: the store's]
    #[arg(long, value_name = "SECS")]
    pub(crate) redis_timeout: Option<u64>,
    /// Keep copies of Redis sessions in this process (near-cache)
    #[arg(long)]
    pub(crate) near_cache: bool,

    /// The cluster's own port [default: the first free one of 127.0.0.1:4000 to 4100]
    #[arg(long, value_name = "ADDR")]
    pub(crate) cluster_listen: Option<String>,
    /// How other nodes reach the cluster's port [default: as bound]
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Option<String>,
    /// Another node's cluster port; may be given several times
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer: Vec<String>,
    /// A name that resolves to the other nodes; may be given several times
    #[arg(long, value_name = "NAME:PORT")]
    pub(crate) dns: Vec<String>,
    /// Find other nodes by multicast [default group: 228.0.0.4:45564]
    #[arg(long, value_name = "GROUP:PORT", num_args = 0..=1, default_missing_value = "228.0.0.4:45564")]
    pub(crate) multicast: Option<SocketAddrV4>,
    /// Nodes of other clusters are refused [default: playground]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<String>,
    /// The file with the cluster's secret: `openssl rand -hex 32 > PATH`; the first one given is
    /// shown to the other nodes, all are accepted
    #[arg(long, value_name = "PATH")]
    pub(crate) secret_file: Vec<PathBuf>,
    /// On how many nodes a session lives: `all` or a number
    #[arg(long, value_parser = copies, default_value = "2")]
    pub(crate) copies: Copies,
    /// Whose acknowledgement a write waits for: `all`, `local` or a number of nodes
    #[arg(long, value_parser = ack, default_value = "all")]
    pub(crate) ack: Ack,
    /// With fewer live copies than this, writes are refused
    #[arg(long, default_value_t = 1)]
    pub(crate) min_copies: u8,

    /// Not ready before this many members were seen, or `--join-timeout` has passed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) expect_nodes: usize,
    /// How long to wait for other nodes that may be there
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    pub(crate) join_timeout: u64,

    /// Allowed seconds between two requests; 0: no limit
    #[arg(long, value_name = "SECS", default_value_t = 1800)]
    pub(crate) idle: u64,
    /// Seconds after which a session ends whatever happens
    #[arg(long, value_name = "SECS", default_value_t = 86400)]
    pub(crate) absolute: u64,
    /// How many sessions the store takes
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions: Option<usize>,
    /// How many bytes the store takes
    #[arg(long, value_name = "N")]
    pub(crate) max_bytes: Option<usize>,
    /// How many sessions a user may have: the oldest is ended
    #[arg(long, value_name = "N")]
    pub(crate) per_user: Option<usize>,
    /// What the keys of `--store redis` begin with
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// How long `/health` answers 503 before this node stops accepting
    #[arg(long, value_name = "SECS", default_value_t = 1)]
    pub(crate) drain_wait: u64,

    /// Whose route the cookie carries after another node has served
    #[arg(long, value_parser = affinity, default_value = "local")]
    pub(crate) affinity: Affinity,
    /// The cookie's name
    #[arg(long, value_name = "NAME", default_value = "JSESSIONID")]
    pub(crate) cookie_name: String,
    /// Also accept and return the session's id in this header
    #[arg(long, value_name = "NAME")]
    pub(crate) id_header: Option<String>,
    /// When the cookie is marked `Secure`: `auto`, `always` or `never`
    #[arg(long, value_parser = secure, default_value = "auto")]
    pub(crate) secure: Secure,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    File,
    Redis,
    Replicated,
}

impl Args {
    /// Refuses values that have no meaning.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.absolute == 0 {
            return Err("a session cannot live for 0 seconds: `--absolute`".to_owned());
        }
        if self.store == Store::File && self.file.is_none() {
            return Err("the file store needs a file: `--file PATH`".to_owned());
        }
        if self.store == Store::Redis && self.redis_url.is_none() {
            return Err("the Redis store needs `--redis-url`".to_owned());
        }
        if self.near_cache && self.store != Store::Redis {
            return Err("the near-cache is the Redis store's: `--store redis`".to_owned());
        }
        Ok(())
    }
}

fn copies(text: &str) -> Result<Copies, String> {
    match text {
        "all" => Ok(Copies::All),
        _ => Ok(Copies::Count(nodes(text)?)),
    }
}

fn ack(text: &str) -> Result<Ack, String> {
    match text {
        "all" => Ok(Ack::All),
        "local" => Ok(Ack::Local),
        _ => Ok(Ack::Copies(nodes(text)?)),
    }
}

fn nodes(text: &str) -> Result<NonZeroU8, String> {
    let odd = |_| "it is neither a listed word nor a number of nodes".to_owned();
    text.parse().map_err(odd)
}

fn affinity(text: &str) -> Result<Affinity, String> {
    match text {
        "local" => Ok(Affinity::Local),
        "owner" => Ok(Affinity::Owner),
        "off" => Ok(Affinity::Off),
        _ => Err("expected `local`, `owner` or `off`".to_owned()),
    }
}

fn secure(text: &str) -> Result<Secure, String> {
    match text {
        "auto" => Ok(Secure::Auto),
        "always" => Ok(Secure::Always),
        "never" => Ok(Secure::Never),
        _ => Err("expected `auto`, `always` or `never`".to_owned()),
    }
}
