//! Tests of rotations: the current secret at each node, and rotations on both sides of a partition.

use super::*;
use crate::session::{Login, UserKey};

fn secret(number: u8) -> SecretHash {
    SecretHash::from_bytes([number; 16])
}

pub(super) fn rotation(from: u8, to: u8) -> Changes {
    let mut changes = Changes::default();
    changes.rotate(secret(from), secret(to));
    changes
}

fn owner(lab: &ReplicaLab) -> usize {
    (0..lab.nodes.len())
        .find(|index| lab.replica(*index).owns(key(1).slot()))
        .unwrap()
}

/// The result of a read at a node with a secret.
pub(super) fn found(lab: &mut ReplicaLab, index: usize, op: OpId, number: u8) -> Loaded {
    let replica = lab.replica(index);
    match replica.load(lab.now, op, &key(1), Some(&secret(number))) {
        Progress::Ready(loaded) => loaded,
        Progress::Pending(_) => {
            lab.carry();
            match lab.reply(op) {
                Some(Reply::Found(loaded)) => loaded,
                other => panic!("{other:?}"),
            }
        }
        Progress::Rejected(kind) => panic!("{kind:?}"),
    }
}

fn assert_rotated(lab: &mut ReplicaLab, op: OpId, current: u8, former: u8) {
    for index in 0..lab.nodes.len() {
        let op = op + 10 * index as u64;
        let live = found(lab, index, op, current);
        assert!(matches!(live, Loaded::Live(_)), "at {index}");
        assert_eq!(found(lab, index, op + 1, former), Loaded::Superseded);
    }
}

/// The root of an id is no secret: it is in logs.
#[test]
fn a_request_with_another_secret_is_no_visit() {
    let mut lab = ReplicaLab::cluster(3);
    let mut birth = born("a", "1");
    birth.initial_idle_timeout(HOUR);
    lab.commit(0, 1, key(1), &birth);
    for index in 0..3 {
        let op = 10 + index as u64;
        assert_eq!(found(&mut lab, index, op, 9), Loaded::Absent);
        let record = lab.read(index, key(1)).unwrap();
        assert!(!record.has_returned(), "at {index}");
    }
}

#[test]
fn after_a_rotation_the_former_secret_is_superseded_on_every_node() {
    for copies in [Copies::All, Copies::Count(2.try_into().unwrap())] {
        let mut lab = ReplicaLab::cluster_with(3, copies);
        let step = lab.commit(0, 1, key(1), &born("a", "1"));
        assert!(!matches!(step, Progress::Rejected(_)));
        lab.commit(1, 2, key(1), &rotation(1, 2));
        assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
        assert_rotated(&mut lab, 100, 2, 1);
        // Also half a minute later, and not after the minute.
        lab.run(Duration::from_secs(30));
        assert_rotated(&mut lab, 200, 2, 1);
        lab.run(Duration::from_secs(31));
        assert_eq!(found(&mut lab, 0, 300, 1), Loaded::Absent);
        let tombstones = (0..3).map(|index| lab.replica(index).status().tombstones);
        assert_eq!(tombstones.sum::<usize>(), 0);
    }
}

/// S5: a holder that lacks the rotation does not answer from its copy.
#[test]
fn a_holder_has_a_secret_that_it_does_not_know_confirmed_by_the_owner() {
    let mut lab = ReplicaLab::cluster(3);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let owner = owner(&lab);
    let (asker, behind) = ((owner + 1) % 3, (owner + 2) % 3);
    // The owner has the new secret; one holder lacks it.
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(asker, 2, key(1), &rotation(1, 2));
    let writes = std::mem::take(&mut lab.held);
    let (missing, rest): (Vec<_>, Vec<_>) =
        writes.into_iter().partition(|(_, to, _)| *to == behind);
    lab.hold = |_| false;
    for (from, to, message) in rest {
        lab.deliver(from, to, message);
    }
    lab.carry();
    let read = lab.replica(behind);
    let step = read.load(lab.now, 3, &key(1), Some(&secret(2)));
    assert!(matches!(step, Progress::Pending(_)), "{step:?}");
    lab.carry();
    // It is not in force on any node as long as one holder lacks it.
    assert_eq!(lab.reply(3), Some(Reply::Found(Loaded::Absent)));
    for (from, to, message) in missing {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert_rotated(&mut lab, 100, 2, 1);
}

#[test]
fn of_two_rotations_at_once_one_counts_and_the_other_changes_nothing() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let base = lab.read(0, key(1)).unwrap();
    for (index, op, to) in [(0, 2, 2), (1, 3, 3)] {
        let mut changes = rotation(1, to);
        changes.insert("winner".into(), value(&to.to_string()));
        let replica = lab.replica(index);
        let step = replica.commit(lab.now, op, &key(1), Some(&base), &changes);
        assert!(matches!(step, Progress::Pending(_)));
    }
    lab.carry();
    let verdicts = [lab.verdict(2), lab.verdict(3)];
    assert!(
        verdicts.contains(&Some(UpdateStatus::Applied)),
        "{verdicts:?}"
    );
    assert!(
        verdicts.contains(&Some(UpdateStatus::Superseded)),
        "{verdicts:?}"
    );
    let winner = if verdicts[0] == Some(UpdateStatus::Applied) {
        2
    } else {
        3
    };
    for index in 0..2 {
        let record = lab.read(index, key(1)).unwrap();
        assert!(record.is_current(&secret(winner)));
        assert_eq!(text(&record, "winner"), Some(winner.to_string()));
    }
}

#[test]
fn a_write_of_a_request_from_before_a_rotation_lands_in_the_session() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let base = lab.read(0, key(1)).unwrap();
    lab.commit(1, 2, key(1), &rotation(1, 2));
    let late = insert("b", "2");
    let step = lab
        .replica(0)
        .commit(lab.now, 3, &key(1), Some(&base), &late);
    assert!(matches!(step, Progress::Pending(Outcome::Committed(_))));
    lab.carry();
    for index in 0..2 {
        let record = lab.read(index, key(1)).unwrap();
        assert!(record.is_current(&secret(2)) && text(&record, "b").is_some());
    }
}

#[test]
fn a_rotation_that_is_sent_twice_counts_once() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    let asker = 1 - owner(&lab);
    lab.hold = |message| matches!(message, Message::Updated { .. });
    lab.commit(asker, 2, key(1), &rotation(1, 2));
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert_rotated(&mut lab, 100, 2, 1);
}

/// Two nodes that lose each other, with a session; `away` runs first on each side.
fn split() -> ReplicaLab {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(6));
    lab
}

fn heal(lab: &mut ReplicaLab) {
    lab.cut.clear();
    for _ in 0..10 {
        for (one, other) in [(0, 1), (1, 0)] {
            lab.link(one, other);
        }
        lab.run(Duration::from_secs(1));
    }
    assert!((0..2).all(|index| lab.replica(index).is_ready()));
}

#[test]
fn a_rotation_on_one_side_of_a_partition_counts_on_both_later() {
    let mut lab = split();
    lab.commit(0, 2, key(1), &rotation(1, 2));
    lab.commit(0, 3, key(1), &rotation(2, 3));
    let step = lab.commit(1, 4, key(1), &insert("b", "2"));
    assert!(!matches!(step, Progress::Rejected(_)));
    heal(&mut lab);
    for index in 0..2 {
        let record = lab.read(index, key(1)).unwrap();
        assert!(record.is_current(&secret(3)), "at {index}");
        assert_eq!(text(&record, "b").as_deref(), Some("2"));
    }
    assert_eq!(found(&mut lab, 1, 100, 1), Loaded::Superseded);
}

/// S1: an attacker rotates a planted id on one side, the victim logs in on the other. A merge would
/// combine the attacker's secret with the victim's account.
#[test]
fn a_session_that_both_sides_of_a_partition_rotated_is_deleted() {
    let mut lab = split();
    lab.commit(0, 2, key(1), &rotation(1, 2));
    let mut login = rotation(1, 3);
    login.log_in(Login {
        user: Some(UserKey::of("victim")),
        absolute_timeout: 24 * HOUR,
    });
    lab.commit(1, 3, key(1), &login);
    heal(&mut lab);
    for index in 0..2 {
        for number in 1..=3 {
            let op = 100 + 10 * index as u64 + u64::from(number);
            assert_eq!(found(&mut lab, index, op, number), Loaded::Absent);
        }
        assert_eq!(lab.replica(index).status().tombstones, 1);
    }
    let discarded: u64 = (0..2)
        .map(|index| lab.replica(index).status().discarded)
        .sum();
    assert!(discarded >= 1);
}

/// X1: access versions are in the digests.
#[test]
fn an_access_that_one_side_of_a_partition_has_seen_counts_after_the_heal() {
    let mut lab = split();
    lab.run(Duration::from_secs(600));
    let used_at = lab.now;
    lab.replica(0).touch(lab.now, &key(1));
    heal(&mut lab);
    for index in 0..2 {
        let record = lab.read(index, key(1)).unwrap();
        let late = record.last_accessed_at().since(used_at);
        let early = used_at.since(record.last_accessed_at());
        assert!(
            late.max(early) < Duration::from_secs(1),
            "at {index}: {late:?} {early:?}"
        );
    }
}

/// X1: the versions of two accesses differ, even if both nodes' clocks are behind the session's.
#[test]
fn of_two_accesses_at_the_same_time_the_later_counts() {
    let mut lab = ReplicaLab::cluster(3);
    lab.commit(0, 1, key(1), &born("a", "1"));
    // A node whose clock is ahead has recorded the access before.
    let ahead = lab.now.plus(HOUR / 2);
    lab.replica(2).touch(ahead, &key(1));
    lab.carry();
    lab.hold = |message| matches!(message, Message::Touch { .. });
    for index in [0, 1] {
        lab.run(Duration::from_secs(1));
        lab.replica(index).touch(lab.now, &key(1));
        lab.carry();
    }
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    for index in [0, 1] {
        let record = lab.read(index, key(1)).unwrap();
        assert_eq!(record.last_accessed_at(), lab.now, "at {index}");
    }
}

/// The owner begins a rotation, loses the other node, which has merged it, and begins it again. A
/// client then continues at the other node with the secret that it was given.
#[test]
fn a_rotation_that_its_owner_has_begun_twice_is_no_fork() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    lab.commit(0, 1, key(1), &born("a", "1"));
    let owner = owner(&lab);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    lab.commit(owner, 2, key(1), &rotation(1, 2));
    lab.held.clear();
    lab.hold = |_| false;
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(4));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    lab.commit(1 - owner, 3, key(1), &rotation(2, 3));
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
    heal(&mut lab);
    for index in 0..2 {
        let record = lab.read(index, key(1)).unwrap();
        assert!(record.is_current(&secret(3)), "at {index}");
    }
}

#[test]
fn ten_logins_leave_no_tombstone_and_little_else() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let before = lab.replica(0).status().bytes;
    for turn in 1..=10 {
        lab.commit(
            usize::from(turn % 2 == 0),
            1 + u64::from(turn),
            key(1),
            &rotation(turn, turn + 1),
        );
        assert_eq!(
            lab.verdict(1 + u64::from(turn)),
            Some(UpdateStatus::Applied)
        );
    }
    for index in 0..2 {
        let status = lab.replica(index).status();
        assert_eq!((status.sessions, status.tombstones), (1, 0));
        assert!(status.bytes <= before + 64, "{}", status.bytes);
    }
}

/// X4: the side that has rotated forgets the session, and the other one continues with the former
/// id.
#[test]
fn a_rotation_counts_after_a_heal_also_where_the_session_has_expired_meanwhile() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(20)), HOUR);
    changes.insert("a".into(), value("1"));
    for number in [1, 2] {
        lab.commit(0, number.into(), key(number), &changes);
    }
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(6));
    lab.commit(0, 3, key(1), &rotation(1, 2));
    // Both sessions are accessed on the other side only, under their former ids.
    for _ in 0..6 {
        for number in [1, 2] {
            lab.replica(1).touch(lab.now, &key(number));
        }
        lab.run(Duration::from_secs(10));
    }
    assert_eq!(lab.replica(0).status().sessions, 0);
    heal(&mut lab);
    for index in 0..2 {
        let former = found(&mut lab, index, 100 + index as u64, 1);
        assert_eq!(former.into_live(), None, "at {index}");
        // It was accessed on the other side, and continues under its new id.
        let record = lab.read(index, key(1)).unwrap();
        assert!(record.is_current(&secret(2)), "at {index}");
        assert!(lab.read(index, key(2)).is_some(), "at {index}");
    }
    // The other one leaves nothing once no copy can be alive.
    lab.now = lab.now.plus(3 * HOUR);
    for (_, replica) in &lab.nodes {
        replica.table.sweep(lab.now);
        assert_eq!(replica.status().tombstones, 0);
    }
}

/// Found by simulation: an earlier copy whose deadline was later, because it had been sent over
/// slow links, arrived after the session had been forgotten at its deadline.
#[test]
fn the_former_secret_is_invalid_after_the_absolute_deadline_too() {
    let mut lab = ReplicaLab::cluster(2);
    let mut changes = Changes::create(SECRET, None, Duration::from_secs(20));
    changes.insert("a".into(), value("1"));
    lab.commit(0, 1, key(1), &changes);
    let former = lab.read(0, key(1)).unwrap();
    lab.commit(0, 2, key(1), &rotation(1, 2));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    lab.run(Duration::from_secs(21));
    let late = Message::Write(message::Write {
        seq: 77,
        behind: 0,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now.minus(Duration::from_secs(2)),
        entries: [KeyedEntry {
            key: key(1),
            entry: Entry::Live(former),
        }]
        .into(),
    });
    lab.deliver(1, 0, late);
    lab.carry();
    assert_eq!(found(&mut lab, 0, 3, 1).into_live(), None);
}
