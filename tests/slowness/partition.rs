//! Partitions that are no clean cut, and links that flap.

use std::time::{Duration, Instant};

use crate::common::namespace::{is_isolated, run};
use crate::common::{Browser, Node, eventually, until, within};
use crate::load::under_load;
use crate::measured::not_beside_measurements;
use crate::network::{Network, start_all};

/// Q-09, K-05: node 3 reaches all; the two on its left and the two on its right do not reach each
/// other.
#[test]
fn after_a_bridge_partition_all_nodes_meet_soon() {
    let _others = not_beside_measurements();
    if !is_isolated(after_a_bridge_partition_all_nodes_meet_soon) {
        return;
    }
    heals(|a, b| a < 3 && b > 3);
}

/// each node reaches its two neighbors.
#[test]
fn after_a_ring_partition_all_nodes_meet_soon() {
    let _others = not_beside_measurements();
    if !is_isolated(after_a_ring_partition_all_nodes_meet_soon) {
        return;
    }
    heals(|a, b| !matches!(b - a, 1 | 4));
}

/// The pairs of five nodes that are separated, the smaller number first.
fn heals(is_separated: impl Fn(usize, usize) -> bool) {
    let (network, nodes) = five();
    let pairs = (1..=5).flat_map(|a| (a + 1..=5).map(move |b| (a, b)));
    let pairs: Vec<_> = pairs.filter(|&(a, b)| is_separated(a, b)).collect();
    for &(a, b) in &pairs {
        network.separate(a, b);
    }
    // Writes wait for nodes that some do not reach.
    while_used(&nodes, || until(Instant::now() + PARTITIONED_FOR));
    for &(a, b) in &pairs {
        network.rejoin(a, b);
    }
    all_meet(&nodes);
}

/// the way between two of five nodes.
#[test]
fn after_a_link_has_flapped_all_nodes_meet_soon() {
    let _others = not_beside_measurements();
    if !is_isolated(after_a_link_has_flapped_all_nodes_meet_soon) {
        return;
    }
    let (network, nodes) = five();
    flaps(&nodes, |is_up| {
        if is_up {
            network.rejoin(2, 4)
        } else {
            network.separate(2, 4)
        }
    });
    all_meet(&nodes);
}

/// the only link of one of five nodes.
#[test]
fn after_a_nodes_only_link_has_flapped_all_nodes_meet_soon() {
    let _others = not_beside_measurements();
    if !is_isolated(after_a_nodes_only_link_has_flapped_all_nodes_meet_soon) {
        return;
    }
    let (_network, nodes) = five();
    flaps(&nodes, |is_up| {
        let state = if is_up { "up" } else { "down" };
        run(&format!("ip link set lan2 {state}"));
    });
    all_meet(&nodes);
}

/// Takes a link away for one second in two.
fn flaps(nodes: &[Node], set: impl Fn(bool)) {
    while_used(nodes, || {
        let began = Instant::now();
        set(false);
        for second in 1..20 {
            until(began + Duration::from_secs(second));
            set(second % 2 == 1);
        }
    });
}

/// Runs `body` while clients write, which may fail: not all nodes reach all others.
fn while_used(nodes: &[Node], body: impl FnOnce()) {
    under_load(&nodes.iter().collect::<Vec<_>>(), body);
}

fn five() -> (Network, Vec<Node>) {
    let network = Network::new(5);
    let nodes = start_all(&network.starts(&[]));
    (network, nodes)
}

/// All nodes see each other soon, and what one takes the next one has.
fn all_meet(nodes: &[Node]) {
    let healed = Instant::now();
    let all: Vec<_> = nodes.iter().collect();
    within(MET_WITHIN, "all nodes see each other and serve", || {
        let mut browser = Browser::new();
        let mut writes = nodes.iter().map(|node| browser.try_get(node, "/incr"));
        nodes.iter().all(|node| node.sees(&all))
            && writes.all(|reply| reply.is_ok_and(|reply| reply.status == 200))
    });
    println!("all met after {:.1?}", healed.elapsed());
    eventually("every node takes a write of the same session", || {
        let mut browser = Browser::new();
        let mut writes = (1..).zip(nodes);
        writes.all(|(at, node)| {
            let reply = browser.get(node, "/incr");
            // One that is not acknowledged may count or not: a new session then.
            let is_taken = reply.status == 200;
            assert!(!is_taken || reply.json()["n"] == at, "{}", reply.text());
            is_taken
        })
    });
}

const PARTITIONED_FOR: Duration = Duration::from_secs(10);
/// A node that was removed again and again serves nothing for four seconds; members that are down
/// are sent an announcement every three seconds; a handshake takes up to two: one behind the other,
/// on a machine that is busy.
const MET_WITHIN: Duration = Duration::from_secs(30);
