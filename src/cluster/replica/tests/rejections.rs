//! Tests of changes that the owner of a session rejects.

use super::copies::{count_up, find, owner, two};
use super::expiry::short;
use super::*;
use crate::cluster::replica::message::{UpdateRequest, Write};

#[test]
fn an_attempt_that_was_rejected_stays_rejected() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &short());
    let mut used = lab.read(0, key).unwrap();
    lab.hold = |message| matches!(message, Message::Update(_));
    count_up(&mut lab, 1, 2, key);
    let (_, _, update) = lab.held.remove(0);
    // The rejection is delayed; meanwhile the session has been accessed in time.
    lab.hold = |message| matches!(message, Message::Update(_) | Message::Updated { .. });
    lab.run(Duration::from_millis(4_000));
    lab.held.clear();
    lab.deliver(1, 0, update.clone());
    lab.carry();
    let (_, _, refused) = lab.held.remove(0);
    assert!(has_verdict(&refused, UpdateStatus::Gone));
    Arc::make_mut(&mut used).touch(lab.now);
    let write = Message::Write(Write {
        seq: 1_000,
        behind: 999,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        entries: [KeyedEntry {
            key,
            entry: Entry::Live(used),
        }]
        .into(),
    });
    lab.deliver(1, 0, write);
    assert!(lab.read(0, key).is_some());
    lab.deliver(1, 0, update.clone());
    lab.carry();
    assert_eq!(text(&lab.read(0, key).unwrap(), "n").as_deref(), Some("0"));
    let gone = |(_, _, message): &(usize, usize, Message)| has_verdict(message, UpdateStatus::Gone);
    assert!(lab.held.iter().any(gone));

    // Another owner did not reject it; this one has become the owner again.
    let Message::Update(UpdateRequest { delta, .. }) = &update else {
        panic!("{update:?}");
    };
    let applied = Message::Write(Write {
        seq: 1_001,
        behind: 1000,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        entries: [KeyedEntry {
            key,
            entry: Entry::Delta(delta.clone()),
        }]
        .into(),
    });
    lab.deliver(1, 0, applied);
    lab.held.clear();
    lab.deliver(1, 0, update);
    lab.carry();
    let applied =
        |(_, _, message): &(usize, usize, Message)| has_verdict(message, UpdateStatus::Applied);
    assert!(lab.held.iter().any(applied));
}

fn has_verdict(message: &Message, expected: UpdateStatus) -> bool {
    matches!(message, Message::Updated(UpdateResponse { verdict, .. }) if *verdict == expected)
}

#[test]
fn a_deletion_that_was_rejected_may_be_tried_again() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && !lab.replica(2).holds(key)
    });
    lab.hold = |message| matches!(message, Message::Update(_));
    assert_eq!(
        lab.replica(2).delete(lab.now, 1, &key),
        Progress::Pending(true)
    );
    lab.carry();
    let (_, _, end) = lab.held.remove(0);
    // The rejection is lost, and then the session is there.
    lab.hold = |message| matches!(message, Message::Updated { .. });
    lab.deliver(2, 0, end.clone());
    lab.carry();
    assert_eq!(lab.held.len(), 1);
    lab.commit(0, 2, key, &born("a", "1"));
    assert!(lab.read(0, key).is_some());
    lab.deliver(2, 0, end);
    lab.carry();
    assert!((0..2).all(|index| lab.read(index, key).is_none()));
}

#[test]
fn a_rejection_by_another_member_than_the_owner_does_not_count() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::All);
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &born("n", "0"));
    lab.hold = |message| matches!(message, Message::Update(_));
    count_up(&mut lab, 1, 2, key);
    let refusal = Message::Updated(UpdateResponse {
        op: 2,
        sent_at: lab.now,
        verdict: UpdateStatus::Gone,
        entry: None,
    });
    lab.deliver(2, 1, refusal);
    lab.carry();
    assert_eq!(lab.verdict(2), None);
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
}

#[test]
fn an_owner_that_lacks_what_the_asker_has_seen_asks_around() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::All);
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &born("n", "0"));
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(1, 2, key, &insert("n", "5"));
    let held = std::mem::take(&mut lab.held);
    lab.hold = |_| false;
    for (from, to, message) in held {
        if to == 2 {
            lab.deliver(from, to, message);
        }
    }
    assert_eq!(text(&lab.read(0, key).unwrap(), "n").as_deref(), Some("0"));
    count_up(&mut lab, 2, 3, key);
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
    for index in 0..3 {
        let count = text(&lab.read(index, key).unwrap(), "n");
        assert_eq!(count.as_deref(), Some("6"));
    }
}

/// Found by simulation: a late response was older than the session that had expired and was
/// forgotten meanwhile.
#[test]
fn an_answer_that_no_call_waits_for_is_ignored() {
    let mut lab = ReplicaLab::cluster(2);
    let copy = KeyedEntry {
        key: key(1),
        entry: Entry::Live(Arc::new(record("a", 1))),
    };
    let late = Message::GetReply(GetReply {
        view: lab.view(0),
        op: 77,
        sent_at: lab.now,
        entry: Some(copy),
    });
    lab.deliver(1, 0, late);
    lab.carry();
    assert!(lab.read(0, key(1)).is_none());
}

#[test]
fn what_the_owner_orders_counts_in_its_limit() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    lab.commit(0, 1, key, &born("a", "1"));
    lab.commit(0, 2, key, &insert("b", &"x".repeat(2 << 20)));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Full));
    lab.commit(0, 3, key, &insert("b", "2"));
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
}
