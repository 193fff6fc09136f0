//! Requests to peers that do not arrive, are refused, or are more than a peer can take.

use super::*;
use crate::cluster::replica::op_id::is_internal;

/// The first key from `from` on whose owner is the node `owner`.
fn key_of(lab: &ReplicaLab, owner: usize, from: u8) -> Root {
    (from..=u8::MAX)
        .map(key)
        .find(|key| lab.replica(owner).owns(key.slot()))
        .expect("each node owns some of them")
}

/// An update of an attribute as it is in `base`.
fn update(base: &Record, text: &str) -> Changes {
    let mut changes = insert("a", text);
    changes.require_version("a".into(), base.version("a"));
    changes
}

/// A link breaks and is dialed again. The node that was dialed asks again at once, over its own
/// link, before the other end of the new one is up: the answer is lost.
#[test]
fn a_request_is_repeated_when_the_link_for_its_answer_is_up() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::count(1).unwrap());
    let key = key_of(&lab, 0, 1);
    lab.commit(0, 1, key, &born("a", "1"));
    lab.cut = vec![(0, 1)];
    let step = lab.replica(1).load(lab.now, 2, &key, None);
    assert!(matches!(step, Progress::Pending(_)), "{step:?}");
    lab.carry();
    let dialer = lab.nodes[0].0.clone();
    lab.input(1, Input::Accepted { node: dialer });
    assert_eq!(lab.reply(2), None);
    lab.cut.clear();
    lab.link(0, 1);
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}

/// The owner's own read, which precedes an ordered update, has no timeout.
#[test]
fn an_internal_read_that_a_busy_member_refuses_is_repeated() {
    let mut lab = ReplicaLab::unconnected(2);
    lab.run(Duration::from_secs(3));
    let key = key(1);
    lab.commit(1, 1, key, &born("a", "1"));
    lab.hold = |message| matches!(message, Message::Digests { .. } | Message::Get { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_millis(500));
    let base = lab.read(1, key).unwrap();
    // The node that joins owns the session, or the other one does.
    for asker in 0..2 {
        let op = 2 + asker as u64;
        let replica = lab.replica(asker);
        replica.commit(lab.now, op, &key, Some(&base), &update(&base, "2"));
        lab.carry();
    }
    let asked = |message: &Message| matches!(message, Message::Get { op, .. } if is_internal(*op));
    let held = std::mem::take(&mut lab.held);
    let (internal, _): (Vec<_>, Vec<_>) = held.into_iter().partition(|(.., it)| asked(it));
    assert!(!internal.is_empty(), "the owner asks before it decides");
    lab.hold = |message| matches!(message, Message::Digests { .. });
    for (from, to, message) in internal {
        if let Message::Get { op, .. } = message {
            lab.deliver(to, from, Message::Busy { op });
        }
    }
    lab.run(Duration::from_secs(1));
    for op in 2..4 {
        assert!(lab.reply(op).is_some(), "{op} has no reply");
    }
}

/// A member asks an owner to order changes faster than a third one can take them. The member gives
/// each up after a while, and goes on; the owner keeps a bounded number of them.
#[test]
fn an_owner_takes_no_more_updates_than_a_slow_holder_can_owe() {
    let mut lab = ReplicaLab::cluster(3);
    let keys: Vec<_> = (1..=u8::MAX)
        .map(key)
        .filter(|key| lab.replica(0).owns(key.slot()))
        .take(40)
        .collect();
    for (op, key) in keys.iter().enumerate() {
        lab.commit(0, op as u64, *key, &born("a", "1"));
    }
    lab.hold = |message| matches!(message, Message::Write(_));
    let text = "x".repeat(60_000);
    let mut op = 1_000;
    for _ in 0..14 {
        for key in &keys {
            for _ in 0..4 {
                op += 1;
                let base = lab.read(1, *key).unwrap();
                let replica = lab.replica(1);
                replica.commit(lab.now, op, key, Some(&base), &update(&base, &text));
                lab.carry();
            }
        }
        for _ in 0..6 {
            lab.run(Duration::from_secs(1));
            // The links are slow, and move.
            for holder in 1..3 {
                let node = lab.nodes[holder].0.clone();
                lab.input(0, Input::Progress { node });
            }
        }
    }
    let [sent, queued] = lab.replica(0).waiting_bytes();
    assert!(sent <= 16 << 20, "{sent} bytes wait for peers");
    assert!(queued <= 64 << 20, "{queued} bytes wait for their turn");
}
