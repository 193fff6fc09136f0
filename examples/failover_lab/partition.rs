//! A network that can be cut: every link of the cluster goes through relays in this process.
//!
//! Each node advertises the address of a relay to the others. While the network is cut, all data to
//! and from the node that is cut off is held, as lost packets are that are sent again; afterward
//! it is delivered.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Failure, ports};

/// The relays of all nodes. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Network {
    cut: watch::Sender<bool>,
    /// The process of the node that can be cut off.
    victim: Arc<AtomicU32>,
    _relays: JoinSet<()>,
}

/// The configuration of a relay.
#[derive(Clone)]
struct Relay {
    target: SocketAddr,
    /// The relay leads to the node that can be cut off.
    to_victim: bool,
    victim: Arc<AtomicU32>,
    cut: watch::Receiver<bool>,
}

impl Network {
    /// Starts relays to these nodes, of which one can be cut off. Returns their addresses.
    pub(crate) async fn start(
        nodes: &[SocketAddr],
        cut_off: usize,
    ) -> Result<(Self, Vec<SocketAddr>), Failure> {
        let (cut, watching) = watch::channel(false);
        let victim = Arc::new(AtomicU32::new(0));
        let mut relays = JoinSet::new();
        let mut addresses = vec![];
        for (number, target) in nodes.iter().enumerate() {
            let listener = TcpListener::bind(ports::free()).await?;
            addresses.push(listener.local_addr()?);
            let relay = Relay {
                target: *target,
                to_victim: number == cut_off,
                victim: victim.clone(),
                cut: watching.clone(),
            };
            relays.spawn(relay.run(listener));
        }
        let network = Self {
            cut,
            victim,
            _relays: relays,
        };
        Ok((network, addresses))
    }

    /// Cuts off the node that runs as this process.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn heal(&self) {
        self.cut.send_replace(false);
    }

    /// Sets the process of the node that can be cut off. Must be called before that node connects.
    pub(crate) fn set_victim(&self, process: u32) {
        self.victim.store(process, Ordering::Relaxed);
    }
}

impl Relay {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, from)) = listener.accept().await {
            connections.spawn(self.clone().connection(stream, from));
            // Removes those that have ended.
            while connections.try_join_next().is_some() {}
        }
    }

    /// Relays one connection. An error ends it, as it would without a relay.
    async fn connection(mut self, stream: TcpStream, from: SocketAddr) {
        let process = self.victim.load(Ordering::Relaxed);
        let crosses = self.to_victim || belongs_to(from, process);
        if crosses && self.cut.wait_for(|cut| !cut).await.is_err() {
            return;
        }
        let Ok(target) = TcpStream::connect(self.target).await else {
            return;
        };
        // Relays should add little latency; if this fails, they only add more.
        let _ = (stream.set_nodelay(true), target.set_nodelay(true));
        let (from_peer, to_peer) = stream.into_split();
        let (from_node, to_node) = target.into_split();
        let cut = crosses.then_some(self.cut);
        tokio::select! {
            () = carry(from_peer, to_node, cut.clone()) => {}
            () = carry(from_node, to_peer, cut) => {}
        }
    }
}

/// Relays bytes until either side ends; pauses while the network is cut.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: Option<watch::Receiver<bool>>,
) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some(cut) = &mut cut
            && cut.wait_for(|cut| !cut).await.is_err()
        {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Returns `true` if the connection from this address belongs to that process.
fn belongs_to(from: SocketAddr, process: u32) -> bool {
    let Some(socket) = socket_of(from) else {
        return false;
    };
    let wanted = format!("socket:[{socket}]");
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    files
        .map_while(Result::ok)
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.to_str() == Some(&wanted))
}

/// The number that the system gives to the socket with this local address.
fn socket_of(local: SocketAddr) -> Option<String> {
    let SocketAddr::V4(local) = local else {
        return None;
    };
    let address = u32::from_le_bytes(local.ip().octets());
    let wanted = format!("{address:08X}:{:04X}", local.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(&wanted))?;
    line.split_whitespace().nth(9).map(str::to_owned)
}

/// Larger than most messages between nodes.
const BUFFER: usize = 64 * 1024;
