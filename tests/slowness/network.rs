//! A router with a link to each node: links have a rate, and pairs of nodes can be separated.
//!
//! ```text
//!            the test, HTTP over 10.1.<i>.0/24, one fast link to each node
//!        ┌──────────┴──────────┐
//!      node1 ─── router ───── node2        10.2.<i>.2: the cluster's network
//! ```
//!
//! The router is the namespace of the test, so relays can run there.

use std::fs;

use crate::common::namespace::{self, Secret, run, start};
use crate::common::{Node, Start, meet};

/// The namespaces `node1`, `node2`, … around a router.
pub(crate) struct Network {
    secret: Secret,
    nodes: usize,
}

/// What the interface of a node can carry, in the words of `tc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) rate: &'static str,
    pub(crate) burst: &'static str,
    /// The longest time that a packet waits in the queue before packets are dropped.
    pub(crate) latency: &'static str,
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Self {
        namespace::prepare();
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a namespace can forward");
        run(&format!("ip addr add {RELAYS}/32 dev lo"));
        for i in 1..=nodes {
            namespace::add(i);
            run(&format!(
                "ip link add lan{i} type veth peer name eth0 netns node{i}"
            ));
            run(&format!("ip addr add 10.2.{i}.1/24 dev lan{i}"));
            run(&format!("ip link set lan{i} up"));
            run(&format!("ip -n node{i} addr add 10.2.{i}.2/24 dev eth0"));
            run(&format!("ip -n node{i} link set eth0 up"));
            run(&format!(
                "ip -n node{i} route add 10.2.0.0/16 via 10.2.{i}.1"
            ));
        }
        Self {
            secret: Secret::new(),
            nodes,
        }
    }

    /// The configurations of nodes, each with the addresses of all others.
    pub(crate) fn starts(&self, args: &[&str]) -> Vec<Start> {
        self.each(args, |j| format!("10.2.{j}.2:4000"))
    }

    /// The same, with everything between them going through the test's relay.
    pub(crate) fn relayed(&self, args: &[&str]) -> Vec<Start> {
        let relays = |j: usize| format!("{RELAYS}:{}", relay_port(j));
        let starts = self.each(args, relays).into_iter().enumerate();
        starts
            .map(|(at, start)| start.args(&["--advertise", &relays(at + 1)]))
            .collect()
    }

    fn each(&self, args: &[&str], reached: impl Fn(usize) -> String) -> Vec<Start> {
        let one = |i: usize| {
            let listen = format!("10.2.{i}.2:4000");
            let mut start = start(i, &self.secret).args(&["--cluster-listen", &listen]);
            start = start.args(&["--cluster-name", "slowness"]).args(args);
            // Not each of hundreds of requests that fail.
            start = start.log("info,distributable::middleware=error");
            for peer in (1..=self.nodes).filter(|&peer| peer != i) {
                start = start.args(&["--peer", &reached(peer)]);
            }
            start
        };
        (1..=self.nodes).map(one).collect()
    }

    /// Gives the interface of each node this shape.
    pub(crate) fn shape(&self, shape: Shape) {
        let Shape {
            rate,
            burst,
            latency,
        } = shape;
        for i in 1..=self.nodes {
            let queue = format!("root tbf rate {rate} burst {burst} latency {latency}");
            run(&format!("tc -n node{i} qdisc replace dev eth0 {queue}"));
        }
    }

    /// Drops every packet between two nodes, in silence.
    pub(crate) fn separate(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            run(&rule("add", from, to));
        }
    }

    /// Lets their packets pass again.
    pub(crate) fn rejoin(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            run(&rule("del", from, to));
        }
    }
}

fn rule(verb: &str, from: usize, to: usize) -> String {
    format!("ip rule {verb} from 10.2.{from}.2 to 10.2.{to}.2 blackhole")
}

/// Starts these nodes and waits until they see each other.
pub(crate) fn start_all(starts: &[Start]) -> Vec<Node> {
    let nodes: Vec<_> = starts.iter().map(Start::start).collect();
    meet(&nodes.iter().collect::<Vec<_>>());
    nodes
}

/// The port at which relays carry connections on to a node.
pub(crate) fn relay_port(node: usize) -> u16 {
    4000 + u16::try_from(node).expect("a handful of nodes")
}

/// The router's own address.
pub(crate) const RELAYS: &str = "10.2.0.254";
