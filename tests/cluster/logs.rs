//! Log lines of nodes, as an operator reads them.

use crate::common::{Browser, Node, cluster, eventually, meet, undisturbed};

/// The lines of a node's log with these words.
fn lines(node: &Node, words: &str) -> Vec<String> {
    let log = node.log();
    let found = log.lines().filter(|line| line.contains(words));
    found.map(str::to_owned).collect()
}

#[test]
fn a_node_logs_its_settings_and_the_death_of_a_member_with_its_cause() {
    undisturbed(|| {
        let [n1, n2, mut n3] = cluster(&["--copies", "2"]);
        meet(&[&n1, &n2, &n3]);
        let start = lines(&n1, "starting a replicated node");
        assert_eq!(start.len(), 1, "{start:?}");
        for field in [
            "node=node1",
            "cluster=",
            "address=127.0.0.1:",
            "secret=",
            "copies=",
            "ack=",
            "version=",
        ] {
            assert!(start[0].contains(field), "{field} is missing: {start:?}");
        }
        for _ in 0..30 {
            Browser::new().ok(&n3, "/set?k=a&v=1");
        }

        n3.kill();
        let mut refused = 0;
        for node in [&n1, &n2] {
            eventually("redundancy is restored", || {
                !lines(node, "redundancy restored").is_empty()
            });
            let down = lines(node, "a member is down");
            assert_eq!(down.len(), 1, "{down:?}");
            assert!(
                down[0].contains("WARN")
                    && down[0].contains("node=node3")
                    && down[0].contains("cause="),
                "{down:?}"
            );
            refused += usize::from(down[0].contains("cause=\"connection refused\""));
            let restored = lines(node, "redundancy restored");
            assert!(
                restored[0].contains("INFO") && restored[0].contains("elapsed_ms="),
                "{restored:?}"
            );
            let copied = lines(node, "copying the sessions that lack copies");
            let sessions = |line: &str| {
                let (_, rest) = line.split_once("sessions=").expect("a number of sessions");
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                digits
                    .and_then(|n| n.parse::<u32>().ok())
                    .expect("a number")
            };
            assert!((1..=30).contains(&sessions(&copied[0])), "{copied:?}");
            assert_eq!(sessions(&copied[0]), sessions(&restored[0]));
        }
        // The node that detects it first informs the other, which may not have tried to connect.
        assert!(refused > 0, "no node logs the cause");
    });
}

#[test]
fn an_orderly_restart_of_every_node_logs_no_warning() {
    logs_no_warning(restart_every_node);
}

/// Restarts the nodes of a cluster. Returns what they have logged as warnings and errors.
fn restart_every_node() -> Vec<String> {
    let mut warnings = Vec::new();
    let mut nodes: [Node; 3] = cluster(&[]);
    meet(&nodes.each_ref());
    Browser::new().ok(&nodes[0], "/set?k=a&v=1");
    for at in 0..nodes.len() {
        nodes[at].stop();
        warnings.extend(alarms(&nodes[at]));
        let route = format!("node=node{}", at + 1);
        for (other, node) in nodes.iter().enumerate() {
            if other != at {
                eventually("the member has left", || {
                    let left = lines(node, "a member has left the cluster");
                    let down = lines(node, "a member is down");
                    let mut gone = left.iter().chain(&down);
                    gone.any(|line| line.contains(&route))
                });
            }
        }
        let log = nodes[at].log();
        assert!(
            log.contains("left the cluster: all sessions handed over"),
            "{log}"
        );
        nodes[at].restart();
        nodes[at].wait_ready();
        meet(&nodes.each_ref());
    }
    warnings.extend(nodes.iter().flat_map(alarms));
    warnings
}

/// Runs a round after which no node may have logged a warning or an error. A round in which a busy
/// machine has paused a node for too long is repeated: that node reports it, and others, which read
/// its leave message too late, report it as down.
pub(crate) fn logs_no_warning(mut round: impl FnMut() -> Vec<String>) {
    const ROUNDS: usize = 4;
    for _ in 0..ROUNDS {
        let warnings = round();
        if warnings.is_empty() {
            return;
        }
        let is_of_a_pause = |line: &String| {
            line.contains("a member is down") || line.contains("was paused for so long")
        };
        assert!(warnings.iter().all(is_of_a_pause), "{warnings:#?}");
    }
    panic!("no round without a warning");
}

/// The warnings and errors of a node.
pub(crate) fn alarms(node: &Node) -> Vec<String> {
    [lines(node, " WARN "), lines(node, "ERROR ")].concat()
}
