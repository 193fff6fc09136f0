//! Nodes on machines of their own: network namespaces that are joined by a switch.
//!
//! Each test runs once more in a namespace for itself, in which it may do what it likes with the
//! network; everything in it vanishes with it.
//!
//! ```text
//!            the test, HTTP over 10.1.<i>.0/24, one link to each node
//!        ┌──────────┴──────────┐
//!      node1 ── switch ────── node2        10.2.0.<i>: the cluster's network, which can be cut
//! ```

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::common::namespace::{self, Secret, is_isolated, run, start};
use crate::common::{Browser, Node, Start, eventually, meet, undisturbed};
use crate::failures::SetOnDrop;
use socket2::Socket;

/// Namespaces `node1`, `node2`, … on one switch.
fn network(nodes: usize) {
    namespace::prepare();
    run("ip link add switch type bridge");
    run("ip link set switch up");
    for i in 1..=nodes {
        namespace::add(i);
        run(&format!(
            "ip link add lan{i} type veth peer name eth0 netns node{i}"
        ));
        run(&format!("ip link set lan{i} master switch"));
        run(&format!("ip link set lan{i} up"));
        run(&format!("ip -n node{i} addr add 10.2.0.{i}/24 dev eth0"));
        run(&format!("ip -n node{i} link set eth0 up"));
    }
}

/// Both have all that was written on either side while they were apart.
fn agree(nodes: [&Node; 2], browser: &mut Browser, values: [(&str, &str); 3]) {
    for node in nodes {
        for (name, value) in values {
            eventually(&format!("{node:?} has {name}"), || {
                let reply = browser.try_get(node, &format!("/get?k={name}"));
                reply.is_ok_and(|reply| reply.status == 200 && reply.json()["value"] == value)
            });
        }
    }
}

/// N-01, 57, 58, K-05.
#[test]
fn machines_find_each_other_by_multicast_and_again_after_the_network_was_cut() {
    if !is_isolated(machines_find_each_other_by_multicast_and_again_after_the_network_was_cut) {
        return;
    }
    network(2);
    let secret = Secret::new();
    let [one, two] = [1, 2].map(|i| {
        let listen = format!("10.2.0.{i}:4000");
        let start = start(i, &secret).args(&["--cluster-listen", &listen]);
        start.args(&["--multicast"]).start()
    });
    meet(&[&one, &two]);
    let mut browser = Browser::new();
    browser.ok(&one, "/set?k=before&v=1");
    assert_eq!(browser.value(&two, "before").as_deref(), Some("1"));

    run("ip link set lan2 down");
    for node in [&one, &two] {
        eventually("it goes on alone", || node.members() == 1);
    }
    browser.ok(&one, "/set?k=here&v=2");
    browser.ok(&two, "/set?k=there&v=3");
    run("ip link set lan2 up");
    meet(&[&one, &two]);
    let values = [("before", "1"), ("here", "2"), ("there", "3")];
    agree([&one, &two], &mut browser, values);
}

/// N-01. A node at all addresses advertises the one that its peers can reach.
#[test]
fn a_node_at_all_addresses_is_reached_at_the_one_toward_its_peer() {
    if !is_isolated(a_node_at_all_addresses_is_reached_at_the_one_toward_its_peer) {
        return;
    }
    network(2);
    undisturbed(|| {
        let secret = Secret::new();
        let [one, two] = [1, 2].map(|i| {
            let start = start(i, &secret).args(&["--cluster-listen", "0.0.0.0:4000"]);
            start
                .args(&["--peer", &format!("10.2.0.{}:4000", 3 - i)])
                .start()
        });
        meet(&[&one, &two]);
        let members = one.cluster()["members"].clone();
        let addresses: Vec<_> = members
            .as_array()
            .expect("an array")
            .iter()
            .map(|member| member["address"].as_str().expect("text").to_owned())
            .collect();
        assert_eq!(addresses, ["10.2.0.1:4000", "10.2.0.2:4000"]);
    });
}

/// G-01, G-03: what comes too fast is dropped before it costs much, and joining goes on.
#[test]
fn a_flood_of_datagrams_costs_little_and_keeps_no_node_out() {
    if !is_isolated(a_flood_of_datagrams_costs_little_and_keeps_no_node_out) {
        return;
    }
    run("ip link set lo up");
    undisturbed(|| {
        let secret = Secret::new();
        let start = |i: usize| {
            Start::default()
                .args(&["--store", "replicated", "--route", &format!("node{i}")])
                .args(&["--secret-file", secret.path(), "--multicast"])
        };
        let one = start(1).ready();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _end = SetOnDrop(&stop);
            let flood = scope.spawn(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                let socket = Socket::from(socket);
                let through = socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST);
                through.expect("an interface can be chosen");
                let socket = UdpSocket::from(socket);
                let mut sent = 0_u64;
                while !stop.load(Relaxed) {
                    sent += u64::from(socket.send_to(&[0x5a; 59], "228.0.0.4:45564").is_ok());
                }
                sent
            });
            let (began, before) = (Instant::now(), one.cpu_time());
            sleep(Duration::from_secs(2));
            // On a busy machine, more time has passed than that.
            let (took, cost) = (began.elapsed(), one.cpu_time() - before);
            let mut browser = Browser::new();
            browser.ok(&one, "/set?k=a&v=1");
            let two = start(2).start();
            meet(&[&one, &two]);
            stop.store(true, Relaxed);
            let sent = flood.join().expect("it does not panic");
            println!("{sent} datagrams; they took {cost:?} of {took:?}");
            assert!(sent > 10_000, "it was a flood");
            assert!(cost < took.mul_f32(0.4), "{cost:?} of {took:?}");
        });
    });
}
