//! `min_copies`, when nodes with copies stop answering while a write is under way.

use std::thread::scope;
use std::time::{Duration, Instant};

use crate::common::{Browser, Node, cluster, eventually, meet, until, within};
use crate::measured::not_beside_measurements;

///
#[test]
fn a_write_whose_other_copy_stops_answering_is_not_acknowledged() {
    let _others = not_beside_measurements();
    let nodes: [Node; 2] = cluster(&["--min-copies", "2"]);
    refuses_and_recovers(nodes, "STOP");
}

///
#[test]
fn a_write_whose_other_copy_fails_is_not_acknowledged() {
    let _others = not_beside_measurements();
    let nodes: [Node; 2] = cluster(&["--min-copies", "2"]);
    refuses_and_recovers(nodes, "KILL");
}

/// two of three copies are too few as well.
#[test]
fn a_write_with_two_of_three_copies_is_not_acknowledged_where_three_are_required() {
    let _others = not_beside_measurements();
    let nodes: [Node; 3] = cluster(&["--copies", "all", "--min-copies", "3"]);
    refuses_and_recovers(nodes, "KILL");
}

/// The last node stands still, and ends with this signal while writes are under way.
fn refuses_and_recovers<const N: usize>(mut nodes: [Node; N], signal: &str) {
    let (last, others) = nodes.split_last().expect("there are several");
    let mut browsers: Vec<_> = (0..WRITES).map(|_| Browser::new()).collect();
    for browser in &mut browsers {
        browser.ok(&others[0], "/set?k=n&v=1");
    }
    // From here on the node acknowledges nothing.
    last.signal("STOP");
    scope(|scope| {
        let writes = browsers.iter_mut().enumerate().map(|(at, browser)| {
            let node = &others[at % others.len()];
            scope.spawn(move || browser.get(node, "/set?k=n&v=2"))
        });
        let writes: Vec<_> = writes.collect();
        until(Instant::now() + UNDER_WAY_AFTER);
        last.signal(signal);
        for write in writes {
            let reply = write.join().expect("it is answered");
            assert_eq!(reply.status, 503, "{}", reply.text());
        }
    });
    within(DETECTED_WITHIN, "the node is taken out", || {
        others.iter().all(|node| node.members() == N - 1)
    });
    assert_eq!(browsers[0].get(&others[0], "/set?k=n&v=3").status, 503);

    if signal == "STOP" {
        last.signal("CONT");
    } else {
        let last = &mut nodes[N - 1];
        last.wait_end();
        last.restart();
    }
    meet(&nodes.each_ref());
    for node in &nodes {
        eventually("writes are taken again", || {
            browsers[0].get(node, "/set?k=n&v=4").status == 200
        });
    }
}

const WRITES: usize = 8;
/// Long before a silent node is declared down.
const UNDER_WAY_AFTER: Duration = Duration::from_millis(300);
const DETECTED_WITHIN: Duration = Duration::from_secs(15);
