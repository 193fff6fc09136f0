//! Sessions that would grow over the limit by requests that are each within it.

use std::thread::{scope, sleep};
use std::time::Instant;

use crate::common::{Browser, Node, PATIENCE, POLL, Reply, cluster_starts, eventually, meet};
use crate::load::MIB;
use crate::measured::not_beside_measurements;

/// then a node joins, and another leaves.
#[test]
fn parallel_inserts_do_not_grow_a_session_over_its_limit() {
    let _others = not_beside_measurements();
    let starts = cluster_starts::<3>(&[]);
    let [one, two] = [starts[0].start(), starts[1].start()];
    meet(&[&one, &two]);
    let mut users = Vec::new();
    for _ in 0..ROUNDS {
        let mut user = Browser::new();
        user.ok(&one, "/set?k=n&v=1");
        let inserts = [("a", &one), ("b", &two), ("c", &one)];
        let replies = at_once(&user, inserts);
        let kept = replies.iter().filter(|reply| reply.status == 200).count();
        for reply in &replies {
            assert!(matches!(reply.status, 200 | 413), "{}", reply.text());
        }
        assert!(kept <= 1, "{kept} of three were kept");
        for node in [&one, &two] {
            eventually("both nodes have what was kept", || {
                names(&user, node) == kept
            });
        }
        users.push((user, kept));
    }

    let three = starts[2].ready();
    meet(&[&one, &two, &three]);
    let mut one = one;
    one.stop();
    meet(&[&two, &three]);
    for (user, kept) in &users {
        for node in [&two, &three] {
            assert_eq!(names(user, node), *kept, "at {}", node.route());
        }
    }
}

/// Sends these inserts of one session in parallel.
fn at_once<const N: usize>(user: &Browser, inserts: [(&str, &Node); N]) -> [Reply; N] {
    let began = Instant::now();
    scope(|scope| {
        let sent = inserts.map(|(name, node)| {
            let path = format!("/set?k={name}&bytes={}", 12 * MIB);
            let mut tab = user.twin();
            scope.spawn(move || {
                loop {
                    let reply = tab.get(node, &path);
                    // The store may be busy with the others.
                    if reply.status != 503 || began.elapsed() > PATIENCE {
                        return reply;
                    }
                    sleep(POLL);
                }
            })
        });
        sent.map(|sent| sent.join().expect("it is answered"))
    })
}

/// How many of the large attributes there are.
fn names(user: &Browser, node: &Node) -> usize {
    let names = user.twin().ok(node, "/info")["names"].clone();
    let names = names.as_array().expect("an array").len();
    names.saturating_sub(1)
}

const ROUNDS: usize = 3;
