//! Tests of comparisons and of requests between nodes in different views.

use std::num::NonZeroU8;

use super::copies::{find, holders, owner, two};
use super::*;
use crate::cluster::replica::message::SlotEntries;
use crate::session::Scope;

/// Delivers the held messages to one node, and what follows from them.
fn deliver_to(lab: &mut ReplicaLab, receiver: usize) {
    loop {
        let (to_it, others): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
            .into_iter()
            .partition(|(_, to, _)| *to == receiver);
        lab.held = others;
        if to_it.is_empty() {
            return;
        }
        for (from, to, message) in to_it {
            lab.deliver(from, to, message);
        }
        lab.carry();
    }
}

/// Node 0 gets a slot, and asks what the others have in it. Node 2, to which the slot moves in the
/// next view, and node 1, which still has the session, are in that view already: compared there,
/// the slot would be left out, and node 0 would report the session as absent.
#[test]
fn a_comparison_is_answered_in_its_own_view_only() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::Count(NonZeroU8::MIN));
    // Without node 2 it is at node 0, and without both at node 1.
    let pair = ReplicaLab::cluster_with(2, Copies::Count(NonZeroU8::MIN));
    let key = find(&lab, |lab, key| {
        holders(lab, key) == [2] && holders(&pair, key) == [0]
    });
    for index in [2, 0] {
        lab.input(index, Input::Drain(true));
        lab.run(Duration::from_secs(1));
    }
    assert_eq!(holders(&lab, &key), [1]);
    lab.commit(1, 1, key, &born("a", "1"));
    lab.run(Duration::from_secs(2));
    lab.hold = |message| matches!(message, Message::Digests { .. });
    lab.input(0, Input::Drain(false));
    lab.run(Duration::from_millis(300));
    assert_eq!(holders(&lab, &key), [0]);
    assert!(!lab.replica(0).status().complete);
    lab.hold = |message| matches!(message, Message::View(_) | Message::Swim(_));
    let questions = std::mem::take(&mut lab.held);
    lab.input(2, Input::Drain(false));
    for _ in 0..3 {
        deliver_to(&mut lab, 1);
        deliver_to(&mut lab, 2);
    }
    assert!(lab.replica(2).holds(&key) && lab.replica(0).holds(&key));
    for (from, to, message) in questions.into_iter().filter(|(from, ..)| *from == 0) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    let step = lab.replica(0).load(lab.now, 2, &key, None);
    assert_ne!(step, Progress::Ready(Loaded::Absent));
    assert!(!lab.replica(0).status().complete);
}

/// The source of a hand-over is in the next view before the node that pulls from it, and does not
/// answer the requests of the former view any more. They are made again.
#[test]
fn a_comparison_starts_over_in_the_next_view() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    for slot in 0..40 {
        let key = Root::from_bytes([9; 12]).with_slot(slot * 101);
        lab.commit(1, slot as OpId, key, &born("a", "1"));
    }
    lab.input(0, Input::Drain(true));
    lab.run(Duration::from_secs(3));
    assert_eq!(lab.replica(0).status().sessions, 0);
    lab.hold = |message| {
        matches!(
            message,
            Message::PullSlot { .. } | Message::View(_) | Message::Swim(_)
        )
    };
    lab.input(0, Input::Drain(false));
    while lab
        .held
        .iter()
        .any(|(.., message)| !matches!(message, Message::PullSlot { .. }))
    {
        let (pulls, views): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
            .into_iter()
            .partition(|(.., message)| matches!(message, Message::PullSlot { .. }));
        lab.held = pulls;
        for (from, to, message) in views {
            lab.deliver(from, to, message);
        }
        lab.carry();
    }
    let pulls = std::mem::take(&mut lab.held);
    assert_eq!(pulls.len(), 4, "a few slots at a time");
    let source = pulls[0].1;
    let other = 3 - source;
    lab.input(other, Input::Drain(true));
    deliver_to(&mut lab, source);
    // The source has announced the next view before the node is in it.
    let (mut from_source, mut from_other): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
        .into_iter()
        .filter(|(_, to, _)| *to == 0)
        .partition(|(from, ..)| *from == source);
    for (from, to, message) in from_source.drain(..).chain(from_other.drain(..)) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held).into_iter().chain(pulls) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(0).status().complete);
    assert_eq!(lab.replica(0).status().sessions, 40);
}

/// Of slots that it does not hold, a node only drops entries.
#[test]
fn entries_of_a_slot_that_a_node_does_not_hold_are_not_merged() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    let entries = SlotEntries {
        view: lab.view(0),
        round: 1,
        slot: key.slot() as u16,
        sent_at: lab.now,
        entries: vec![KeyedEntry {
            key,
            entry: Entry::Live(Arc::new(record("a", 1))),
        }],
        more: false,
    };
    lab.deliver(1, 0, Message::SlotEntries(entries));
    lab.carry();
    assert!(lab.read(0, key).is_none());
}

/// A response from before the last view may lack what its sender has merged as a holder since.
#[test]
fn a_response_to_a_read_counts_in_its_view_only() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    let owner = owner(&lab, &key);
    lab.commit(owner, 1, key, &born("a", "1"));
    lab.hold = |message| matches!(message, Message::GetReply(_));
    lab.replica(0).load(lab.now, 2, &key, None);
    lab.carry();
    let (from, to, message) = lab.held.pop().unwrap();
    let Message::GetReply(response) = message else {
        panic!("{message:?}")
    };
    let late = GetReply {
        view: another(response.view),
        entry: None,
        ..response.clone()
    };
    lab.deliver(from, to, Message::GetReply(late));
    lab.carry();
    assert_eq!(lab.held, []);
    lab.deliver(from, to, Message::GetReply(response));
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}

/// A member that is not in the view yet answers a read in its own view. It is asked again when it
/// has announced this one; the caller would otherwise wait for its timeout.
#[test]
fn a_member_that_comes_into_the_view_is_asked_again() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::Count(NonZeroU8::MIN));
    let key = find(&lab, |lab, key| holders(lab, key) == [1]);
    lab.commit(1, 1, key, &born("a", "1"));
    lab.hold = |message| matches!(message, Message::View(_) | Message::Swim(_));
    lab.input(2, Input::Drain(true));
    deliver_to(&mut lab, 0);
    let step = lab.replica(0).load(lab.now, 2, &key, None);
    assert_eq!(step, Progress::Pending(Loaded::Absent));
    lab.carry();
    assert_eq!(lab.reply(2), None);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_millis(300));
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}

/// A root can be read in logs: with a secret of no session, a read transfers a few bytes.
#[test]
fn a_read_with_another_secret_gets_no_attributes() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::Count(NonZeroU8::MIN));
    let key = find(&lab, |lab, key| holders(lab, key) == [1]);
    lab.commit(1, 1, key, &born("a", &"x".repeat(10_000)));
    lab.hold = |message| matches!(message, Message::GetReply(_));
    for (op, secret, is_whole) in [(2, 1, true), (3, 9, false)] {
        let secret = SecretHash::from_bytes([secret; 16]);
        lab.replica(0).load(lab.now, op, &key, Some(&secret));
        lab.carry();
        let (.., response) = lab.held.pop().unwrap();
        assert_eq!(response.size() > 10_000, is_whole, "{}", response.size());
    }
}

/// A member that serves and is complete is asked for its view only while this node waits for it.
#[test]
fn a_member_that_does_not_answer_a_request_is_asked_for_its_view() {
    for call in 0..4 {
        let mut lab = ReplicaLab::cluster_with(3, Copies::Count(NonZeroU8::MIN));
        let key = find(&lab, |lab, key| holders(lab, key) == [1]);
        lab.commit(1, 1, key, &born("a", "1"));
        lab.hold = |message| match message {
            Message::View(view) => view.ask,
            Message::Get { .. } | Message::Update(_) | Message::ListSlots(_) => true,
            _ => false,
        };
        let (replica, now) = (lab.replica(0), lab.now);
        let is_pending = match call {
            0 => matches!(replica.load(now, 2, &key, None), Progress::Pending(_)),
            1 => matches!(replica.delete(now, 2, &key), Progress::Pending(_)),
            2 => {
                let step = replica.list(now, 2, Scope::Cluster, None, 10);
                matches!(step, Progress::Pending(_))
            }
            _ => false,
        };
        assert_eq!(is_pending, call < 3);
        lab.carry();
        lab.run(Duration::from_millis(500));
        let is_asked = lab.held.iter().any(|(from, to, message)| {
            (*from, *to) == (0, 1) && matches!(message, Message::View(_))
        });
        assert_eq!(is_asked, is_pending, "call {call}");
    }
}

/// The announcement that a member is complete, or that it serves, is lost.
#[test]
fn a_member_is_asked_for_what_it_may_have_announced() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = |message| matches!(message, Message::View(view) if view.complete);
    for leaving in [true, false] {
        lab.input(1, Input::Drain(leaving));
        lab.run(Duration::from_millis(300));
    }
    assert!(!lab.replica(0).status().settled);
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(0).status().settled);

    let mut lab = ReplicaLab::unconnected(2);
    lab.hold = |message| matches!(message, Message::View(view) if view.ready);
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(1).is_ready() && !lab.replica(0).status().members[0].ready);
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(0).status().members[0].ready);
}

/// A copy that only one node has, for whatever reason, is found by the check with each member in
/// turn.
#[test]
fn complete_nodes_compare_themselves_with_all_members_in_turn() {
    for index in 0..3 {
        let mut lab = ReplicaLab::cluster(3);
        let copy = KeyedEntry {
            key: key(1),
            entry: Entry::Live(Arc::new(record("a", 1))),
        };
        lab.replica(index).table.merge(lab.now, &copy);
        lab.run(Duration::from_secs(65));
        let is_here = [0, 1, 2].map(|index| lab.read(index, key(1)).is_some());
        assert_eq!(is_here, [true; 3], "at {index}");
    }
}
