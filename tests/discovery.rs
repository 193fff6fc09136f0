//! Discovery of nodes, and attempts of other programs to disturb it.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "common/log.rs"]
mod log;
#[path = "common/replicas.rs"]
mod replicas;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::Duration;

use distributable::SetupErrorKind;
use distributable::store::{Multicast, ReplicatedStoreBuilder};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, sleep, timeout};

use log::undisturbed;
use replicas::{MACHINE, PATIENCE, describe, describe_secure, is_settled, secret, settled, within};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// Tomcat's group, at a port that no other test uses.
fn group() -> (Multicast, SocketAddrV4) {
    let port = free_port();
    let address = SocketAddrV4::new(Ipv4Addr::new(228, 0, 0, 4), port);
    (Multicast::default().port(port), address)
}

/// A member of the group that is not a node.
fn outsider(group: SocketAddrV4) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    let lo = Ipv4Addr::LOCALHOST;
    socket.set_reuse_address(true).unwrap();
    socket.bind(&group.into()).unwrap();
    socket.join_multicast_v4(group.ip(), &lo).unwrap();
    socket.set_multicast_if_v4(&lo).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// A sender to the group, which would receive an answer.
fn sender() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = Socket::from(socket);
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// Sends to the group, once there is room for it.
fn send(sender: &UdpSocket, bytes: &[u8], group: SocketAddrV4) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = sender.send_to(bytes, group) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        assert!(Instant::now() < deadline, "nothing is sent");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a node with secret 1 sends that is reached at `address`; it is gone when this returns.
async fn recorded(group: (Multicast, SocketAddrV4), address: SocketAddr) -> Vec<u8> {
    let listening = outsider(group.1);
    let node = describe_secure("recorded", &[]).advertise(address.to_string());
    let node = node.multicast(group.0).start().await.unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        let mut beacon = [0; 2048];
        let length = listening.recv(&mut beacon).unwrap();
        beacon[..length].to_vec()
    });
    let beacon = heard.await.unwrap();
    drop(node);
    beacon
}

/// Case 57: Tomcat blocks for a minute here.
async fn all_see_all_within_seconds(nodes: Vec<ReplicatedStoreBuilder>) {
    let _machine = MACHINE.lock().await;
    let count = nodes.len();
    let began = Instant::now();
    let starting: Vec<_> = nodes
        .into_iter()
        .map(|node| tokio::spawn(node.start()))
        .collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.unwrap().unwrap());
    }
    within(3 * PATIENCE, "all see all", || {
        nodes.iter().all(|node| is_settled(node, count))
    })
    .await;
    println!("{count} nodes saw each other after {:?}", began.elapsed());
}

fn ten() -> impl Iterator<Item = ReplicatedStoreBuilder> {
    (0..10).map(|i| describe_secure(&format!("node{i}"), &[]))
}

/// Case 57.
#[test]
fn ten_nodes_that_start_together_find_each_other_by_multicast() {
    undisturbed(2, async || {
        let (group, _) = group();
        all_see_all_within_seconds(ten().map(|node| node.multicast(group)).collect()).await;
    });
}

/// Case 57: all have the same list, in which they are themselves.
#[test]
fn ten_nodes_that_start_together_find_each_other_by_one_list() {
    undisturbed(2, async || {
        // All of 127.0.0.0/8 is this machine, and no other program uses these addresses.
        let [_, _, a, b] = std::process::id().to_be_bytes();
        let addresses: Vec<_> = (1..=10)
            .map(|i| format!("127.{}.{b}.{i}:4000", a | 0x80))
            .collect();
        let nodes = ten().zip(&addresses).map(|(node, address)| {
            let node = node.bind(address);
            addresses.iter().fold(node, ReplicatedStoreBuilder::peer)
        });
        all_see_all_within_seconds(nodes.collect()).await;
    });
}

#[test]
fn a_name_is_looked_up_until_a_node_is_there() {
    undisturbed(1, async || {
        // Outside the range from which the system assigns ports, and those of other tests.
        let port = 10_000 + std::process::id() % 1_000;
        // A name that does not resolve delays no other lookup.
        let one = describe_secure("node1", &[])
            .peer("nobody.invalid:4000")
            .peer(format!("localhost:{port}"));
        let one = one.start().await.unwrap();
        settled(&one, 1).await;
        let two = describe_secure("node2", &[]).bind(format!("127.0.0.1:{port}"));
        let two = two.start().await.unwrap();
        settled(&one, 2).await;
        settled(&two, 2).await;
    });
}

/// Without a secret on loopback too, which leaves no machine.
#[tokio::test]
async fn without_a_secret_multicast_is_for_one_machine() {
    let (multicast, _) = group();
    let one = describe("node1")
        .multicast(multicast)
        .start()
        .await
        .unwrap();
    let two = describe("node2")
        .multicast(multicast)
        .start()
        .await
        .unwrap();
    settled(&one, 2).await;
    settled(&two, 2).await;

    let leaving = multicast.interface(Ipv4Addr::new(192, 0, 2, 1));
    let odd = [
        describe("node3").multicast(leaving),
        describe_secure("node3", &[]).multicast(leaving),
        describe("node3").multicast(multicast.group(Ipv4Addr::LOCALHOST)),
        describe("node3").multicast(multicast.port(0)),
    ];
    for node in odd {
        let refused = node.start().await.unwrap_err();
        assert_eq!(refused.kind(), SetupErrorKind::Node, "{refused}");
    }
}

/// Case 57: they do not even connect.
#[test]
fn clusters_with_other_secrets_and_names_share_a_group_and_do_not_interfere() {
    undisturbed(1, async || {
        let (multicast, _) = group();
        let nodes = [
            describe_secure("node1", &[]),
            describe_secure("node2", &[]).cluster_name("another"),
            describe("node3").secret(secret(2)),
            describe("node4"),
        ];
        let mut started = Vec::new();
        for node in nodes {
            started.push(node.multicast(multicast).start().await.unwrap());
        }
        let twin = describe_secure("twin", &[]).multicast(multicast);
        let twin = twin.start().await.unwrap();
        settled(&twin, 2).await;
        settled(&started[0], 2).await;
        for stranger in &started[1..] {
            settled(stranger, 1).await;
            assert_eq!(stranger.status().rejected_connections, 0);
        }
    });
}

/// G-01, G-02.
#[tokio::test]
async fn forged_beacons_of_every_kind_are_not_answered_and_lead_nowhere() {
    let (multicast, address) = group();
    let bait = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = recorded((multicast, address), ([127, 0, 0, 1], free_port()).into()).await;
    let one = describe_secure("node1", &[]).multicast(multicast);
    let one = one.start().await.unwrap();

    let sender = sender();
    let send = |bytes: &[u8]| send(&sender, bytes, address);
    let port = bait.local_addr().unwrap().port();
    let mut forged = real.clone();
    // In front of the signature.
    let at = forged.len() - 34;
    forged[at..at + 2].copy_from_slice(&port.to_be_bytes());
    for _ in 0..100 {
        send(&forged);
    }
    for length in (0..1400).chain([9000, 60_000]) {
        send(&vec![0x5a; length]);
        let cut = &forged[..length.min(forged.len())];
        send(cut);
        // As fast as the node reads.
        sleep(Duration::from_micros(100)).await;
    }
    send(b"TRIBES-B\x01\0 what Tomcat says at this port");

    let two = describe_secure("node2", &[]).multicast(multicast);
    let two = two.start().await.unwrap();
    settled(&one, 2).await;
    settled(&two, 2).await;
    let dialed = timeout(Duration::ZERO, bait.accept()).await;
    assert!(dialed.is_err(), "no node has connected to the bait");
    let answer = sender.recv(&mut [0; 2048]);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// G-02.
#[tokio::test]
async fn a_replayed_beacon_has_its_address_dialed_and_nothing_else() {
    let (multicast, address) = group();
    let bait = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = recorded((multicast, address), bait.local_addr().unwrap()).await;
    let one = describe_secure("node1", &[]).multicast(multicast);
    let one = one.start().await.unwrap();
    settled(&one, 1).await;
    let sender = sender();
    let mut again = interval(Duration::from_millis(20));
    let accepted = async {
        let (mut knocking, _) = bait.accept().await.unwrap();
        let mut first = [0; 2];
        knocking.read_exact(&mut first).await.unwrap();
        first
    };
    let replayed = async {
        loop {
            again.tick().await;
            send(&sender, &real, address);
        }
    };
    let first = tokio::select! {
        first = timeout(PATIENCE, accepted) => first.unwrap(),
        () = replayed => unreachable!(),
    };
    // A handshake, in which the bait would have to prove itself.
    assert_eq!(first, [0x16, 0x03]);
    assert_eq!(one.status().members.len(), 1);
    let answer = sender.recv(&mut [0; 2048]);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::WouldBlock);
}
