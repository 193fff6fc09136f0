//! Outgoing connections: dialing, handshake and retries.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cluster::driver::Driver;
use crate::cluster::replica::event::Input;
use crate::cluster::replica::node::{Node, SEEN_MAX};
use crate::cluster::transport::address::resolve;
use crate::cluster::transport::connect_problem::{ConnectProblem, LastLogged};
use crate::cluster::transport::dial_result::{DialResult, Rejection};
use crate::cluster::transport::may_dial;
use crate::cluster::transport::send_queue::SendQueue;
use crate::cluster::transport::stream::PeerStream;
use crate::cluster::transport::tls::{AuthError, Security};
use crate::cluster::transport::transmit::{IDLE, transmit};
use crate::cluster::wire::{
    HANDSHAKE_MAX, Hello, HelloReply, ProtocolVersion, RefusalDetails, RefusalReason, Rival,
    next_frame,
};

/// Returns the latest incarnation number that any of the peers has seen under this node's address
/// or name.
pub(crate) async fn last_incarnation(security: &Security, peers: &[String], hello: &Hello) -> u64 {
    let mut asked = JoinSet::new();
    for peer in peers {
        let (security, peer, hello) = (security.clone(), peer.clone(), hello.clone());
        asked.spawn(async move {
            let mut last = 0;
            let me = hello.node.address;
            for address in resolve(&peer).await {
                // The list may include this node, which does not answer before it has started.
                if address != me && may_dial(me, address) {
                    let seen = match connect(&security, address, &hello).await {
                        Ok((_, welcome)) => welcome.seen,
                        Err(ConnectError::Refused(_, details)) => details.seen,
                        Err(_) => 0,
                    };
                    last = last.max(seen.min(SEEN_MAX));
                }
            }
            last
        });
    }
    let mut last = 0;
    let answers = async {
        while let Some(seen) = asked.join_next().await {
            last = last.max(seen.unwrap_or(0));
        }
    };
    // A slow answer is not waited for: the wall clock is nearly always right.
    let _ = timeout(ASK_TIMEOUT, answers).await;
    last
}

/// Dials an address repeatedly, and sends the messages of its queue, until the address is not used
/// any more.
pub(crate) async fn dial(driver: Arc<Driver>, send_queue: Arc<SendQueue>) {
    let mut dialer = Dialer {
        driver: &driver,
        send_queue: &send_queue,
        lost: None,
        attempts: 0,
        silent_since: None,
        last_logged: LastLogged::default(),
    };
    let mut expired_at = Instant::now();
    loop {
        if expired_at.elapsed() >= IDLE {
            if driver.links.remove_unused(&send_queue) {
                driver.addresses.forget(send_queue.address);
                return;
            }
            send_queue.expire();
            expired_at = Instant::now();
        }
        match dialer.attempt().await {
            Retry::Now => {}
            Retry::After(pause) => {
                let _ = timeout(pause, send_queue.retry_requested()).await;
            }
            Retry::Stop => return driver.addresses.forget(send_queue.address),
        }
    }
}

/// The state of dialing one address.
struct Dialer<'a> {
    driver: &'a Arc<Driver>,
    send_queue: &'a SendQueue,
    /// The node to which the link was lost, until its state is known.
    lost: Option<Node>,
    /// Consecutive failed attempts.
    attempts: u32,
    /// Since when there has been no answer from a node.
    silent_since: Option<Instant>,
    /// The problem that was last logged.
    last_logged: LastLogged,
}

/// When to dial again.
enum Retry {
    Now,
    After(Duration),
    Stop,
}

impl Dialer<'_> {
    async fn attempt(&mut self) -> Retry {
        let hello = self.driver.hello();
        let security = &self.driver.links.security;
        match connect(security, self.send_queue.address, &hello).await {
            Ok((stream, welcome)) => self.welcomed(stream, &hello.node, welcome).await,
            Err(ConnectError::Refused(refusal, details)) => {
                self.refused(&hello.node, refusal, &details)
            }
            Err(ConnectError::Closed) => {
                self.silent_since = None;
                self.found(DialResult::Closed);
                if let Some(node) = self.lost.take() {
                    self.driver.input(Input::Refused { node });
                }
                self.failed()
            }
            Err(ConnectError::Untrusted(error)) => {
                // A node that is being stopped closes the connection as well.
                if error != AuthError::HungUp || self.attempts >= HANG_UPS {
                    self.report(ConnectProblem::Untrusted(error));
                }
                self.found(if error.is_of_a_node() {
                    rejects(Rejection::Foreign, RefusalReason::Secret)
                } else {
                    DialResult::Silence
                });
                self.failed()
            }
            Err(ConnectError::Failed(problem)) => {
                self.found(DialResult::Silence);
                // A node that is busy or being stopped is silent for a moment.
                let since = self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SILENT_FOR {
                    self.report(problem);
                }
                self.failed()
            }
        }
    }

    fn found(&self, result: DialResult) {
        self.driver.dialed(self.send_queue.address, result);
    }

    async fn welcomed(&mut self, stream: PeerStream, me: &Node, welcome: Welcome) -> Retry {
        let Welcome {
            node,
            seen,
            protocol,
        } = welcome;
        self.lost = None;
        self.silent_since = None;
        if self.driver.continue_above(me, seen) {
            return Retry::Now;
        }
        self.found(DialResult::Accepts { at: node.address });
        if node.address != self.send_queue.address {
            // The node advertises another address; this one was only used to find it.
            self.driver.links.queue_for(node.address);
            return Retry::After(ALIAS_PAUSE);
        }
        if let Some(refusal) = self.driver.refusal_for(&node) {
            self.found(rejects(Rejection::Own, refusal));
            self.driver.admission.record_refusal(&node, me, refusal);
            return self.failed();
        }
        let since = Instant::now();
        self.last_logged = LastLogged::default();
        self.send_queue.open(&node, protocol);
        if self.driver.me() != *me {
            // This node has another identity since its handshake.
            self.send_queue.close();
            return Retry::Now;
        }
        self.driver.input(Input::LinkUp { node: node.clone() });
        let report = |input| self.driver.input(input);
        transmit(self.send_queue, stream, &node, report).await;
        self.send_queue.close();
        self.lost = Some(node);
        if since.elapsed() < STABLE {
            return self.failed();
        }
        self.attempts = 0;
        Retry::Now
    }

    fn refused(&mut self, me: &Node, refusal: RefusalReason, details: &RefusalDetails) -> Retry {
        let address = self.send_queue.address;
        self.silent_since = None;
        if refusal == RefusalReason::Myself {
            self.driver.links.mark_self(address);
            return Retry::Stop;
        }
        let by = Rejection::of(me, address, refusal, details);
        if let Some(Rival { node, serves: true }) = &details.rival {
            let node = node.clone();
            self.driver.input(Input::Rival { node });
        }
        self.found(rejects(by, refusal));
        if by != Rejection::Foreign {
            // An address that rejects this node is dialed until it does not any more.
            self.send_queue.mark_used();
        }
        if self.driver.continue_above(me, details.seen) {
            return Retry::Now;
        }
        self.report(ConnectProblem::Refused(refusal));
        self.failed()
    }

    fn report(&mut self, problem: ConnectProblem) {
        let me = self.driver.me();
        self.last_logged.log(&me, self.send_queue.address, problem);
    }

    fn failed(&mut self) -> Retry {
        self.send_queue.close();
        let pause = RETRY_MIN * (1 << self.attempts.min(RETRY_DOUBLINGS));
        self.attempts = self.attempts.saturating_add(1);
        let most = if self.driver.is_looking() {
            RETRY_LOOKING
        } else {
            RETRY_MAX
        };
        // Nodes that have lost the same peer should not all return at the same moment.
        let half = pause.min(most) / 2;
        Retry::After(half + half.mul_f64(self.driver.random()))
    }
}

const fn rejects(by: Rejection, refusal: RefusalReason) -> DialResult {
    let reason = refusal.reason();
    DialResult::Rejects { by, reason }
}

/// The dialed node's answer to the handshake.
struct Welcome {
    node: Node,
    /// The protocol version of messages to it.
    protocol: ProtocolVersion,
    /// The latest incarnation number that it has seen under this node's address or name.
    seen: u64,
}

/// Why there is no link.
enum ConnectError {
    /// The port refuses connections.
    Closed,
    /// The node there refuses this one.
    Refused(RefusalReason, RefusalDetails),
    /// One of the two does not authenticate to the other.
    Untrusted(AuthError),
    /// Another problem, which may be temporary.
    Failed(ConnectProblem),
}

/// Connects to an address and performs the handshake.
async fn connect(
    security: &Security,
    address: SocketAddr,
    hello: &Hello,
) -> Result<(PeerStream, Welcome), ConnectError> {
    let connected = async {
        let tcp = timeout(CONNECT_TIMEOUT, open(address))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let mut stream = security.connect(tcp).await?;
        let reply = exchange_hellos(&mut stream, hello).await?;
        Ok((stream, reply))
    };
    match timeout(HELLO_TIMEOUT, connected).await {
        Ok(Ok((stream, HelloReply::Welcome { proto, node, seen }))) => {
            let protocol = ProtocolVersion::from_number(proto)
                .ok_or(ConnectError::Failed(ConnectProblem::NotANode))?;
            let welcome = Welcome {
                node,
                protocol,
                seen,
            };
            Ok((stream, welcome))
        }
        Ok(Ok((_, HelloReply::Refused { refusal, details }))) => {
            Err(ConnectError::Refused(refusal, details))
        }
        Ok(Err(error)) if is_refusal(&error) => Err(ConnectError::Closed),
        Ok(Err(error)) => Err(match (AuthError::of(&error), error.kind()) {
            (Some(error), _) => ConnectError::Untrusted(error),
            (None, io::ErrorKind::InvalidData) => ConnectError::Failed(ConnectProblem::NotANode),
            (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                ConnectError::Failed(ConnectProblem::HungUp)
            }
            (None, _) => ConnectError::Failed(ConnectProblem::Silent),
        }),
        Err(_) => Err(ConnectError::Failed(ConnectProblem::Silent)),
    }
}

/// Opens a connection with a small send buffer.
pub(super) async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.connect(address).await
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

async fn exchange_hellos(stream: &mut PeerStream, hello: &Hello) -> io::Result<HelloReply> {
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    let sent = send(stream, &bytes).await;
    let mut received = BytesMut::new();
    // Even if sending has failed: the reason for which the other end has closed may be readable.
    loop {
        if let Some(error) = AuthError::of_bytes(&received) {
            return Err(error.into());
        }
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        if let Some((content, _)) = next_frame(&received, HANDSHAKE_MAX).map_err(invalid)? {
            return HelloReply::decode(content).map_err(invalid);
        }
        if stream.read_buf(&mut received).await? == 0 {
            sent?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes all bytes and flushes them.
async fn send(stream: &mut PeerStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// How long a start waits for answers about earlier incarnations.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Nodes are near each other. A short timeout finds a node again soon after a network has healed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout of connecting and the handshake together: far longer than a live node takes.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that the system may buffer before the other end has received them. This is a queue like
/// any other, and control messages wait behind it: for 100 ms at 20 Mbit/s. By default it grows to
/// 4 MB. In a local network far less is ever under way (1 Gbit/s for 0.5 ms are 63 KB), and with a
/// round trip of 200 ms it still carries more than 1 MB/s.
const SEND_BUFFER: u32 = 256 << 10;
/// The pause after the first failure, doubled after each further one up to the maximum: a restarted
/// node is found again within that.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_DOUBLINGS: u32 = 5;
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The maximum while this node looks for peers for the first time: the state of an address should
/// be known as soon as it may count.
const RETRY_LOOKING: Duration = Duration::from_millis(200);
/// A shorter link counts as failed, so that no address is dialed in a tight loop.
const STABLE: Duration = Duration::from_millis(500);
/// How long an address may be silent before that is logged.
const SILENT_FOR: Duration = Duration::from_secs(4);
/// Attempts after which a closed connection is not explained by a node that is being stopped.
const HANG_UPS: u32 = 3;
/// Interval for an address that leads to a node which advertises another one.
const ALIAS_PAUSE: Duration = Duration::from_secs(5);
