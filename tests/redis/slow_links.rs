//! Large sessions over slow links: the time that their data takes is no sign of a failure, and a
//! link that carries nothing is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use distributable::session::Changes;
use distributable::{RedisStore, Root, SessionStore, StoreErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{self, AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use crate::common::redis::Server;
use crate::support::{
    RECOVERY, birth, committed, create, find, in_one_of_some, insert, patient, reason, text, value,
};

/// the data of a session takes longer, in each direction, than a server may be silent; what
/// waits behind it is answered as well, and the connection is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_takes_seconds_on_a_slow_link_is_written_and_read() {
    // A server that stands still for a second costs a connection as well.
    in_one_of_some("the connection is kept", async || {
        large_sessions_pass().await == 1
    })
    .await;
}

/// Writes and reads a large session. Returns the number of connections that it took.
async fn large_sessions_pass() -> usize {
    let server = Server::start(&[]);
    let link = SlowLink::start(server.port, RATE).await;
    let store = open(&link, TIMEOUT).await;
    let (small, _) = create(&store, "a", "1").await;
    let large = "x".repeat(4 * RATE);

    let key = store.new_id().key();
    let start = Instant::now();
    let writing = store.commit(&key, None, birth("large", &large));
    let reading = async {
        sleep(Duration::from_millis(500)).await;
        find(&store, &small).await
    };
    let (written, read) = tokio::join!(writing, reading);
    committed(written);
    assert!(start.elapsed() > TIMEOUT / 3, "the link is slow");
    assert_eq!(value(&read.unwrap(), "a").as_deref(), Some("1"));

    let (found, read) = tokio::join!(find(&store, &key), find(&store, &small));
    let found = value(&found.unwrap(), "large").unwrap();
    assert!(found == large, "{} bytes", found.len());
    assert_eq!(value(&read.unwrap(), "a").as_deref(), Some("1"));
    link.accepted()
}

/// the rest of a request that is too late does not hold up the requests after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_is_too_large_for_the_deadline_blocks_nothing_after_it() {
    let server = Server::start(&[]);
    let link = SlowLink::start(server.port, RATE / 2).await;
    let timeout = Duration::from_secs(6);
    let store = open(&link, timeout).await;
    let (key, record) = create(&store, "a", "1").await;
    let start = Instant::now();
    let large = "x".repeat(15 * RATE / 2);
    let error = store
        .commit(&key, Some(&record), insert("large", &large))
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Indeterminate);
    // The rest would take 15 seconds.
    assert!(start.elapsed() < timeout + GRACE);
    let found = find(&store, &key).await.unwrap();
    assert_eq!(value(&found, "a").as_deref(), Some("1"));
    assert!(link.accepted() > 1, "the first connection was given up");
}

/// On a slow link an invalidation may be behind megabytes, so a copy counts from when the server
/// was asked, not from when its answer has arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_is_not_older_than_two_seconds_on_a_slow_link() {
    let server = Server::start(&[]);
    let link = SlowLink::start(server.port, RATE).await;
    let cached = RedisStore::builder(link.url())
        .operation_timeout(TIMEOUT)
        .near_cache(64 << 20)
        .connect()
        .await
        .unwrap();
    let direct = patient(&server.url()).await;
    let (key, _) = create(&direct, "a", "1").await;
    let large = "x".repeat(3 * RATE);
    let (first, _) = create(&direct, "large", &large).await;
    let (second, _) = create(&direct, "large", &large).await;
    warm(&cached, &key).await;
    let start = Instant::now();
    let at = |millis| sleep_until((start + Duration::from_millis(millis)).into());
    // Then the answer to a check is under way behind the first of them, sent at the latest after a
    // second, and the invalidation behind the second one.
    let reading = async {
        at(1_200).await;
        find(&cached, &second).await
    };
    let ending = async {
        at(1_500).await;
        assert!(direct.delete(&key).await.unwrap());
        at(1_500 + 2_000).await;
        while start.elapsed() < Duration::from_millis(5_500) {
            // A copy is returned at once; otherwise the server is asked, behind the large answers.
            let found = timeout(Duration::from_millis(20), find(&cached, &key)).await;
            assert!(!matches!(found, Ok(Some(_))), "{:?}", start.elapsed());
        }
    };
    let (first, second, ()) = tokio::join!(find(&cached, &first), reading, ending);
    assert!(first.is_some() && second.is_some());
}

/// A request that reads its session again wants to know what others have written: a copy may lack
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_reads_again_gets_no_copy() {
    let server = Server::start(&[]);
    let link = SlowLink::start(server.port, RATE).await;
    let cached = RedisStore::builder(link.url())
        .operation_timeout(TIMEOUT)
        .near_cache(64 << 20)
        .connect()
        .await
        .unwrap();
    let direct = patient(&server.url()).await;
    let (key, _) = create(&direct, "a", "1").await;
    let mut round = 1;
    // A copy counts for a second more, behind the large session: until then a write and a read have
    // to take place.
    in_one_of_some("a copy lacks a write", async || {
        warm(&cached, &key).await;
        round += 1;
        let (large, _) = create(&direct, "large", &"x".repeat(5 * RATE)).await;
        let next = text(&round.to_string());
        let reading = async {
            sleep(Duration::from_millis(200)).await;
            let mut changes = Changes::default();
            changes.insert("a".into(), next.clone());
            committed(direct.commit(&key, None, changes).await);
            // The invalidation is behind the large session.
            let copy = find(&cached, &key).await.unwrap();
            let again = cached.load(&key, None).await.unwrap().into_live();
            assert_eq!(again.unwrap().get("a"), Some(&next));
            copy.get("a") != Some(&next)
        };
        let (large, is_older) = tokio::join!(find(&cached, &large), reading);
        assert!(large.is_some());
        is_older
    })
    .await;
}

/// Reads a session until a copy is returned.
async fn warm(cached: &RedisStore, key: &Root) {
    let hits = || cached.near_cache().unwrap().hits;
    let (before, start) = (hits(), Instant::now());
    while hits() == before {
        assert!(start.elapsed() < RECOVERY, "it is never warm");
        assert!(find(cached, key).await.is_some());
    }
}

/// a link that carries nothing any more is given up, in the middle of a large request too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_link_that_stops_in_the_middle_of_a_large_request_is_given_up() {
    let server = Server::start(&[]);
    let link = SlowLink::start(server.port, RATE).await;
    let store = open(&link, TIMEOUT).await;
    let (key, record) = create(&store, "a", "1").await;
    let large = "x".repeat(4 * RATE);
    let start = Instant::now();
    let writing = store.commit(&key, Some(&record), insert("large", &large));
    let stopping = async {
        sleep(Duration::from_millis(500)).await;
        link.stop(true);
        while link.accepted() == 1 {
            assert!(start.elapsed() < TIMEOUT, "it is not given up");
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (written, ()) = tokio::join!(writing, stopping);
    written.unwrap_err();
    link.stop(false);
    let passing = Instant::now();
    let found = loop {
        match store.load(&key, None).await {
            Ok(found) => break found.into_live().unwrap(),
            Err(error) => assert!(passing.elapsed() < RECOVERY, "{}", reason(&error)),
        }
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(value(&found, "a").as_deref(), Some("1"));
}

/// requests that the system accepts for a server out of reach are no sign that it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_link_that_stops_while_small_requests_are_sent_is_given_up() {
    let server = Server::start(&[]);
    let link = SlowLink::start(server.port, RATE).await;
    let store = open(&link, TIMEOUT).await;
    let (key, _) = create(&store, "a", "1").await;
    link.stop(true);
    let start = Instant::now();
    let mut requests = JoinSet::new();
    while link.accepted() == 1 {
        assert!(start.elapsed() < TIMEOUT, "it is not given up");
        let store = store.clone();
        requests.spawn(async move { store.load(&key, None).await });
        sleep(Duration::from_millis(20)).await;
    }
}

async fn open(link: &SlowLink, timeout: Duration) -> RedisStore {
    let builder = RedisStore::builder(link.url()).operation_timeout(timeout);
    builder.connect().await.unwrap()
}

/// The timeout of most stores here. A connection with a request is given up when no data moves on
/// it for a third of that.
const TIMEOUT: Duration = Duration::from_secs(9);

/// How late a busy machine may notice the end of a time limit.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes that most slow links here carry in a second, in each direction.
const RATE: usize = 2 << 20;

/// The delay of a slow link that is caught up at most.
const CATCH_UP: Duration = Duration::from_millis(200);

/// A slow link to a server, which buffers little.
struct SlowLink {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopped: watch::Sender<bool>,
    acceptor: AbortHandle,
}

impl SlowLink {
    async fn start(port: u16, rate: usize) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (stopped, is_stopped) = watch::channel(false);
        let count = accepted.clone();
        let acceptor = task::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                task::spawn(carry(from_client, to_server, rate, is_stopped.clone()));
                task::spawn(carry(from_server, to_client, rate, is_stopped.clone()));
            }
        });
        Self {
            address,
            accepted,
            stopped,
            acceptor: acceptor.abort_handle(),
        }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The number of connections so far.
    fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }

    fn stop(&self, stopped: bool) {
        self.stopped.send_replace(stopped);
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Carries bytes in one direction until an end closes the connection.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    rate: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    let mut due = Instant::now();
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        // By a schedule: what a busy machine delays is caught up.
        due = due.max(Instant::now() - CATCH_UP)
            + Duration::from_secs_f64(count as f64 / rate as f64);
        sleep_until(due.into()).await;
        if stopped.wait_for(|stopped| !stopped).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
