//! Relays between nodes: links with a delay, a rate, and pauses as after lost packets.
//!
//! A relay acknowledges at once what it receives, so the delay is the link's and not the sender's
//! window; it takes little more than the link carries, so a slow link is felt by the sender.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::common::{Random, until};
use crate::network::{RELAYS, relay_port};

/// The relays of a network: every connection from one node to another goes through one of them.
pub(crate) struct Relays {
    /// By the two nodes, the smaller number first, and the direction.
    links: Arc<Vec<Link>>,
}

/// One direction between two nodes, shared by their connections.
struct Link {
    from: usize,
    to: usize,
    state: Mutex<State>,
}

struct State {
    conditions: Conditions,
    /// When the link has carried all that it was given.
    free_at: Instant,
    random: Random,
}

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    pub(crate) delay: Duration,
    /// Without it, as fast as can be; zero: nothing passes.
    pub(crate) bytes_per_second: Option<u32>,
    /// The part of pieces of up to 16 KiB that wait for a retransmission, in percent.
    pub(crate) loss: u64,
}

impl Relays {
    /// Relays for nodes that were started with [`relayed`](super::network::Network::relayed).
    pub(crate) fn start(nodes: usize) -> Self {
        let pairs = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
        let links = pairs.map(|(from, to)| Link {
            from,
            to,
            state: Mutex::new(State {
                conditions: FAST,
                free_at: Instant::now(),
                random: Random((from * 64 + to) as u64),
            }),
        });
        let links: Arc<Vec<_>> = Arc::new(links.collect());
        for to in 1..=nodes {
            let socket = socket();
            let address: SocketAddr = format!("{RELAYS}:{}", relay_port(to))
                .parse()
                .expect("an address");
            socket.bind(&address.into()).expect("the port is free");
            socket.listen(64).expect("a socket can listen");
            let (listener, links) = (TcpListener::from(socket), links.clone());
            spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    // The node may have gone away meanwhile.
                    let _ = carry(stream, to, &links);
                }
            });
        }
        Self { links }
    }

    /// Changes both directions between these nodes.
    pub(crate) fn set(&self, a: usize, b: usize, conditions: Conditions) {
        for link in self.links.iter() {
            if [(a, b), (b, a)].contains(&(link.from, link.to)) {
                link.set(conditions);
            }
        }
    }

    pub(crate) fn set_all(&self, conditions: Conditions) {
        for link in self.links.iter() {
            link.set(conditions);
        }
    }
}

impl Link {
    fn set(&self, conditions: Conditions) {
        let mut state = self.state.lock().expect("no relay panics");
        state.conditions = conditions;
        state.free_at = Instant::now();
    }

    /// Waits until the link has room for a piece; when its last byte arrives.
    fn transmit(&self, bytes: usize) -> Instant {
        loop {
            let now = Instant::now();
            let mut state = self.state.lock().expect("no relay panics");
            let Conditions {
                delay,
                bytes_per_second,
                loss,
            } = state.conditions;
            if state.free_at <= now && bytes_per_second != Some(0) {
                let took = bytes_per_second.map_or(Duration::ZERO, |rate| {
                    Duration::from_secs_f64(bytes as f64 / f64::from(rate))
                });
                // A late wake-up costs the link nothing.
                state.free_at = state.free_at.max(now - SLICE) + took;
                let mut arrives = state.free_at.max(now) + delay;
                if state.random.below(100) < loss {
                    arrives += RETRANSMISSION_MIN
                        + Duration::from_millis(state.random.below(RETRANSMISSION_SPREAD_MS));
                }
                return arrives;
            }
            drop(state);
            sleep(SLICE);
        }
    }
}

/// Carries one connection from a node, which its address names, on to another node.
fn carry(from: TcpStream, to: usize, links: &Arc<Vec<Link>>) -> std::io::Result<()> {
    let IpAddr::V4(ip) = from.peer_addr()?.ip() else {
        unreachable!("the network has IPv4 addresses");
    };
    let dialer = usize::from(ip.octets()[2]);
    let node: SocketAddr = format!("10.2.{to}.2:4000").parse().expect("an address");
    let socket = socket();
    socket.connect(&node.into())?;
    let into = TcpStream::from(socket);
    for stream in [&from, &into] {
        stream.set_nodelay(true)?;
    }
    let (back_from, back_into) = (into.try_clone()?, from.try_clone()?);
    direction(from, into, links.clone(), (dialer, to));
    direction(back_from, back_into, links.clone(), (to, dialer));
    Ok(())
}

fn direction(from: TcpStream, into: TcpStream, links: Arc<Vec<Link>>, between: (usize, usize)) {
    let (pieces, arriving) = sync_channel(IN_FLIGHT_MAX);
    spawn(move || {
        let link = links.iter().find(|link| (link.from, link.to) == between);
        take(from, link.expect("a link for each pair"), &pieces);
    });
    spawn(move || deliver(into, &arriving));
}

fn take(mut from: TcpStream, link: &Link, pieces: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; PIECE_MAX];
    let mut last = Instant::now();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        // A stream stays in order: what follows a lost packet waits for it.
        last = last.max(link.transmit(count));
        if pieces.send((last, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn deliver(mut into: TcpStream, arriving: &Receiver<(Instant, Vec<u8>)>) {
    for (at, piece) in arriving {
        until(at);
        if into.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = into.shutdown(Shutdown::Write);
}

/// A socket that receives little ahead.
fn socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .set_recv_buffer_size(RECEIVE_BUFFER)
        .expect("it can be small");
    socket
}

/// A link that is no obstacle.
pub(crate) const FAST: Conditions = Conditions {
    delay: Duration::ZERO,
    bytes_per_second: None,
    loss: 0,
};

const PIECE_MAX: usize = 16 << 10;
const RECEIVE_BUFFER: usize = 32 << 10;
/// In pieces of one connection and direction.
const IN_FLIGHT_MAX: usize = 1024;
const SLICE: Duration = Duration::from_millis(2);
const RETRANSMISSION_MIN: Duration = Duration::from_millis(200);
const RETRANSMISSION_SPREAD_MS: u64 = 200;
