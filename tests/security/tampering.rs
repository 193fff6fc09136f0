//! Bytes that are changed, cut off, repeated or torn apart on their way.

use std::sync::Arc;

use distributable::{ReplicatedStore, Root, SessionStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::log::undisturbed;
use super::proxy::{Proxy, Trick};
use super::replicas::{
    MACHINE, PATIENCE, create, describe_secure, eventually, read, secure, settled, within,
};

/// Two nodes that reach each other through proxies only, and the proxy to the first one.
async fn pair_through_proxies(trick: Trick) -> ([ReplicatedStore; 2], [Proxy; 2]) {
    let proxies = [Proxy::new().await, Proxy::new().await];
    let mut nodes = Vec::new();
    for (proxy, name) in proxies.iter().zip(["node1", "node2"]) {
        proxy.trick(trick, trick);
        let peers = [proxies[0].address];
        let node = describe_secure(name, &peers).advertise(proxy.address.to_string());
        let node = node.start().await.unwrap();
        proxy.leads_to(node.local_addr());
        nodes.push(node);
    }
    let nodes: [_; 2] = nodes.try_into().unwrap();
    for node in &nodes {
        settled(node, 2).await;
    }
    (nodes, proxies)
}

/// Creates one session after the other until something has happened.
async fn create_until(
    store: &ReplicatedStore,
    mut happened: impl FnMut() -> bool,
) -> Vec<(Root, String)> {
    let mut created = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "nothing has happened");
        let value = format!("value{}", created.len());
        created.push((create(store, &value).await, value));
    }
    created
}

/// What a handshake looks like on its way to a node, and the answer.
async fn handshake(to: &ReplicatedStore) -> [Vec<u8>; 2] {
    let proxy = Proxy::new().await;
    proxy.leads_to(to.local_addr());
    let node = secure("recorded", &[proxy.address]).await;
    eventually("it has asked", || proxy.ended() > 0).await;
    drop(node);
    settled(to, 1).await;
    proxy.recorded().swap_remove(0)
}

/// The places that change nothing: in front of every record the minor version, which means nothing
/// any more (RFC 8446, section 5.1), and in front of encrypted ones the type, which is inside as
/// well. Section 5.2 protects both there; rustls 0.23 takes them for what they have to be.
fn meaningless(stream: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = 0;
    while at + 5 <= stream.len() {
        places.push(at + 2);
        if stream[at] == 0x17 {
            places.push(at);
        }
        at += 5 + usize::from(u16::from_be_bytes([stream[at + 3], stream[at + 4]]));
    }
    places
}

/// Changes one byte.
fn flip(at: usize) -> Trick {
    Trick::Flip { at, count: 1 }
}

/// Lets a node dial another one for each of the tricks. Returns those that were admitted.
async fn who_comes_in(one: &ReplicatedStore, tricks: Vec<[Trick; 2]>) -> Vec<[Trick; 2]> {
    // Some of them end with a timeout: those should not wait for each other.
    let room = Arc::new(Semaphore::new(32));
    let mut tasks = JoinSet::new();
    let unharmed = [Trick::None; 2];
    for (i, trick) in tricks.into_iter().chain([unharmed]).enumerate() {
        let (room, one) = (room.clone(), one.clone());
        tasks.spawn(async move {
            let _room = room.acquire_owned().await.unwrap();
            let proxy = Proxy::new().await;
            proxy.leads_to(one.local_addr());
            proxy.trick(trick[0], trick[1]);
            let name = format!("probe{i}");
            // At an address that no other one had: members that are gone are still dialed.
            let bind = format!("127.1.{}.{}:0", i / 250, 1 + i % 250);
            let node = describe_secure(&name, &[proxy.address]).bind(bind);
            let _node = node.start().await.unwrap();
            let is_in = || {
                let members = one.status().members;
                members.iter().any(|member| member.route == name)
            };
            // Asking what was seen of it, dialing, and dialing again, which has a long time if it
            // was welcome: it joins at the real address then. On a busy machine all three may end
            // with a timeout, so that nothing but joining counts for the unharmed one.
            let has_tried = || trick != unharmed && proxy.ended() >= 3;
            within(3 * PATIENCE, "it has tried", || is_in() || has_tried()).await;
            is_in().then_some(trick)
        });
    }
    let mut came_in: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    settled(one, 1).await;
    let all = came_in.len();
    came_in.retain(|trick| *trick != unharmed);
    assert_eq!(all - came_in.len(), 1, "an unharmed handshake lets in");
    came_in
}

/// N-03, 59: every byte that both sides send until they are authenticated.
#[test]
fn no_changed_byte_of_a_handshake_is_accepted() {
    undisturbed(2, async || {
        let _machine = MACHINE.lock().await;
        let one = secure("node1", &[]).await;
        settled(&one, 1).await;
        let said = handshake(&one).await;
        let towards = (0..said[0].len()).map(|at| [flip(at), Trick::None]);
        let back = (0..said[1].len()).map(|at| [Trick::None, flip(at)]);
        let tricks: Vec<_> = towards.chain(back).collect();
        let count = tricks.len();
        let mut came_in = who_comes_in(&one, tricks).await;
        came_in.retain(|trick| match trick {
            [Trick::Flip { at, .. }, _] => !meaningless(&said[0]).contains(at),
            [_, Trick::Flip { at, .. }] => !meaningless(&said[1]).contains(at),
            _ => true,
        });
        assert_eq!(came_in, [[Trick::None; 2]; 0]);
        println!(
            "{count} changed bytes, {} turned away",
            one.status().rejected_connections
        );

        let two = secure("node2", &[one.local_addr()]).await;
        settled(&two, 2).await;
    });
}

/// N-07.
#[test]
fn a_handshake_that_ends_anywhere_is_none_and_no_node_waits_for_the_rest() {
    undisturbed(2, async || {
        let _machine = MACHINE.lock().await;
        let one = secure("node1", &[]).await;
        settled(&one, 1).await;
        let said = handshake(&one).await;
        let cuts = |at: usize| {
            let cut = Trick::Cut {
                at,
                reset: at.is_multiple_of(2),
            };
            [[cut, Trick::None], [Trick::None, cut]]
        };
        let shorter = said[0].len().min(said[1].len());
        let came_in = who_comes_in(&one, (0..shorter).flat_map(cuts).collect()).await;
        assert_eq!(came_in, [[Trick::None; 2]; 0]);
        let two = secure("node2", &[one.local_addr()]).await;
        settled(&two, 2).await;
    });
}

/// N-07.
#[test]
fn a_stream_of_single_bytes_is_the_same_stream() {
    undisturbed(2, async || {
        let _machine = MACHINE.lock().await;
        let ([one, two], _proxies) = pair_through_proxies(Trick::Dribble).await;
        // Tens of thousands of bytes in both directions, and no more: each of them is a packet.
        let value = "0123456789".repeat(500);
        for _ in 0..5 {
            let key = create(&two, &value).await;
            assert_eq!(read(&one, &key).await.unwrap().as_deref(), Some(&*value));
            assert!(one.delete(&key).await.unwrap());
            assert_eq!(read(&two, &key).await.unwrap(), None);
        }
    });
}

/// N-03, 59: links that are damaged in the middle are made anew, and nothing is lost.
#[test]
fn a_damaged_link_is_closed_counted_and_made_anew() {
    undisturbed(2, async || {
        let ([one, two], [proxy, _back]) = pair_through_proxies(Trick::None).await;
        let rejected = || one.status().rejected_connections;
        // More than any bytes next to each other that mean nothing.
        let flip = |at| Trick::Flip { at, count: 3 };
        for trick in [flip(1500), flip(2000), Trick::Twice(1500)] {
            let before = rejected();
            proxy.trick(trick, Trick::None);
            // The link that is there goes on; the next one is damaged.
            proxy.cut_all();
            let created = create_until(&two, || rejected() > before).await;
            proxy.trick(Trick::None, Trick::None);
            settled(&one, 2).await;
            settled(&two, 2).await;
            for (key, value) in created {
                assert_eq!(read(&one, &key).await.unwrap().as_deref(), Some(&*value));
            }
        }
    });
}

/// N-05: what was recorded proves nothing, on the same connection or another.
#[test]
fn a_recorded_stream_that_is_played_again_changes_nothing() {
    undisturbed(2, async || {
        let ([one, two], [proxy, _back]) = pair_through_proxies(Trick::None).await;
        let key = create(&two, "once").await;
        assert!(two.delete(&key).await.unwrap());
        let before = one.status().rejected_connections;
        let recorded = proxy.recorded();
        for [towards, _] in &recorded {
            let mut stream = TcpStream::connect(one.local_addr()).await.unwrap();
            stream.write_all(towards).await.unwrap();
            let mut answer = Vec::new();
            // It is closed, one way or the other.
            let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
                .await
                .unwrap();
        }
        eventually("each was turned away", || {
            one.status().rejected_connections - before == recorded.len() as u64
        })
        .await;
        assert_eq!(read(&one, &key).await.unwrap(), None);
        assert_eq!(read(&two, &key).await.unwrap(), None);
        assert_eq!(one.status().members.len(), 2);
    });
}
