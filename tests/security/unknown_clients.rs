//! Connections of other programs to the replication port, and their cost.

use std::sync::Arc;
use std::time::Duration;

use distributable::{ReplicatedStore, SessionStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::log::{Log, undisturbed};
use super::proxy::{Proxy, connect_from};
use super::replicas::{
    MACHINE, PATIENCE, create, describe, eventually, is_settled, read, secret, secure, secure_pair,
    settled, try_create, within,
};

/// The bytes that the other side sends until it closes, which it must.
async fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    let mut words = Vec::new();
    // A reset is as good an end as any: not all that was sent has been read.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut words))
        .await
        .unwrap();
    words
}

/// N-02, N-04.
#[test]
fn other_protocols_are_turned_away_at_once_and_disturb_no_node() {
    undisturbed(1, async || {
        let (log, _guard) = Log::begin();
        let [one, two] = secure_pair().await;
        let noise: Vec<u8> = (0..4096_u32)
            .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8)
            .collect();
        let garbage: [&[u8]; 12] = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            &[0xff; 64],
            &noise,
            // Our own protocol, without TLS: a length, and what would be a handshake.
            b"\0\0\0\x20dsession\x01\x01",
            // A record longer than any may be.
            &[0x16, 3, 1, 0xff, 0xff, 1],
            // A handshake of 16 MiB, and one of 64 KiB that never comes.
            &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            // Alerts, data and a change of ciphers before anything else.
            &[0x15, 3, 3, 0, 2, 2, 40],
            &[0x17, 3, 3, 0, 4, 1, 2, 3, 4],
            &[0x14, 3, 3, 0, 1, 1],
        ];
        let before = one.status().rejected_connections;
        let began = Instant::now();
        for bytes in garbage {
            let mut stream = TcpStream::connect(one.local_addr()).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let words = last_words(&mut stream).await;
            assert!(words.len() <= 7, "more than an alert: {bytes:?}");
        }
        let took = began.elapsed();
        let rejected = one.status().rejected_connections - before;
        // Those that only hang up are not worth counting.
        assert!(rejected + 2 >= garbage.len() as u64, "{rejected}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        let complaints = log.count("replication port");
        let most = 2 + took.as_secs();
        assert!(
            (1..=most).contains(&(complaints as u64)),
            "{:?}",
            log.lines()
        );

        let key = create(&one, "still").await;
        assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("still"));
        assert_eq!(one.status().members.len(), 2);
    });
}

/// N-02.
#[tokio::test]
async fn who_says_nothing_or_hardly_anything_has_five_seconds() {
    let one = secure("node1", &[]).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(one.local_addr()).await.unwrap();
    let mut slow = TcpStream::connect(one.local_addr()).await.unwrap();
    let drip = async {
        // The beginning of a handshake, and one byte of it after the other.
        let mut bytes = [0x16, 3, 1, 1, 0, 1]
            .into_iter()
            .chain(std::iter::repeat(0));
        while slow.write_all(&[bytes.next().unwrap()]).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, drip).await.unwrap();
    assert_eq!(last_words(&mut silent).await, b"");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(one.status().rejected_connections, 2);
}

/// The first message that a node sends to another one.
async fn opening(to: &ReplicatedStore) -> Vec<u8> {
    let proxy = Proxy::new().await;
    proxy.leads_to(to.local_addr());
    drop(secure("recorded", &[proxy.address]).await);
    eventually("it has asked", || proxy.ended() > 0).await;
    let sent = &proxy.recorded()[0][0];
    let length = usize::from(u16::from_be_bytes([sent[3], sent[4]]));
    sent[..5 + length].to_vec()
}

/// N-06: some attackers hold connections that never send enough, others open new ones without end.
#[test]
fn a_flood_of_connections_keeps_no_node_out() {
    undisturbed(2, async || {
        let _machine = MACHINE.lock().await;
        let one = secure("node1", &[]).await;
        let at = one.local_addr();
        let opening = Arc::new(opening(&one).await);
        let mut flood = JoinSet::new();
        for attacker in 2..6 {
            let opening = opening.clone();
            flood.spawn(async move {
                let from = format!("127.0.0.{attacker}");
                let mut held = std::collections::VecDeque::new();
                for i in 0_u64.. {
                    let Ok(mut stream) = connect_from(&from, at).await else {
                        sleep(Duration::from_millis(1)).await;
                        continue;
                    };
                    // Nothing, a part, or all of what makes the node compute something.
                    let length = opening.len() * (i as usize % 3) / 2;
                    let _ = stream.write_all(&opening[..length]).await;
                    held.push_back(stream);
                    if held.len() > 1000 {
                        held.pop_front();
                    }
                }
            });
        }
        eventually("the room is used up", || {
            one.status().rejected_connections > 1000
        })
        .await;
        let began = Instant::now();
        let two = secure("node2", &[at]).await;
        // The attackers share the machine and its two processors with the nodes.
        let patience = 3 * PATIENCE;
        within(patience, "it joins", || is_settled(&two, 2)).await;
        let key = loop {
            let key = two.new_id().key();
            match try_create(&two, &key, "through").await {
                Ok(()) => break key,
                Err(error) => assert!(began.elapsed() < patience, "{error}"),
            }
        };
        assert_eq!(read(&one, &key).await.unwrap().as_deref(), Some("through"));
        println!(
            "joined after {:?} amid {} connections",
            began.elapsed(),
            one.status().rejected_connections
        );
        flood.shutdown().await;
    });
}

/// N-08, and what its operators read.
#[tokio::test]
async fn both_sides_of_a_wrong_secret_log_what_to_do_and_not_again_at_once() {
    let (log, _guard) = Log::begin();
    let one = secure("node1", &[]).await;
    let peer = one.local_addr().to_string();
    let other = describe("other").secret(secret(2)).peer(&peer);
    let _other = other.start().await.unwrap();
    eventually("the node that dials logs it", || {
        let lines = log.lines();
        // After a freeze, there may be another problem in between, and two of these lines.
        lines.iter().any(|line| {
            line.contains("a replication peer is not trusted")
                && line.contains(&peer)
                && line.contains("no proof that it belongs to this cluster")
        })
    })
    .await;
    eventually("the node that is dialed logs it", || {
        log.count("the proof of this node is not accepted") > 0
    })
    .await;
    let seen = log.count("give all nodes the same secret");
    eventually("it goes on", || one.status().rejected_connections > 5).await;
    let passed = log.count("give all nodes the same secret") - seen;
    assert!(passed <= 3, "{:?}", log.lines());
}

/// N-03: either side is the secured one; both log the mismatch.
#[tokio::test]
async fn nodes_with_and_without_a_secret_log_the_difference() {
    let (log, _guard) = Log::begin();
    let secured = secure("node1", &[]).await;
    let plain = describe("plain").peer(secured.local_addr().to_string());
    let plain: ReplicatedStore = plain.start().await.unwrap();
    for words in [
        "unexpected TLS, because this node has no secret",
        "no TLS: if it is a node, give it the cluster's secret",
    ] {
        eventually(words, || log.count(words) > 0).await;
    }
    drop(secured);
    let _secured = secure("node2", &[plain.local_addr()]).await;
    let words = "the proof of this node is not accepted";
    eventually(words, || log.count(words) > 0).await;
    let is_cause = |line: &String| {
        line.contains("a connection to the replication port was rejected")
            && line.contains("unexpected TLS")
    };
    eventually("the node that is dialed logs it", || {
        log.lines().iter().any(is_cause)
    })
    .await;
    settled(&plain, 1).await;
}
