//! Events over one server, with and without its reports of expired keys.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use distributable::session::Changes;
use distributable::{
    EndReason, Lagged, RedisStore, Root, Scope, SessionEvent, SessionEventKind, SessionEvents,
    SessionStore,
};
use tokio::time::{sleep, timeout};

use crate::common::redis::Server;
use crate::common::{PATIENCE, eventually};
use crate::support::{
    HOUR, PATIENT, RECOVERY, SECRET, committed, create, find, in_one_of_some, insert, patient,
    rotation, secret, stored, text,
};

pub(crate) async fn node(url: &str, name: &str) -> RedisStore {
    let builder = RedisStore::builder(url)
        .node_name(name)
        .operation_timeout(PATIENT);
    builder.connect().await.unwrap()
}

/// A subscription that has reached every server.
pub(crate) async fn listen(store: &RedisStore, scope: Scope) -> SessionEvents {
    let events = store.events(scope).unwrap();
    let start = Instant::now();
    while !events.ready().await {
        assert!(
            start.elapsed() < PATIENCE,
            "the servers are not subscribed to"
        );
    }
    events
}

pub(crate) async fn receive(events: &mut SessionEvents) -> Result<SessionEvent, Lagged> {
    let received = timeout(PATIENCE, events.recv()).await;
    received.expect("an event comes").expect("the store lives")
}

pub(crate) async fn next(events: &mut SessionEvents) -> SessionEvent {
    receive(events).await.unwrap()
}

/// Asserts that nothing has come before the event of a new session.
pub(crate) async fn nothing_else<'a>(
    all: impl IntoIterator<Item = &'a mut SessionEvents>,
    store: &RedisStore,
) {
    let (key, _) = create(store, "a", "1").await;
    for events in all {
        let event = next(events).await;
        assert_eq!((event.key, event.kind), (key, SessionEventKind::Created));
    }
}

/// A session that is idle after a second.
pub(crate) async fn create_brief(store: &RedisStore, absolute: Duration) -> Root {
    create_idle(store, Duration::from_secs(1), absolute).await
}

/// A session with these lifetimes.
async fn create_idle(store: &RedisStore, idle: Duration, absolute: Duration) -> Root {
    let key = store.new_id().key();
    let mut birth = Changes::create(SECRET, Some(idle), absolute);
    birth.insert("a".into(), text("1"));
    committed(store.commit(&key, None, birth).await);
    key
}

pub(crate) const EXPIRED: SessionEventKind = SessionEventKind::Expired(EndReason::Idle);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_event_is_received_once_in_order_and_with_its_node() {
    let server = Server::start(&[]);
    let (one, two) = (
        node(&server.url(), "node1").await,
        node(&server.url(), "node2").await,
    );
    let mut here = listen(&one, Scope::Node).await;
    let mut all = [
        listen(&one, Scope::Cluster).await,
        listen(&two, Scope::Cluster).await,
    ];
    let mut there = listen(&two, Scope::Node).await;

    let (key, record) = create(&one, "a", "1").await;
    committed(two.commit(&key, Some(&record), insert("a", "2")).await);
    committed(
        two.commit(&key, Some(&record), rotation(SECRET, secret(1)))
            .await,
    );
    assert!(one.delete(&key).await.unwrap());
    assert!(!two.delete(&key).await.unwrap());
    let (other, _) = create(&two, "a", "1").await;
    assert!(two.delete_because(&other, EndReason::Logout).await.unwrap());

    let admin = SessionEventKind::Deleted(EndReason::Admin);
    let logout = SessionEventKind::Deleted(EndReason::Logout);
    let expected = [
        (key, SessionEventKind::Created, "node1"),
        (key, SessionEventKind::Rotated, "node2"),
        (key, admin, "node1"),
        (other, SessionEventKind::Created, "node2"),
        (other, logout, "node2"),
    ];
    for events in &mut all {
        for (key, kind, node) in expected {
            let event = next(events).await;
            let found = (event.key, event.kind, event.node.as_deref());
            assert_eq!(found, (key, kind, Some(node)));
            assert_eq!(event.user, None);
        }
    }
    for (events, node) in [(&mut here, "node1"), (&mut there, "node2")] {
        for (key, kind, _) in expected.into_iter().filter(|it| it.2 == node) {
            let event = next(events).await;
            assert_eq!((event.key, event.kind), (key, kind));
        }
    }
    nothing_else(all.iter_mut().chain([&mut here]), &one).await;
}

/// A server in its default configuration reports nothing: the nodes check their own sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_expires_is_reported_once_by_one_of_the_nodes() {
    let server = Server::start(&[]);
    let (one, two) = (
        node(&server.url(), "node1").await,
        node(&server.url(), "node2").await,
    );
    let mut all = [
        listen(&one, Scope::Cluster).await,
        listen(&two, Scope::Cluster).await,
    ];
    let mut each = [
        listen(&one, Scope::Node).await,
        listen(&two, Scope::Node).await,
    ];
    let brief = create_brief(&one, HOUR).await;
    let used = create_idle(&two, Duration::from_secs(20), Duration::from_secs(3)).await;
    let (shortened, record) = create(&two, "a", "1").await;
    let mut changes = Changes::default();
    changes.set_idle_timeout(Some(Duration::from_secs(1)));
    committed(two.commit(&shortened, Some(&record), changes).await);
    // It is used until its absolute deadline.
    while find(&one, &used).await.is_some() {
        one.touch(&used).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    let absolute = SessionEventKind::Expired(EndReason::Absolute);
    for events in &mut all {
        let mut ends = HashMap::new();
        while ends.len() < 3 {
            let event = next(events).await;
            if event.kind != SessionEventKind::Created {
                let twice = ends.insert(event.key, (event.kind, event.node));
                assert_eq!(twice, None);
            }
        }
        let kinds = [brief, shortened, used].map(|key| ends[&key].0);
        assert_eq!(kinds, [EXPIRED, EXPIRED, absolute]);
    }
    nothing_else(&mut all, &one).await;
    let mut own = 0;
    for (events, store) in each.iter_mut().zip([&one, &two]) {
        let (last, _) = create(store, "a", "1").await;
        loop {
            let event = next(events).await;
            if event.key == last {
                break;
            }
            own += usize::from(event.kind.reason().is_some());
        }
    }
    assert_eq!(own, 3, "each is reported by one node");
}

/// With the server's reports, also sessions that no subscriber has seen; never the ends of markers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_keys_that_a_server_reports_as_expired_are_sessions_or_markers() {
    let server = Server::start(&["--notify-keyspace-events", "Ex"]);
    let (one, two) = (
        node(&server.url(), "node1").await,
        node(&server.url(), "node2").await,
    );
    // It is there until both have subscribed.
    let brief = create_idle(&one, Duration::from_secs(10), HOUR).await;
    let (long, _) = create(&one, "a", "1").await;
    let mut events = listen(&one, Scope::Cluster).await;
    let mut others = listen(&two, Scope::Cluster).await;
    assert!(one.delete(&long).await.unwrap());
    server.cli(&["SET", "foreign", "1", "PX", "1"]);
    server.cli(&["SET", "sess:probe1", "1", "PX", "1"]);
    eventually("the marker is claimed", || {
        let claim = format!("sess-expired:{{{}}}", stored(&long));
        server.cli(&["EXISTS", &claim]) == "1"
    });
    assert_eq!(server.cli(&["PEXPIRE", &stored(&long), "1"]), "1");
    for events in [&mut events, &mut others] {
        let deleted = next(events).await;
        assert_eq!(deleted.kind, SessionEventKind::Deleted(EndReason::Admin));
        let expired = next(events).await;
        assert_eq!((expired.key, expired.kind), (brief, EXPIRED));
    }
    nothing_else([&mut events, &mut others], &two).await;
}

/// A session is deleted while the subscription is interrupted. The node looks at it at its idle
/// deadline and claims the marker; the end of the marker must not look like an expiry.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_claim_of_a_marker_lasts_longer_than_the_marker() {
    let server = Server::start(&["--notify-keyspace-events", "Ex"]);
    let store = node(&server.url(), "node1").await;
    let other = patient(&server.url()).await;
    let mut key = Root::generate();
    let mut events = listen(&store, Scope::Cluster).await;
    // The deletion has to take place before the subscription is made again.
    in_one_of_some("a deletion is missed", async || {
        events = listen(&store, Scope::Cluster).await;
        key = create_brief(&other, HOUR).await;
        // The interruption of a measurement before this one may be announced still.
        while receive(&mut events).await.is_err() {}
        server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert!(other.delete(&key).await.unwrap());
        receive(&mut events).await.is_err() && events.ready().await
    })
    .await;
    let claim = format!("sess-expired:{{{}}}", stored(&key));
    eventually("the marker is claimed", || {
        server.cli(&["EXISTS", &claim]) == "1"
    });
    let ttl = |key: &str| server.cli(&["PTTL", key]).parse::<u64>().unwrap();
    assert!(ttl(&claim) > ttl(&stored(&key)) + 30_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_subscription_is_announced_and_made_again() {
    let mut server = Server::start(&[]);
    let store = node(&server.url(), "node1").await;
    let mut all = listen(&store, Scope::Cluster).await;
    let mut own = listen(&store, Scope::Node).await;
    for round in 0..3 {
        match round {
            0 => drop(server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"])),
            1 => {
                server.kill();
                server.restart();
            }
            // A server that is silent, and then goes on. It is noticed after two seconds in which
            // this process runs.
            _ => {
                server.signal("STOP");
                sleep(Duration::from_secs(8)).await;
                server.signal("CONT");
            }
        }
        for events in [&mut all, &mut own] {
            let lost = receive(events).await;
            assert_eq!(lost, Err(Lagged(1)), "{round}");
        }
        // Sessions have a connection of their own.
        let start = Instant::now();
        while store.load(&Root::generate(), None).await.is_err() {
            assert!(start.elapsed() < RECOVERY, "{round}: it does not recover");
            sleep(Duration::from_millis(20)).await;
        }
        nothing_else([&mut all, &mut own], &store).await;
    }
}

/// The oldest events are lost, their number is known, and no commit waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_subscriber_delays_nothing_and_receives_the_number_of_lost_events() {
    const SESSIONS: usize = 5_000;
    let server = Server::start(&[]);
    let store = node(&server.url(), "node1").await;
    let mut slow = listen(&store, Scope::Node).await;
    let mut fast = listen(&store, Scope::Cluster).await;
    let creating = tokio::spawn({
        let store = store.clone();
        async move {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..50 {
                let store = store.clone();
                tasks.spawn(async move {
                    for _ in 0..SESSIONS / 50 {
                        create(&store, "a", "1").await;
                    }
                });
            }
            tasks.join_all().await
        }
    });
    for _ in 0..SESSIONS {
        next(&mut fast).await;
    }
    creating.await.unwrap();
    let waiting = 4_096;
    assert_eq!(
        receive(&mut slow).await,
        Err(Lagged((SESSIONS - waiting) as u64))
    );
    for _ in 0..waiting {
        next(&mut slow).await;
    }
}

/// Messages of other clients that may publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_that_are_no_events_are_ignored() {
    let server = Server::start(&[]);
    let store = node(&server.url(), "node1").await;
    let mut events = listen(&store, Scope::Cluster).await;
    let long = "x".repeat(100_000);
    for junk in ["", "x", "\u{1}\u{1}", &long, "\u{1}\u{3}\u{1}0123456789"] {
        assert_eq!(server.cli(&["PUBLISH", "sess:events", junk]), "1");
    }
    nothing_else([&mut events], &store).await;
}

/// C-12, C-13: what is published opens no session and names no user.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_has_no_secret_and_no_value() {
    let server = Server::start(&[]);
    let mut subscriber = BufReader::new(TcpStream::connect(("127.0.0.1", server.port)).unwrap());
    let subscribe = b"SUBSCRIBE sess:events\r\n";
    subscriber.get_mut().write_all(subscribe).unwrap();
    // The text of a string with its length in front, which may have any bytes; else nothing.
    let mut element = || {
        let mut line = String::new();
        subscriber.read_line(&mut line).unwrap();
        let length = line.strip_prefix('$').map(|length| length.trim().parse());
        let length: usize = length.transpose().unwrap()?;
        let mut text = vec![0; length + 2];
        subscriber.read_exact(&mut text).unwrap();
        text.truncate(length);
        Some(text)
    };
    let mut array = |length| (0..=length).filter_map(|_| element()).collect::<Vec<_>>();
    assert_eq!(array(3), [&b"subscribe"[..], b"sess:events"]);
    let store = node(&server.url(), "node1").await;
    let id = store.new_id();
    let mut birth = Changes::create(id.hash(), Some(HOUR), HOUR);
    birth.insert("name".into(), text("value"));
    committed(store.commit(&id.key(), None, birth).await);
    let message = array(3).pop().unwrap();
    let has = |part: &[u8]| message.windows(part.len()).any(|window| window == part);
    assert!(has(id.key().to_string().as_bytes()) && has(b"node1"));
    assert!(!has(&id.expose().as_bytes()[24..]) && !has(&id.hash().to_bytes()));
    assert!(!has(b"name") && !has(b"value"));
}

/// Without subscribers there is no connection for them, and nothing is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_without_subscribers_asks_for_nothing_more() {
    let server = Server::start(&["--notify-keyspace-events", "Ex"]);
    let store = node(&server.url(), "node1").await;
    let subscribers = || server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    let (key, _) = create(&store, "a", "1").await;
    store.delete(&key).await.unwrap();
    assert_eq!(subscribers(), "");
    let events = listen(&store, Scope::Node).await;
    assert_ne!(subscribers(), "");
    drop(events);
    eventually("the subscription has ended", || subscribers().is_empty());
    create_brief(&store, HOUR).await;
    in_one_of_some("nothing is asked for", async || {
        let before = server.commands();
        sleep(Duration::from_secs(2)).await;
        server.commands() == before
    })
    .await;
    assert!(!server.cli(&["KEYS", "*"]).contains("expired"));
    // And again.
    let mut events = listen(&store, Scope::Node).await;
    nothing_else([&mut events], &store).await;
    drop(store);
    let end = timeout(PATIENCE, events.recv()).await;
    assert_eq!(end.expect("the end of the store ends the events"), None);
}

/// applications that share a prefix by mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_of_another_application_are_not_received() {
    let server = Server::start(&[]);
    let open = async |name: &str| {
        let builder = RedisStore::builder(server.url()).application(name);
        builder.operation_timeout(PATIENT).connect().await.unwrap()
    };
    let (shop, blog) = (open("shop").await, open("blog").await);
    let mut events = listen(&shop, Scope::Cluster).await;
    create_brief(&blog, HOUR).await;
    let brief = create_brief(&shop, HOUR).await;
    for kind in [SessionEventKind::Created, EXPIRED] {
        let event = next(&mut events).await;
        assert_eq!((event.key, event.kind), (brief, kind));
    }
    nothing_else([&mut events], &shop).await;
    let bad = [String::new(), "a\nb".to_owned(), "x".repeat(65)];
    for name in bad {
        let builder = RedisStore::builder(server.url()).node_name(name);
        assert!(builder.build().is_err());
    }
}
