//! Connections that are not from nodes of the cluster.

use std::time::Duration;

use distributable::ReplicatedStore;
use distributable::store::ReplicatedStoreBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::log::undisturbed;
use super::{PATIENCE, cluster, create, describe, eventually, node, read, settled};

async fn connect(store: &ReplicatedStore) -> TcpStream {
    TcpStream::connect(store.local_addr()).await.unwrap()
}

/// Returns `true` if the other side closes and sends nothing, or only a TLS alert.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut words = Vec::new();
    // A reset is as good an end as any: not all that was sent has been read.
    let read = timeout(PATIENCE, stream.read_to_end(&mut words)).await;
    read.is_ok() && matches!(words[..], [] | [0x15, 3, 3, 0, 2, 2, 49])
}

/// The first message that a node sends to a peer that it dials: its handshake.
async fn handshake(cluster: &str, name: &str) -> (ReplicatedStore, Vec<u8>) {
    handshake_of(describe(name, &[]).cluster_name(cluster)).await
}

async fn handshake_of(node: ReplicatedStoreBuilder) -> (ReplicatedStore, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node.peer(listener.local_addr().unwrap().to_string());
    let accepted = async {
        // The first one only asks which incarnations were seen.
        let (asking, _) = listener.accept().await.unwrap();
        drop(asking);
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.unwrap();
        let mut frame = vec![0; u32::from_be_bytes(head) as usize];
        stream.read_exact(&mut frame).await.unwrap();
        [&head[..], &frame].concat()
    };
    let (node, hello) = tokio::join!(node.start(), accepted);
    (node.unwrap(), hello)
}

#[derive(Debug, PartialEq)]
enum Answer {
    Welcome,
    Refused(u8),
}

async fn answer(stream: &mut TcpStream) -> Answer {
    let head = stream.read_u32().await.unwrap();
    let mut frame = vec![0; head as usize];
    stream.read_exact(&mut frame).await.unwrap();
    match frame[..] {
        [0, ..] => Answer::Welcome,
        [1, why, ..] => Answer::Refused(why),
        _ => panic!("{frame:?}"),
    }
}

/// N-02, N-04, N-07.
#[test]
fn garbage_is_turned_away_and_disturbs_no_node() {
    undisturbed(1, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let garbage: [&[u8]; 8] = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            &[0xff; 64],
            // A length just over what unknown clients may send, and the largest.
            &[0, 0, 0x10, 1],
            &[0xff, 0xff, 0xff, 0xff],
            // A short frame with nonsense in it.
            &[0, 0, 0, 4, 1, 2, 3, 4],
        ];
        let before = one.status().rejected_connections;
        for bytes in garbage {
            let mut stream = connect(&one).await;
            stream.write_all(bytes).await.unwrap();
            assert!(is_closed(&mut stream).await, "{bytes:?}");
        }
        let rejected = one.status().rejected_connections - before;
        assert_eq!(rejected, garbage.len() as u64);

        let key = create(&one, "still").await;
        assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("still"));
        assert_eq!(one.status().members.len(), 2);
    });
}

#[tokio::test]
async fn garbage_after_a_valid_handshake_ends_the_link() {
    let one = node("node1", &[]).await;
    let (_two, hello) = handshake("distributable", "node2").await;
    let garbage: [&[u8]; 7] = [
        &[0xff; 8],
        // No message of this version, and no segment.
        &[0, 0, 0, 1, 0, 0, 0, 0, 99],
        &[9, 0, 0, 1, 0, 0, 0, 0, 14],
        // A write of 2^63 copies.
        &[
            1, 0, 0, 14, 0, 0, 0, 0, 2, 1, 2, 0, 3, 255, 255, 255, 255, 255, 255, 255, 255, 127,
        ],
        // A chunk of nothing, and a message longer than any may be.
        &[3, 0, 0, 1, 0, 0, 0, 0, 1],
        &[2, 0, 0, 4, 0, 0, 0, 0, 0x10, 0, 0, 1],
        // A credit, which goes the other way.
        &[
            4, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1,
        ],
    ];
    for bytes in garbage {
        let mut stream = connect(&one).await;
        stream.write_all(&hello).await.unwrap();
        assert_eq!(answer(&mut stream).await, Answer::Welcome);
        stream.write_all(bytes).await.unwrap();
        assert!(is_closed(&mut stream).await, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_handshake_is_understood_byte_by_byte() {
    let one = node("node1", &[]).await;
    let (_two, hello) = handshake("distributable", "node2").await;
    let mut stream = connect(&one).await;
    stream.set_nodelay(true).unwrap();
    for byte in hello {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(answer(&mut stream).await, Answer::Welcome);
}

#[tokio::test]
async fn a_handshake_that_is_cut_off_is_nothing() {
    let one = node("node1", &[]).await;
    let (_two, hello) = handshake("distributable", "node2").await;
    for end in 0..hello.len() {
        let mut stream = connect(&one).await;
        stream.write_all(&hello[..end]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(is_closed(&mut stream).await, "after {end} bytes");
    }
    assert_eq!(one.status().members.len(), 1);
}

/// N-08.
#[test]
fn a_node_that_may_not_join_receives_the_reason() {
    undisturbed(1, async || {
        let (one, own) = handshake("distributable", "node1").await;
        let (_other, elsewhere) = handshake("other", "node2").await;
        let (_double, double) = handshake("distributable", "node1").await;
        let (_two, proper) = handshake("distributable", "node2").await;
        let mut later = proper.clone();
        // After the length and eight bytes of magic: the versions that it speaks.
        later[12..14].copy_from_slice(&[3, 100]);
        let cases = [
            (later, Answer::Refused(0)),
            (elsewhere, Answer::Refused(1)),
            (own, Answer::Refused(2)),
            (double, Answer::Refused(3)),
            (proper, Answer::Welcome),
        ];
        for (hello, expected) in cases {
            let mut stream = connect(&one).await;
            stream.write_all(&hello).await.unwrap();
            assert_eq!(answer(&mut stream).await, expected);
        }
    });
}

#[tokio::test]
async fn who_says_nothing_is_turned_away() {
    let one = node("node1", &[]).await;
    let mut silent = connect(&one).await;
    let mut slow = connect(&one).await;
    slow.write_all(&[0, 0]).await.unwrap();
    let connected = Instant::now();
    assert!(is_closed(&mut silent).await);
    assert!(is_closed(&mut slow).await);
    assert!(
        connected.elapsed().as_secs() < 10,
        "{:?}",
        connected.elapsed()
    );
}

#[tokio::test]
async fn many_silent_connections_keep_no_node_out() {
    const ROUNDS: usize = 8;
    for _ in 0..ROUNDS {
        let one = node("node1", &[]).await;
        settled(&one, 1).await;
        let began = Instant::now();
        let mut crowd = Vec::new();
        for _ in 0..600 {
            crowd.push(connect(&one).await);
        }
        let two = node("node2", &[one.local_addr()]).await;
        settled(&two, 2).await;
        eventually("the first had to make room", || {
            one.status().rejected_connections >= 300
        })
        .await;
        // Otherwise the first may have been closed by their timeout.
        if began.elapsed().as_secs() < 5 {
            return;
        }
    }
    panic!("no node had to wait for a timeout");
}

#[tokio::test]
async fn a_node_that_was_dialed_in_vain_is_dialed_at_once_when_it_knocks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let two = describe("node2", &[]).advertise(address.to_string());
    let (_two, hello) = handshake_of(two).await;
    let one = node("node1", &[address]).await;
    // By now it waits for half a second or more after each attempt.
    for _ in 0..7 {
        drop(listener.accept().await.unwrap());
    }
    let mut stream = connect(&one).await;
    stream.write_all(&hello).await.unwrap();
    assert_eq!(answer(&mut stream).await, Answer::Welcome);
    let dialed = timeout(Duration::from_millis(450), listener.accept()).await;
    assert!(dialed.is_ok());
}
