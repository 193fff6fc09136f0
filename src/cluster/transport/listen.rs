//! Incoming connections: handshake and received messages.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::clock;
use crate::cluster::driver::Driver;
use crate::cluster::replica::event::Input;
use crate::cluster::replica::node::Node;
use crate::cluster::throttle::Throttle;
use crate::cluster::wire::{HANDSHAKE_MAX, HEAD, Hello, HelloReply, WireError, next_frame};

use crate::cluster::transport::duplex::{BUFFER_KEPT, Duplex, Moved};
use crate::cluster::transport::handshaking::Evicted;
use crate::cluster::transport::inbox::{CREDIT_DELAY, Inbox};
use crate::cluster::transport::lanes::CHUNK;
use crate::cluster::transport::mismatch::{is_plain, refuse_plain, refuse_tls};
use crate::cluster::transport::stall::PROGRESS_MAX;
use crate::cluster::transport::stream::PeerStream;
use crate::cluster::transport::tls::AuthError;
use crate::cluster::transport::transmit::REPORT_EVERY;

/// Serves one connection: its handshake, then its messages, until it is closed.
pub(crate) async fn serve_connection(
    driver: Arc<Driver>,
    stream: TcpStream,
    remote: SocketAddr,
    evicted: Evicted,
) {
    let mut bytes = BytesMut::new();
    // A new identity closes the connection: the next one starts with a new handshake.
    let mut identity = driver.identity();
    let me = identity.borrow_and_update().incarnation;
    let admission = &driver.admission;
    let handshaken = tokio::select! {
        handshaken = timeout(HELLO_TIMEOUT, handshake(&driver, stream, &mut bytes)) => handshaken,
        _ = evicted => {
            let cause = "evicted to make room for another connection";
            return admission.reject_connection(remote, cause);
        }
    };
    let (stream, hello) = match handshaken {
        Ok(Ok(Some(established))) => established,
        Ok(Ok(None)) => return,
        Ok(Err(CloseReason::Io)) => return,
        Ok(Err(CloseReason::AuthError(error))) if error.may_be_of_a_node() => {
            return admission.reject_untrusted(remote, error.message());
        }
        Ok(Err(CloseReason::AuthError(error))) => {
            return admission.reject_connection(remote, error.message());
        }
        Ok(Err(CloseReason::Wire(_))) => {
            return admission.reject_connection(remote, "invalid handshake");
        }
        Err(_) => return admission.reject_connection(remote, "no handshake in time"),
    };
    let _permit = admission.admit();
    let from = &hello.node;
    // The node runs. Until this node has dialed it as well, nothing can be acknowledged to it, and
    // its writes wait.
    driver.links.retry_now(from.address);
    let node = from.clone();
    driver.input(Input::Accepted { node });
    let budget = driver.links.receive_budget.clone();
    let receiver = Receiver {
        driver: &driver,
        from,
        me,
        duplex: Duplex::new(stream),
        inbox: Inbox::new(budget, hello.is_later()),
        read_at: Instant::now(),
        large_reported: 0,
        reported: Throttle::new(REPORT_EVERY),
    };
    tokio::select! {
        end = receiver.read_messages(bytes) => match end {
            CloseReason::Io => {}
            CloseReason::AuthError(error) => {
                admission.reject_link(remote, from, "damaged data", &error);
            }
            CloseReason::Wire(error) => {
                admission.reject_link(remote, from, "invalid message", &error);
            }
        },
        _ = identity.changed() => {}
    }
}

/// Why a connection is over.
enum CloseReason {
    /// It was closed, or broke.
    Io,
    AuthError(AuthError),
    Wire(WireError),
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        AuthError::of(&error).map_or(Self::Io, Self::AuthError)
    }
}

impl From<WireError> for CloseReason {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Authenticates the other end, reads its handshake and answers it. Returns `None` if the
/// connection ends with that.
async fn handshake(
    driver: &Driver,
    stream: TcpStream,
    bytes: &mut BytesMut,
) -> Result<Option<(PeerStream, Hello)>, CloseReason> {
    if driver.links.security.is_some() && is_plain(&stream).await? {
        refuse_plain(stream, |hello| driver.refuse_plain(hello)).await;
        return Err(CloseReason::AuthError(AuthError::Plain));
    }
    let mut stream = driver.links.security.accept(stream).await?;
    let hello = loop {
        if let Some(error) = AuthError::of_bytes(bytes) {
            refuse_tls(stream).await;
            return Err(CloseReason::AuthError(error));
        }
        if let Some((content, _)) = next_frame(bytes, HANDSHAKE_MAX)? {
            let hello = Hello::decode(content)?;
            bytes.advance(HEAD + content.len());
            break hello;
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err(CloseReason::Io);
        }
    };
    let reply = driver.answer_hello(&hello);
    let mut out = Vec::new();
    reply.encode(&mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let welcome = matches!(reply, HelloReply::Welcome { .. });
    // Incarnation number 0 only asks which incarnation was seen.
    Ok((welcome && hello.node.incarnation > 0).then_some((stream, hello)))
}

/// One link after the handshake.
struct Receiver<'a> {
    driver: &'a Driver,
    from: &'a Node,
    /// The incarnation number in this node's handshake.
    me: u64,
    duplex: Duplex,
    inbox: Inbox,
    /// When bytes last arrived.
    read_at: Instant,
    /// Received bytes of large messages when progress was last reported.
    large_reported: u64,
    reported: Throttle,
}

impl Receiver<'_> {
    /// Passes messages to the replica in batches, as they arrive, and credits them.
    async fn read_messages(mut self, mut bytes: BytesMut) -> CloseReason {
        let mut arrived = Vec::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut credit_due = pin!(sleep(CREDIT_DELAY));
        let (mut is_due_set, mut is_due) = (false, false);
        loop {
            let understood = self.inbox.advance(&mut bytes, &mut arrived);
            if (is_due || self.inbox.is_pressed()) && self.duplex.is_idle() {
                self.inbox.take_credit().encode(self.duplex.out());
                (is_due_set, is_due) = (false, false);
            } else if self.inbox.is_owing() && !is_due_set && !is_due {
                credit_due.as_mut().reset(Instant::now() + CREDIT_DELAY);
                is_due_set = true;
            }
            self.driver
                .handle_messages(self.from, self.me, &mut arrived);
            if let Err(error) = understood {
                return CloseReason::Wire(error);
            }
            self.report();
            self.make_room(&mut bytes);
            tokio::select! {
                moved = self.duplex.moved(&mut bytes) => match moved {
                    Ok(Moved { read: Some(0), .. }) => return CloseReason::Io,
                    Ok(Moved { read: Some(_), .. }) => self.read_at = Instant::now(),
                    Ok(Moved { read: None, .. }) => {}
                    Err(error) => return error.into(),
                },
                () = &mut credit_due, if is_due_set => (is_due_set, is_due) = (false, true),
                () = self.inbox.admitted(), if self.inbox.is_waiting() => {}
                now = ticks.tick() => {
                    if self.is_silent(now) {
                        return CloseReason::Io;
                    }
                    // The sender's large message makes no progress, and this credit shows that this
                    // end is alive.
                    is_due |= self.inbox.is_waiting();
                }
            }
        }
    }

    fn report(&mut self) {
        let large = self.inbox.large_bytes();
        if large != self.large_reported && self.reported.is_due(clock::now()) {
            self.large_reported = large;
            let node = self.from.clone();
            self.driver.input(Input::Arriving { node });
        }
    }

    fn make_room(&self, bytes: &mut BytesMut) {
        if bytes.is_empty() && bytes.capacity() > BUFFER_KEPT {
            *bytes = BytesMut::new();
        }
        bytes.reserve(if self.inbox.is_assembling() {
            READ_LARGE
        } else {
            READ
        });
    }

    fn is_silent(&self, now: Instant) -> bool {
        // An incomplete message from a node that has vanished takes room that other messages wait
        // for.
        let is_holding_room = self.inbox.is_assembling() && !self.inbox.is_waiting();
        let limit = if is_holding_room {
            PROGRESS_MAX
        } else {
            SILENCE_MAX
        };
        now.duration_since(self.read_at) >= limit
    }
}

/// Timeout of the handshake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A link on which nothing arrives for this long is closed: nodes probe each other all the time,
/// and close unused links.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Buffer space for one read. Longer segments enlarge it as they arrive.
const READ: usize = 16 << 10;
/// The same while a large message is being received, in bytes: two chunks.
const READ_LARGE: usize = 2 * CHUNK;
/// Interval at which timeouts are checked, and a sender is notified that its large message waits.
const TICK: Duration = Duration::from_secs(1);
