//! Tests of sessions from an incarnation that other members have survived.

use super::*;
use crate::cluster::replica::message::SlotEntries;
use crate::cluster::replica::withheld::{SurvivingMember, WithheldState};

/// Two nodes of which the second one serves, and an export of the first one from before: two
/// sessions, of which the second node has deleted one since.
fn returning(survivor: SurvivingMember) -> ReplicaLab {
    let mut lab = ReplicaLab::unconnected(2);
    lab.run(Duration::from_secs(3));
    // The first one starts again.
    lab.nodes[0].1 = Replica::new(lab.now, settings(0, Copies::All));
    for (op, number) in [(1, 1), (2, 2)] {
        lab.commit(1, op, key(number), &born("a", "1"));
    }
    let slots = [1, 2];
    let entries = slots.map(|slot| lab.replica(1).export(lab.now, slot));
    lab.replica(1).delete(lab.now, 3, &key(2));
    lab.carry();
    let entries = entries.into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(entries.len(), 2);
    lab.replica(0).hold(lab.now, entries, vec![survivor]);
    lab
}

fn meet(lab: &mut ReplicaLab) {
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(0).is_ready());
}

fn survivor(incarnation: u64, leaving: bool) -> SurvivingMember {
    SurvivingMember {
        name: "node1".to_owned(),
        incarnation,
        leaving,
    }
}

#[test]
fn held_sessions_are_not_used_alone() {
    let mut lab = returning(survivor(1, false));
    lab.run(Duration::from_secs(5));
    assert!(lab.replica(0).is_ready());
    assert_eq!(lab.read(0, key(1)), None);
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Waiting);
    lab.run(Duration::from_secs(600));
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Ignored);
    assert_eq!(lab.read(0, key(1)), None);
}

#[test]
fn held_sessions_are_used_when_the_survivor_is_met() {
    let mut lab = returning(survivor(1, false));
    // It receives nothing but the differences to what it held.
    lab.hold = |message| matches!(message, Message::SlotEntries(SlotEntries { slot: 1, .. }));
    meet(&mut lab);
    assert!(lab.held.is_empty());
    assert!(lab.read(0, key(1)).is_some());
    assert_eq!(lab.read(0, key(2)), None);
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Settled);
}

#[test]
fn a_survivor_that_has_restarted_since_is_none() {
    let mut lab = returning(survivor(0, false));
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.read(0, key(1)), None);
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Settled);
}

#[test]
fn of_nodes_that_stopped_together_each_restart_counts() {
    let mut lab = returning(survivor(0, true));
    meet(&mut lab);
    assert!(lab.read(0, key(1)).is_some());
    assert_eq!(lab.read(0, key(2)), None);
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Settled);
}

/// A node that already serves imports the sessions that it has held back, and its peers receive
/// them.
#[test]
fn a_survivor_may_come_later() {
    let mut lab = returning(survivor(1, true));
    // The other node does not have this session.
    let mut lost = ReplicaLab::unconnected(1);
    lost.run(Duration::from_secs(3));
    lost.commit(0, 1, key(3), &born("a", "1"));
    let mut entries = lost.replica(0).export(lost.now, 3);
    entries.append(&mut lab.replica(1).export(lab.now, 1));
    lab.replica(0)
        .hold(lab.now, entries, vec![survivor(1, true)]);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.read(0, key(3)), None);
    meet(&mut lab);
    for index in 0..2 {
        assert!(lab.read(index, key(1)).is_some());
        assert!(lab.read(index, key(3)).is_some());
    }
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Settled);
}

/// The survivor fails before it could announce what was deleted.
#[test]
fn a_survivor_that_vanishes_takes_the_sessions_with_it() {
    let mut lab = returning(survivor(1, false));
    lab.hold = |message| matches!(message, Message::DigestDiff { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(1));
    assert!(lab.read(0, key(2)).is_some() && !lab.replica(0).is_ready());
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(30));
    assert!(lab.replica(0).is_ready());
    assert_eq!((lab.read(0, key(1)), lab.read(0, key(2))), (None, None));
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Waiting);
    lab.run(Duration::from_secs(600));
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Ignored);
    assert_eq!((lab.read(0, key(1)), lab.read(0, key(2))), (None, None));
}

/// What was acknowledged since the survivor was met is not from the file.
#[test]
fn writes_since_then_outlast_a_survivor_that_vanishes() {
    let mut lab = returning(survivor(1, false));
    lab.hold = |message| matches!(message, Message::DigestDiff { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(1));
    assert!(!lab.replica(0).is_ready());
    lab.commit(1, 4, key(4), &born("a", "1"));
    assert_eq!(lab.reply(4), Some(Reply::Written));
    lab.replica(1).delete(lab.now, 5, &key(1));
    lab.carry();
    assert_eq!(lab.reply(5), Some(Reply::Written));
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(30));
    assert!(lab.replica(0).is_ready());
    assert!(lab.read(0, key(4)).is_some());
    assert_eq!((lab.read(0, key(1)), lab.read(0, key(2))), (None, None));
    let is_tombstone = |keyed: &KeyedEntry| matches!(keyed.entry, Entry::Tombstone { .. });
    assert!(lab.replica(0).export(lab.now, 1).iter().any(is_tombstone));
}

/// The same, for a node that served before it met the survivor, and serves on.
#[test]
fn a_survivor_that_comes_later_and_vanishes_takes_the_sessions_with_it() {
    let mut lab = returning(survivor(1, false));
    lab.run(Duration::from_secs(5));
    assert!(lab.replica(0).is_ready());
    lab.commit(0, 4, key(4), &born("a", "1"));
    lab.hold = |message| matches!(message, Message::DigestDiff { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Comparing);
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(30));
    assert!(lab.read(0, key(4)).is_some());
    assert_eq!((lab.read(0, key(1)), lab.read(0, key(2))), (None, None));
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Waiting);
    // It was not the member that had failed, but the network.
    lab.cut.clear();
    lab.hold = |_| false;
    lab.held.clear();
    meet(&mut lab);
    assert!(lab.read(0, key(1)).is_some() && lab.read(0, key(4)).is_some());
    assert_eq!(lab.read(0, key(2)), None);
    assert_eq!(lab.replica(0).withheld_state(), WithheldState::Settled);
}

#[test]
fn a_node_names_the_members_that_survive_it() {
    let mut lab = ReplicaLab::cluster(3);
    lab.input(1, Input::Drain(true));
    lab.input(0, Input::Drain(true));
    lab.input(2, Input::Leave);
    lab.run(Duration::from_secs(1));
    lab.input(0, Input::Leave);
    assert_eq!(lab.replica(0).survivors(), [survivor(1, true)]);
    lab.run(Duration::from_secs(1));
    lab.input(1, Input::Leave);
    assert_eq!(lab.replica(1).survivors(), []);
}
