//! Sending side of one link: sends the messages of a [`SendQueue`] to the peer, and reports their
//! delivery.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock;
use crate::cluster::replica::event::Input;
use crate::cluster::replica::node::Node;
use crate::cluster::throttle::Throttle;
use crate::cluster::wire::{Credit, Segment, SegmentKind, WireError};

use crate::cluster::transport::duplex::Duplex;
use crate::cluster::transport::lanes::Confirmed;
use crate::cluster::transport::send_queue::SendQueue;
use crate::cluster::transport::stall::StallDetector;
use crate::cluster::transport::stream::PeerStream;

/// Sends the messages of the queue until one of the ends closes, or the link makes no progress.
/// Deliveries are passed to `report`.
pub(super) async fn transmit(
    send_queue: &SendQueue,
    stream: PeerStream,
    to: &Node,
    report: impl Fn(Input) + Send,
) {
    let mut link = Transmitter {
        report,
        send_queue,
        to,
        credits: BytesMut::new(),
        stall: StallDetector::new(Instant::now()),
        reported: Throttle::new(REPORT_EVERY),
    };
    match link.run(Duplex::new(stream)).await {
        TransmitEnd::Over => {}
        TransmitEnd::Stalled => tracing::warn!(
            peer = %to.name,
            address = %to.address,
            "a replication link made no progress and is closed; check the network between the nodes"
        ),
        TransmitEnd::Wire(cause) => tracing::warn!(
            peer = %to.name,
            address = %to.address,
            ?cause,
            "a replication link returned an invalid credit and is closed"
        ),
    }
}

struct Transmitter<'a, F> {
    report: F,
    send_queue: &'a SendQueue,
    to: &'a Node,
    /// Bytes received from the other end.
    credits: BytesMut,
    stall: StallDetector,
    reported: Throttle,
}

/// Why a link is closed.
enum TransmitEnd {
    /// One of the ends has closed it, or it is not used.
    Over,
    Stalled,
    Wire(WireError),
}

impl<F: Fn(Input)> Transmitter<'_, F> {
    async fn run(&mut self, mut duplex: Duplex) -> TransmitEnd {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expired_at = Instant::now();
        loop {
            // Nothing is taken before the last output is written: the output buffer has no lanes,
            // and control messages would wait behind the data in it.
            let closed = if duplex.is_idle() {
                self.send_queue.take(clock::now(), duplex.out()).is_err()
            } else {
                !self.send_queue.is_open()
            };
            if closed || duplex.is_broken() {
                return TransmitEnd::Over;
            }
            self.credits.reserve(READ);
            tokio::select! {
                moved = duplex.moved(&mut self.credits) => {
                    let Ok(moved) = moved else { return TransmitEnd::Over };
                    if moved.read == Some(0) {
                        return TransmitEnd::Over;
                    }
                    if moved.written > 0 {
                        self.stall.wrote(Instant::now(), self.send_queue.awaits_credit());
                    }
                    if let Err(cause) = self.read_credits() {
                        return TransmitEnd::Wire(cause);
                    }
                }
                () = self.send_queue.filled() => {}
                now = ticks.tick() => {
                    let is_busy = !duplex.is_idle() || self.send_queue.awaits_credit();
                    if self.stall.is_stalled(now, is_busy) {
                        return TransmitEnd::Stalled;
                    }
                    if now.duration_since(expired_at) >= IDLE {
                        expired_at = now;
                        if !self.send_queue.is_used() {
                            return TransmitEnd::Over;
                        }
                        self.send_queue.expire();
                    }
                }
            }
        }
    }

    /// Handles the credits that have arrived. Other segments, from later versions, are skipped.
    fn read_credits(&mut self) -> Result<(), WireError> {
        while let Some((segment, rest)) = Segment::next(&self.credits)? {
            let taken = self.credits.len() - rest.len();
            let credit = match segment.kind {
                SegmentKind::Credit => Some(Credit::decode(segment.content)?),
                _ => None,
            };
            self.credits.advance(taken);
            if let Some(credit) = credit {
                self.confirmed(self.send_queue.confirm(credit)?);
            }
        }
        Ok(())
    }

    fn confirmed(&mut self, confirmed: Confirmed) {
        self.stall.credited(Instant::now());
        if confirmed.is_large && self.reported.is_due(clock::now()) {
            let node = self.to.clone();
            (self.report)(Input::Progress { node });
        }
        for (bytes, large) in [(confirmed.small, false), (confirmed.large, true)] {
            if bytes > 0 {
                let node = self.to.clone();
                (self.report)(Input::Delivered { node, bytes, large });
            }
        }
    }
}

/// Interval at which timeouts are checked.
const TICK: Duration = Duration::from_secs(1);

/// Buffer space for the credits in one read, in bytes: about twenty.
const READ: usize = 512;

/// Interval between reports of progress: ten a second are enough for deadlines of seconds, and cost
/// next to nothing.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How long an unused address is dialed, or an unused link kept.
pub(super) const IDLE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::time::{sleep, sleep_until};

    use crate::cluster::replica::message::{Lane, Message};
    use crate::cluster::transport::dial::open;
    use crate::cluster::transport::exchange_tests::data;
    use crate::cluster::transport::inbox::Inbox;
    use crate::cluster::transport::message_encoder::MessageEncoder;
    use crate::cluster::wire::ProtocolVersion;

    use super::*;

    /// 20 Mbit/s.
    const PIECE: usize = 25_000;
    const PAUSE: Duration = Duration::from_millis(10);
    /// The delay of the receiver that is caught up at most.
    const CATCH_UP: Duration = Duration::from_millis(200);

    /// The received messages, with the times of their arrival.
    type Arrived = Arc<Mutex<Vec<(Instant, Message)>>>;

    /// Reads at the speed of a slow path, and credits.
    async fn receive_slowly(mut stream: TcpStream, arrived: Arrived) {
        let mut inbox = Inbox::new(Arc::default(), false);
        let (mut bytes, mut messages) = (BytesMut::new(), Vec::new());
        let mut due = Instant::now();
        loop {
            bytes.reserve(PIECE);
            let mut piece = (&mut stream).take(PIECE as u64);
            if piece.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            inbox.advance(&mut bytes, &mut messages).unwrap();
            let now = Instant::now();
            let messages = messages.drain(..).map(|arrival| (now, arrival.message));
            arrived.lock().unwrap().extend(messages);
            if inbox.is_owing() {
                let mut credit = Vec::new();
                inbox.take_credit().encode(&mut credit);
                stream.write_all(&credit).await.unwrap();
            }
            // By a schedule: what a busy machine delays is caught up.
            due = due.max(Instant::now() - CATCH_UP) + PAUSE;
            sleep_until(due).await;
        }
    }

    type Reports = Arc<Mutex<Vec<Input>>>;

    /// A queue whose messages a task sends on `stream`, and the reports of that task.
    fn transmitting(
        stream: TcpStream,
        to: Node,
    ) -> (Arc<SendQueue>, Reports, tokio::task::JoinHandle<()>) {
        let send_queue = Arc::new(SendQueue::new(to.address));
        send_queue.open(&to, ProtocolVersion::V2);
        let reports = Reports::default();
        let link = tokio::spawn({
            let (send_queue, reports) = (send_queue.clone(), reports.clone());
            async move {
                let report = |input| reports.lock().unwrap().push(input);
                transmit(&send_queue, PeerStream::Plain(stream), &to, report).await;
            }
        });
        (send_queue, reports, link)
    }

    /// Waits until everything in a queue was sent.
    async fn flushed(send_queue: &SendQueue) {
        while !send_queue.is_flushed() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_slow_link_nothing_waits_for_a_large_message() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let to = Node {
            address: listener.local_addr().unwrap(),
            incarnation: 1,
            name: "node2".into(),
        };
        let stream = open(to.address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let arrived = Arrived::default();
        let receiver = tokio::spawn(receive_slowly(accepted, arrived.clone()));

        let (send_queue, reports, link) = transmitting(stream, to.clone());
        let mut encoder = MessageEncoder::default();
        let mut put = |message: &Message| send_queue.put(&to, message, &mut encoder).unwrap();
        // Takes five seconds.
        let large = data(1 << 32, 12_500_000);
        put(&large);
        let mut sizes = large.size();
        let mut sent = [VecDeque::new(), VecDeque::new()];
        let is_there = || {
            let arrived = arrived.lock().unwrap();
            arrived.iter().any(|(_, message)| *message == large)
        };
        let began = Instant::now();
        while !is_there() {
            assert!(!link.is_finished(), "a slow link stays");
            let small = data(1, 1_000);
            sizes += small.size();
            put(&small);
            sent[0].push_back(Instant::now());
            put(&Message::Swim(vec![0; 100]));
            sent[1].push_back(Instant::now());
            sleep(Duration::from_millis(20)).await;
        }
        let crossed = began.elapsed();
        flushed(&send_queue).await;
        send_queue.close();
        link.await.unwrap();
        let ended = began.elapsed();
        receiver.await.unwrap();

        let mut slowest = Duration::ZERO;
        for (at, message) in arrived.lock().unwrap().iter() {
            if !message.is_large() {
                let lane = usize::from(message.lane() == Lane::Control);
                let sent_at = sent[lane].pop_front().expect("nothing arrives twice");
                slowest = slowest.max(at.duration_since(sent_at));
            }
        }
        assert!(
            sent.iter().all(VecDeque::is_empty),
            "everything has arrived"
        );
        println!("12.5 MB in {crossed:?}, the slowest small message took {slowest:?}");
        // If they waited for the large message, the first one would take almost as long as that. A
        // pause of the process adds to both: one of five seconds makes it half of the time.
        assert!(slowest < crossed * 3 / 4, "{slowest:?} of {crossed:?}");

        let reports = reports.lock().unwrap();
        let delivered = reports.iter().map(|input| match input {
            Input::Delivered { bytes, .. } => *bytes,
            _ => 0,
        });
        assert_eq!(delivered.sum::<usize>(), sizes);
        let progress = |input: &&Input| matches!(input, Input::Progress { .. });
        let progress = reports.iter().filter(progress).count() as u32;
        assert!((2..=1 + ended.as_millis() as u32 / 100).contains(&progress));
    }
}
