//! Tests of atomic updates: concurrent, repeated, and while views change.

use super::*;

#[test]
fn atomic_updates_through_two_nodes_at_once_both_count() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let up = |to: &str| {
        let mut changes = insert("n", to);
        changes.require_version("n".into(), base.version("n"));
        changes
    };
    lab.hold = |message| matches!(message, Message::Write(_) | Message::Update(_));
    for (index, op) in [(0, 2), (1, 3)] {
        let replica = lab.replica(index);
        let step = replica.commit(lab.now, op, &key(1), Some(&base), &up("1"));
        assert!(matches!(step, Progress::Pending(_)));
    }
    lab.carry();
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
        lab.carry();
    }
    let verdicts = [lab.verdict(2), lab.verdict(3)];
    assert!(
        verdicts.contains(&Some(UpdateStatus::Applied)),
        "{verdicts:?}"
    );
    assert!(
        verdicts.contains(&Some(UpdateStatus::Conflict)),
        "{verdicts:?}"
    );
}

#[test]
fn an_atomic_update_that_is_sent_twice_counts_once() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let mut changes = insert("n", "1");
    changes.require_version("n".into(), base.version("n"));
    // A node that is not the owner asks; the answer to it is lost once.
    let asker = usize::from(lab.replica(0).owns(key(1).slot()));
    lab.hold = |message| matches!(message, Message::Updated { .. });
    lab.commit(asker, 2, key(1), &changes);
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert_eq!(lab.read(asker, key(1)).unwrap().updates().len(), 1);
}

#[test]
fn an_atomic_update_of_another_view_is_refused() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    lab.hold = |message| matches!(message, Message::Nack { .. });
    let write = message::Write {
        seq: 77,
        behind: 76,
        view: UNKNOWN,
        strict: true,
        sent_at: lab.now,
        entries: [delta(1, "n", Version::MAX_CLOCK)].into(),
    };
    lab.deliver(0, 1, Message::Write(write));
    lab.carry();
    assert!(matches!(
        lab.held[..],
        [(1, 0, Message::Nack { seq: 77, .. })]
    ));
    let record = lab.read(1, key(1)).unwrap();
    assert_eq!(text(&record, "n").as_deref(), Some("0"));
}

#[test]
fn an_owner_that_could_not_ask_for_long_sequences_updates_later() {
    let mut lab = ReplicaLab::unconnected(2);
    lab.run(Duration::from_secs(3));
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let mut changes = insert("n", "1");
    changes.require_version("n".into(), base.version("n"));
    lab.hold = |message| matches!(message, Message::Digests { .. } | Message::GetReply { .. });
    lab.link(0, 1);
    lab.run(Duration::from_millis(500));
    let owner = usize::from(lab.replica(1).owns(key(1).slot()));
    let update = |lab: &mut ReplicaLab, op| {
        let replica = lab.replica(owner);
        let step = replica.commit(lab.now, op, &key(1), Some(&base), &changes);
        assert!(matches!(step, Progress::Pending(_)));
        lab.carry();
    };
    update(&mut lab, 2);
    lab.run(Duration::from_secs(6));
    assert_eq!(lab.replies, [(2, Reply::Indeterminate)]);
    lab.lose_held();
    lab.run(Duration::from_secs(2));
    update(&mut lab, 3);
    lab.run(Duration::from_secs(1));
    // The first attempt was applied after all; the second finds the value that it wrote.
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Conflict));
}
