//! Tests of losses: writes that a partition discards, and sessions that may be lost with nodes.

use super::certainty::{SILENT, looking, unknown};
use super::copies::{find, join, two};
use super::*;

/// K-05.
#[test]
fn concurrent_writes_of_two_sides_are_counted() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "0"));
    lab.hold = |_| true;
    lab.run(Duration::from_secs(8));
    assert!((0..2).all(|index| lab.replica(index).status().members.is_empty()));
    lab.held.clear();
    lab.commit(0, 2, key(1), &insert("a", "1"));
    lab.commit(1, 3, key(1), &insert("a", "2"));
    lab.commit(1, 4, key(1), &insert("b", "2"));
    lab.hold = |_| false;
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(3));
    for index in 0..2 {
        let status = lab.replica(index).status();
        assert!(status.settled && status.members.len() == 1);
        assert_eq!(status.discarded, 1);
    }
    let seen = (0..2).map(|index| text(&lab.read(index, key(1)).unwrap(), "a"));
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn losses_that_were_restored_leave_no_doubt() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    for lost in [3, 2] {
        let (node, _) = lab.nodes.remove(lost);
        for index in 0..lab.nodes.len() {
            let node = node.clone();
            lab.input(index, Input::Refused { node });
        }
        lab.run(Duration::from_secs(2));
    }
    let unknown = find(&lab, |lab, key| lab.replica(0).holds(key));
    let step = lab.replica(0).load(lab.now, 1, &unknown, None);
    assert_eq!(step, Progress::Ready(Loaded::Absent));
}

/// It may be one of those that were lost, and would report all their sessions as absent.
#[test]
fn a_newcomer_is_uncertain_for_as_long_as_the_members_that_saw_others_fail() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    for lost in [3, 2] {
        let (node, _) = lab.nodes.remove(lost);
        for index in 0..lab.nodes.len() {
            let node = node.clone();
            lab.nodes[index].1.handle(lab.now, Input::Refused { node });
        }
    }
    lab.carry();
    let newcomer = join(&mut lab, 7);
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(newcomer).is_ready());
    let unknown = find(&lab, |lab, key| lab.replica(newcomer).holds(key));
    let load = |lab: &mut ReplicaLab, op| {
        let step = lab.replica(newcomer).load(lab.now, op, &unknown, None);
        lab.carry();
        (step, lab.reply(op))
    };
    let loss_window = (Progress::Pending(Loaded::Absent), Some(Reply::Uncertain));
    assert_eq!(load(&mut lab, 1), loss_window);
    lab.run(Duration::from_secs(50));
    assert_eq!(load(&mut lab, 2), loss_window);
    lab.run(Duration::from_secs(12));
    assert_eq!(load(&mut lab, 3), (Progress::Ready(Loaded::Absent), None));
}

/// Found by simulation: it declared the only node with the sessions down, which was merely slow,
/// and reported them as absent.
#[test]
fn a_newcomer_that_lost_its_source_is_in_doubt() {
    let mut lab = ReplicaLab::unconnected(2);
    lab.run(Duration::from_secs(3));
    lab.commit(0, 1, key(1), &born("a", "1"));
    let newcomer = ReplicaLab::unconnected(2).nodes.pop().unwrap();
    lab.nodes[1] = newcomer;
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_millis(500));
    assert!(!lab.replica(1).is_ready());
    // A change of a session does not show that the session exists.
    lab.commit(0, 4, key(1), &insert("b", "2"));
    let node = lab.nodes[0].0.clone();
    lab.input(1, Input::Refused { node });
    lab.hold = |_| true;
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(1).is_ready());
    let step = lab.replica(1).load(lab.now, 2, &key(1), None);
    lab.carry();
    assert_eq!(
        (step, lab.reply(2)),
        (Progress::Pending(Loaded::Absent), Some(Reply::Uncertain))
    );
    lab.run(Duration::from_secs(60));
    lab.replica(1).load(lab.now, 3, &key(1), None);
    lab.carry();
    assert_eq!(lab.reply(3), Some(Reply::Found(Loaded::Absent)));
}

/// Each of two nodes has served alone while a third one did not answer.
#[test]
fn uncertainty_does_not_end_when_an_uncertain_node_is_met() {
    let mut lab = looking(2, SILENT, |_| ());
    lab.run(Duration::from_secs(12));
    for (one, other) in [(0, 1), (1, 0)] {
        lab.link(one, other);
    }
    lab.run(Duration::from_secs(1));
    for index in 0..2 {
        assert!(lab.replica(index).status().settled);
        let found = unknown(&mut lab, index, 1 + index as OpId);
        assert_eq!(found, Ok(Some(Reply::Uncertain)), "at {index}");
    }
}
