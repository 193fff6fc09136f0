//! Tests of floors: how few marks of removed attributes remain, and that nothing else is dropped.

use super::slowness::roomy;
use super::*;
use crate::cluster::replica::entry::marks_bytes;
use crate::cluster::replica::floors::INDEX_MARKS_BYTES_MAX;
use crate::session::{UserKey, index_root, new_index};

/// The number of marks that a session may have while the holders agree.
pub(super) const MARKS_MAX: usize = 40;

pub(super) fn remove(name: &str) -> Changes {
    let mut changes = Changes::default();
    changes.remove(name.into());
    changes
}

pub(super) fn owner(lab: &ReplicaLab) -> usize {
    (0..lab.nodes.len())
        .find(|index| lab.replica(*index).owns(key(1).slot()))
        .unwrap()
}

pub(super) fn commit(lab: &mut ReplicaLab, index: usize, changes: &Changes) {
    let op = 1_000 + lab.replies.len() as u64;
    let step = lab.commit(index, op, key(1), changes);
    assert!(!matches!(step, Progress::Rejected(_)), "{step:?}");
    lab.replies.push((op, Reply::Written));
}

/// Sets and removes attributes of different names through these nodes in turn.
pub(super) fn pairs(lab: &mut ReplicaLab, through: &[usize], count: usize, name: &str) {
    for number in 0..count {
        let name = format!("{name}_{number}");
        commit(
            lab,
            through[2 * number % through.len()],
            &insert(&name, "1"),
        );
        commit(
            lab,
            through[(2 * number + 1) % through.len()],
            &remove(&name),
        );
    }
}

pub(super) fn marks(lab: &ReplicaLab, index: usize) -> usize {
    lab.read(index, key(1)).unwrap().marks().count()
}

pub(super) fn names(lab: &ReplicaLab, index: usize) -> Vec<String> {
    let record = lab.read(index, key(1)).unwrap();
    let live = record.entries().iter().filter(|r| r.value.is_some());
    live.map(|r| r.name.to_string()).collect()
}

pub(super) fn floor(lab: &ReplicaLab, index: usize) -> Option<Version> {
    lab.read(index, key(1)).unwrap().floor()
}

pub(super) fn is_vote(message: &Message) -> bool {
    matches!(message, Message::Vote { .. })
}

fn is_proposal(message: &Message) -> bool {
    matches!(message, Message::Propose(_))
}

/// Delivers the held messages, and holds no further ones.
fn release(lab: &mut ReplicaLab) {
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
}

/// A cluster in which the next removal makes the owner propose a floor.
pub(super) fn on_the_brink(count: u16) -> ReplicaLab {
    let mut lab = ReplicaLab::cluster(count);
    commit(&mut lab, 0, &born("a", "1"));
    let owner = owner(&lab);
    pairs(&mut lab, &[owner], ProtocolRules::ALL.marks - 1, "gone");
    assert_eq!((marks(&lab, owner), floor(&lab, owner)), (31, None));
    lab
}

/// W-02.
#[test]
fn a_thousand_names_set_and_removed_leave_few_marks_behind() {
    for count in [1, 2, 3] {
        for copies in [Copies::All, Copies::Count(2.try_into().unwrap())] {
            let mut lab = if count == 1 {
                let mut lab = ReplicaLab::unconnected_with(1, copies);
                lab.run(Duration::from_secs(3));
                lab
            } else {
                ReplicaLab::cluster_with(count, copies)
            };
            commit(&mut lab, 0, &born("a", "1"));
            let all: Vec<_> = (0..count.into()).collect();
            for part in 0..100 {
                pairs(&mut lab, &all, 10, &format!("state_{part}"));
                for index in (0..count.into()).filter(|index| lab.replica(*index).holds(&key(1))) {
                    assert!(marks(&lab, index) <= MARKS_MAX, "{count} {copies:?}");
                    assert!(lab.replica(index).status().bytes < 16 << 10);
                    assert_eq!(names(&lab, index), ["a"]);
                }
            }
            let digests: Vec<_> = (0..count.into())
                .map(|index| lab.replica(index).digests())
                .filter(|digests| !digests.is_empty())
                .collect();
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}

/// An index without a limit could not be sent to other nodes any more.
#[test]
fn the_marks_of_an_index_are_limited_while_a_member_is_missing() {
    const BATCH: usize = 500;
    let mut lab = roomy(3, |_| {});
    let root = index_root(&UserKey::of("ada"));
    let mut last = 0;
    let mut write = |lab: &mut ReplicaLab, changes: &Changes| {
        last += 1;
        let step = lab.commit(0, last, root, changes);
        assert!(!matches!(step, Progress::Rejected(_)), "{step:?}");
        lab.run(Duration::from_millis(300));
    };
    write(&mut lab, &new_index(100 * HOUR));
    let gone = lab.nodes.pop().unwrap().0;
    for index in 0..2 {
        let node = gone.clone();
        lab.input(index, Input::Refused { node });
    }
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(0).is_divided());
    for batch in 0..20 {
        let (mut logins, mut logouts) = (Changes::default(), Changes::default());
        for number in 0..BATCH {
            let name = format!("{batch}_{number:0>240}");
            logins.insert(name.as_str().into(), Value::from_bytes(*b"1"));
            logouts.remove(name.as_str().into());
        }
        write(&mut lab, &logins);
        write(&mut lab, &logouts);
    }
    lab.run(Duration::from_secs(2));
    for index in 0..2 {
        let bytes = marks_bytes(&lab.read(index, root).unwrap());
        assert!(bytes <= INDEX_MARKS_BYTES_MAX, "{bytes}");
    }
}

/// A floor without a vote would drop it: one holder has it, and the others do not have it yet.
#[test]
fn a_write_that_is_under_way_during_the_vote_is_not_lost() {
    let mut lab = ReplicaLab::cluster(3);
    commit(&mut lab, 0, &born("a", "1"));
    let owner = owner(&lab);
    let (writer, third) = ((owner + 1) % 3, (owner + 2) % 3);
    lab.hold = |message| matches!(message, Message::Write(_));
    let step = lab.commit(writer, 50, key(1), &insert("b", "1"));
    assert!(matches!(step, Progress::Pending(_)));
    let write = std::mem::take(&mut lab.held);
    assert_eq!(write.len(), 2);
    lab.hold = |_| false;
    pairs(&mut lab, &[owner], 100, "more");
    assert_eq!(floor(&lab, owner), None, "raised while a write was missing");
    assert_eq!(
        (names(&lab, owner), lab.reply(50)),
        (vec!["a".into()], None)
    );
    for (from, to, message) in write {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.reply(50), Some(Reply::Written));
    lab.run(Duration::from_millis(300));
    for index in [owner, writer, third] {
        assert_eq!(names(&lab, index), ["a", "b"]);
        assert!(marks(&lab, index) <= MARKS_MAX);
    }
}

/// The write is in no hash, because a later one of its attribute has replaced it at its writer.
#[test]
fn a_write_that_was_replaced_while_it_is_under_way_holds_up_the_vote() {
    let mut lab = ReplicaLab::cluster(2);
    commit(&mut lab, 0, &born("a", "1"));
    let owner = owner(&lab);
    let writer = 1 - owner;
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(writer, 50, key(1), &insert("b", "1"));
    let first = lab.held.pop().unwrap();
    lab.hold = |_| false;
    pairs(&mut lab, &[owner], 30, "more");
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(writer, 51, key(1), &insert("b", "2"));
    let second = lab.held.pop().unwrap();
    lab.hold = |_| false;
    pairs(&mut lab, &[owner], 30, "still");
    assert_eq!(floor(&lab, owner), None);
    // The first one arrives and is acknowledged; the second one is lost with its writer.
    lab.deliver(first.0, first.1, first.2);
    lab.carry();
    assert_eq!(lab.reply(50), Some(Reply::Written));
    assert!(names(&lab, owner).contains(&"b".to_owned()));
    drop(second);
}

#[test]
fn a_holder_that_has_something_else_refuses_and_the_owner_proposes_again() {
    let mut lab = on_the_brink(2);
    let owner = owner(&lab);
    lab.hold = is_vote;
    pairs(&mut lab, &[owner], 1, "last");
    let (from, to, vote) = lab.held.pop().unwrap();
    let Message::Vote(Vote {
        view,
        op,
        key,
        agrees: true,
    }) = vote
    else {
        panic!("{vote:?}")
    };
    let refusal = Message::Vote(Vote {
        view,
        op,
        key,
        agrees: false,
    });
    lab.deliver(from, to, refusal);
    lab.carry();
    // A vote that arrives now does not count.
    lab.deliver(
        from,
        to,
        Message::Vote(Vote {
            view,
            op,
            key,
            agrees: true,
        }),
    );
    lab.carry();
    assert_eq!(floor(&lab, owner), None);
    lab.hold = |_| false;
    lab.run(Duration::from_millis(200));
    assert_eq!(marks(&lab, owner), 16);
    assert_eq!(marks(&lab, 1 - owner), 16);
}

#[test]
fn a_vote_counts_in_its_view_only() {
    let mut lab = on_the_brink(2);
    let owner = owner(&lab);
    lab.hold = is_vote;
    pairs(&mut lab, &[owner], 1, "last");
    let (from, to, vote) = lab.held.pop().unwrap();
    let Message::Vote(Vote { view, op, key, .. }) = vote else {
        panic!("{vote:?}")
    };
    let view = another(view);
    lab.deliver(
        from,
        to,
        Message::Vote(Vote {
            view,
            op,
            key,
            agrees: true,
        }),
    );
    lab.carry();
    assert_eq!(floor(&lab, owner), None);
}

#[test]
fn a_proposal_that_is_lost_with_its_link_is_made_again() {
    for lost in [is_proposal as fn(&Message) -> bool, is_vote] {
        let mut lab = on_the_brink(3);
        let owner = owner(&lab);
        lab.hold = lost;
        pairs(&mut lab, &[owner], 1, "last");
        assert!(!lab.held.is_empty());
        lab.lose_held();
        lab.run(Duration::from_millis(300));
        assert!((0..3).all(|index| marks(&lab, index) == 16));
    }
}

/// Found by simulation: a node that became a holder in the next view had an old copy, raised its
/// floor, and so treated attributes that it lacked as removed.
#[test]
fn a_floor_is_raised_in_the_view_of_the_vote_only() {
    let mut lab = on_the_brink(2);
    let owner = owner(&lab);
    lab.hold = |message| matches!(message, Message::Write(write) if is_raise(write));
    pairs(&mut lab, &[owner], 1, "last");
    assert_eq!(lab.held.len(), 1);
    // The same members again, in another view.
    for leaving in [true, false] {
        lab.input(1 - owner, Input::Drain(leaving));
        lab.run(Duration::from_millis(300));
    }
    assert!(lab.replica(1 - owner).is_ready());
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        let Message::Write(write) = &message else {
            panic!("{message:?}")
        };
        assert!(write.strict);
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_millis(300));
    for index in 0..2 {
        assert!(marks(&lab, index) <= MARKS_MAX);
        assert_eq!(names(&lab, index), ["a"]);
    }
}

#[test]
fn a_floor_is_no_access() {
    let mut lab = on_the_brink(2);
    let owner = owner(&lab);
    let before = lab.read(1 - owner, key(1)).unwrap().lifetime.clone();
    lab.hold = is_vote;
    pairs(&mut lab, &[owner], 1, "last");
    let written = lab.read(1 - owner, key(1)).unwrap().lifetime.clone();
    assert!(written.access > before.access);
    lab.run(Duration::from_millis(500));
    release(&mut lab);
    assert_eq!(marks(&lab, 1 - owner), 16);
    let after = lab.read(1 - owner, key(1)).unwrap().lifetime.clone();
    assert_eq!(after, written);
}

pub(super) fn is_raise(write: &message::Write) -> bool {
    let is_floor = |copy: &KeyedEntry| match &copy.entry {
        Entry::Delta(delta) => delta.entries.iter().any(AttributeEntry::is_floor),
        Entry::Live(_) | Entry::Expired(_) | Entry::Tombstone { .. } => false,
    };
    write.entries.iter().any(is_floor)
}
