//! Tests of floors while members fail, restart, are stopped or cannot reach each other.

use super::floors::{
    MARKS_MAX, commit, floor, is_raise, is_vote, marks, names, on_the_brink, owner, pairs, remove,
};
use super::*;

#[test]
fn an_owner_that_fails_between_proposal_and_floor_leaves_the_record_as_it_was() {
    let mut lab = on_the_brink(3);
    let owner = owner(&lab);
    lab.hold = is_vote;
    pairs(&mut lab, &[owner], 1, "last");
    assert_eq!(lab.held.len(), 2);
    lab.held.clear();
    lab.hold = |_| false;
    kill(&mut lab, owner);
    let others: Vec<_> = (0..3).filter(|index| *index != owner).collect();
    for index in &others {
        assert_eq!((marks(&lab, *index), floor(&lab, *index)), (32, None));
    }
    // A member is missing: its marks are kept until it, or another node, has joined.
    pairs(&mut lab, &others, 10, "later");
    assert!(others.iter().all(|index| marks(&lab, *index) == 42));
    restart(&mut lab, owner);
    pairs(&mut lab, &others, 1, "last");
    lab.run(Duration::from_millis(300));
    for index in 0..3 {
        assert!(marks(&lab, index) <= MARKS_MAX, "{}", marks(&lab, index));
        assert_eq!(names(&lab, index), ["a"]);
    }
}

/// The owner of a new view lacks the floor, which another holder already has.
#[test]
fn a_floor_that_only_some_holders_have_loses_nothing() {
    let mut lab = on_the_brink(3);
    let owner = owner(&lab);
    lab.hold = |message| matches!(message, Message::Write(write) if is_raise(write));
    pairs(&mut lab, &[owner], 1, "last");
    assert_eq!(lab.held.len(), 2);
    let (from, to, raise) = lab.held.pop().unwrap();
    lab.held.clear();
    lab.hold = |_| false;
    lab.deliver(from, to, raise);
    let behind = 3 - owner - to;
    assert_eq!((marks(&lab, to), marks(&lab, behind)), (16, 32));
    commit(&mut lab, behind, &insert("b", "1"));
    commit(&mut lab, to, &insert("c", "1"));
    kill(&mut lab, owner);
    for index in [to, behind] {
        assert_eq!(names(&lab, index), ["a", "b", "c"]);
    }
    restart(&mut lab, owner);
    pairs(&mut lab, &[to, behind], 20, "later");
    lab.run(Duration::from_millis(300));
    for index in 0..3 {
        assert!(marks(&lab, index) <= MARKS_MAX);
        assert_eq!(names(&lab, index), ["a", "b", "c"]);
    }
}

#[test]
fn what_a_stopped_node_still_has_does_not_come_back() {
    let mut lab = ReplicaLab::cluster(3);
    lab.redials = true;
    commit(&mut lab, 0, &born("a", "1"));
    let owner = owner(&lab);
    let stopped = (owner + 1) % 3;
    let left = (owner + 2) % 3;
    for number in 0..50 {
        commit(&mut lab, owner, &insert(&format!("old_{number}"), "1"));
    }
    assert_eq!(names(&lab, stopped).len(), 51);
    isolate(&mut lab, stopped);
    for number in 0..50 {
        commit(&mut lab, left, &remove(&format!("old_{number}")));
    }
    // More marks than are kept for a missing member: the floor is raised anyway.
    pairs(&mut lab, &[owner, left], 200, "new");
    assert!(floor(&lab, owner).is_some());
    heal(&mut lab, stopped);
    for index in 0..3 {
        assert_eq!(names(&lab, index), ["a"], "at {index}");
    }
    commit(&mut lab, stopped, &insert("b", "1"));
    pairs(&mut lab, &[0, 1, 2], 50, "later");
    for index in 0..3 {
        assert_eq!(names(&lab, index), ["a", "b"]);
        assert!(marks(&lab, index) <= MARKS_MAX);
    }
    let discarded = (0..3).map(|index| lab.replica(index).status().discarded);
    assert_eq!(discarded.sum::<u64>(), 0);
}

#[test]
fn a_partition_keeps_marks_up_to_a_limit_and_loses_nothing_below_it() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    commit(&mut lab, 0, &born("a", "1"));
    isolate(&mut lab, 1);
    commit(&mut lab, 1, &insert("there", "1"));
    pairs(&mut lab, &[0], 70, "x");
    pairs(&mut lab, &[1], 70, "y");
    commit(&mut lab, 0, &insert("here", "1"));
    for index in 0..2 {
        assert_eq!((marks(&lab, index), floor(&lab, index)), (70, None));
    }
    heal(&mut lab, 1);
    for index in 0..2 {
        assert_eq!(names(&lab, index), ["a", "here", "there"]);
        assert!(marks(&lab, index) <= MARKS_MAX, "{}", marks(&lab, index));
        assert_eq!(lab.replica(index).status().discarded, 0);
    }
}

/// What the missing one has written may still come.
#[test]
fn a_member_that_restarts_does_not_stand_in_for_one_that_is_missing() {
    let mut lab = ReplicaLab::cluster(3);
    lab.redials = true;
    commit(&mut lab, 0, &born("a", "1"));
    isolate(&mut lab, 2);
    commit(&mut lab, 2, &insert("there", "1"));
    let cut = lab.cut.clone();
    kill(&mut lab, 1);
    revive(&mut lab, 1);
    lab.cut = cut;
    for (from, to) in [(0, 1), (1, 0)] {
        lab.link(from, to);
    }
    lab.run(Duration::from_secs(5));
    assert!(lab.replica(1).is_ready());
    pairs(&mut lab, &[0, 1], 60, "x");
    lab.run(Duration::from_secs(3));
    assert_eq!((marks(&lab, 0), floor(&lab, 0)), (60, None));
    heal(&mut lab, 2);
    pairs(&mut lab, &[0, 1, 2], 20, "y");
    for index in 0..3 {
        assert_eq!(names(&lab, index), ["a", "there"], "at {index}");
        assert!(marks(&lab, index) <= MARKS_MAX, "{}", marks(&lab, index));
    }
}

#[test]
fn beyond_the_limit_a_partition_loses_writes_and_counts_them() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    commit(&mut lab, 0, &born("a", "1"));
    isolate(&mut lab, 1);
    commit(&mut lab, 1, &insert("there", "1"));
    commit(&mut lab, 0, &insert("here", "1"));
    lab.run(Duration::from_millis(100));
    pairs(&mut lab, &[0], 500, "x");
    assert!(floor(&lab, 0).is_some());
    assert!(lab.replica(0).status().bytes < 16 << 10);
    heal(&mut lab, 1);
    for index in 0..2 {
        assert_eq!(names(&lab, index), ["a", "here"]);
    }
    let discarded = (0..2).map(|index| lab.replica(index).status().discarded);
    assert!(discarded.sum::<u64>() > 0);
}

/// Its version is older than the floor when its turn comes.
#[test]
fn a_change_of_a_member_that_holds_nothing_survives_a_floor_that_came_before_it() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::Count(2.try_into().unwrap()));
    let owner = owner(&lab);
    let asker = (0..3).find(|index| !lab.replica(*index).holds(&key(1)));
    let asker = asker.unwrap();
    let other = 3 - owner - asker;
    commit(&mut lab, owner, &born("a", "1"));
    lab.hold = |message| matches!(message, Message::Update(_));
    let step = lab.commit(asker, 50, key(1), &insert("b", "1"));
    assert!(matches!(step, Progress::Pending(_)));
    lab.run(Duration::from_millis(10));
    let update = lab.held.pop().unwrap();
    lab.hold = |_| false;
    pairs(&mut lab, &[owner, other], 40, "x");
    assert!(floor(&lab, owner).is_some());
    for _ in 0..2 {
        // It arrives twice: the second one is recognized.
        let (from, to, message) = update.clone();
        lab.deliver(from, to, message);
        lab.carry();
    }
    assert_eq!(lab.verdict(50), Some(UpdateStatus::Applied));
    for index in [owner, other] {
        assert_eq!(names(&lab, index), ["a", "b"]);
        assert_eq!(lab.read(index, key(1)).unwrap().updates().len(), 1);
    }
}

/// A holder has a floor that the owner of the new view lacks. Its marks have the same effect.
#[test]
fn an_owner_without_the_floor_gives_an_old_change_a_new_stamp_as_well() {
    let copies = Copies::Count(3.try_into().unwrap());
    let cluster = || ReplicaLab::cluster_with(5, copies);
    let holders = |lab: &ReplicaLab| -> Vec<_> {
        let holds = |index: &usize| lab.replica(*index).holds(&key(1));
        (0..5).filter(holds).collect()
    };
    // Determines the next owner.
    let mut trial = cluster();
    let first = owner(&trial);
    kill(&mut trial, first);
    trial.nodes[first].1 = ReplicaLab::unconnected(1).nodes.remove(0).1;
    let others: Vec<_> = (0..5).filter(|index| *index != first).collect();
    let second = others
        .iter()
        .find(|index| trial.replica(**index).owns(key(1).slot()));
    let second = *second.unwrap();
    let asker = others
        .iter()
        .find(|index| !trial.replica(**index).holds(&key(1)));
    let asker = *asker.unwrap();

    let mut lab = cluster();
    commit(&mut lab, first, &born("a", "1"));
    let third = holders(&lab)
        .into_iter()
        .find(|index| ![first, second].contains(index));
    let third = third.unwrap();
    lab.hold = |message| matches!(message, Message::Update(_));
    let step = lab.commit(asker, 50, key(1), &insert("b", "1"));
    assert!(matches!(step, Progress::Pending(_)));
    lab.hold = |message| match message {
        Message::Write(write) => is_raise(write),
        message => matches!(message, Message::Update(_)),
    };
    lab.run(Duration::from_millis(10));
    pairs(&mut lab, &[first], ProtocolRules::ALL.marks, "gone");
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        if to == third && matches!(message, Message::Write(_)) {
            lab.deliver(from, to, message);
        }
    }
    assert!(floor(&lab, third) > lab.read(second, key(1)).unwrap().floor());
    kill(&mut lab, first);
    lab.run(Duration::from_millis(500));
    assert_eq!(lab.verdict(50), Some(UpdateStatus::Applied));
    let left: Vec<_> = holders(&lab)
        .into_iter()
        .filter(|index| *index != first)
        .collect();
    assert_eq!(left.len(), 3);
    for index in left {
        assert_eq!(names(&lab, index), ["a", "b"], "at {index}");
    }
}

/// Ends the process; its port refuses connections.
pub(super) fn kill(lab: &mut ReplicaLab, gone: usize) {
    let node = lab.nodes[gone].0.clone();
    for index in (0..lab.nodes.len()).filter(|index| *index != gone) {
        lab.cut.extend([(gone, index), (index, gone)]);
        lab.input(index, Input::Refused { node: node.clone() });
    }
    lab.carry();
}

/// Its next life begins, with nothing.
fn revive(lab: &mut ReplicaLab, gone: usize) {
    let me = Node {
        incarnation: lab.nodes[gone].0.incarnation + 1,
        ..lab.nodes[gone].0.clone()
    };
    let settings = Settings {
        me: me.clone(),
        ..settings(gone as u16, Copies::All)
    };
    lab.nodes[gone] = (me, Replica::new(lab.now, settings));
}

/// It comes back with nothing.
fn restart(lab: &mut ReplicaLab, gone: usize) {
    revive(lab, gone);
    lab.cut.clear();
    dial_all(lab, gone);
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(gone).is_ready());
}

/// Cuts a node off until all nodes have noticed.
fn isolate(lab: &mut ReplicaLab, one: usize) {
    for other in (0..lab.nodes.len()).filter(|other| *other != one) {
        lab.cut.extend([(one, other), (other, one)]);
    }
    lab.run(Duration::from_secs(15));
    assert!(lab.nodes.iter().all(|(_, replica)| replica.is_ready()));
}

fn heal(lab: &mut ReplicaLab, one: usize) {
    lab.cut.clear();
    for _ in 0..10 {
        dial_all(lab, one);
        lab.run(Duration::from_secs(1));
    }
    let are_whole = lab.nodes.iter().all(|(_, replica)| {
        let status = replica.status();
        status.settled && status.members.len() + 1 == lab.nodes.len()
    });
    assert!(are_whole);
}

fn dial_all(lab: &mut ReplicaLab, one: usize) {
    for other in (0..lab.nodes.len()).filter(|other| *other != one) {
        lab.link(one, other);
        lab.link(other, one);
    }
}

/// One holder refuses, and the owner proposes the floor again. The vote of the other holder on the
/// first proposal arrives after that: it has not agreed to the second one.
#[test]
fn a_late_vote_on_an_earlier_proposal_does_not_count() {
    let mut lab = on_the_brink(3);
    let owner = owner(&lab);
    lab.hold = is_vote;
    pairs(&mut lab, &[owner], 1, "last");
    let late = lab.held.pop().unwrap();
    let (from, to, vote) = lab.held.pop().unwrap();
    let Message::Vote(vote) = vote else {
        panic!("{vote:?}")
    };
    let refusal = Vote {
        agrees: false,
        ..vote
    };
    lab.deliver(from, to, Message::Vote(refusal));
    lab.carry();
    lab.run(Duration::from_millis(200));
    let (again, missing): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
        .into_iter()
        .partition(|(voter, ..)| *voter == from);
    assert_eq!((again.len(), missing.len()), (1, 1), "proposed again");
    for (from, to, vote) in again.into_iter().chain([late]) {
        lab.deliver(from, to, vote);
    }
    lab.carry();
    assert_eq!(floor(&lab, owner), None);
    for (from, to, vote) in missing {
        lab.deliver(from, to, vote);
    }
    lab.carry();
    assert_eq!(marks(&lab, owner), 16);
}

/// The holder has raised its floor, and its acknowledgement of that is late.
#[test]
fn a_floor_that_is_under_way_does_not_hold_up_the_next_one() {
    let mut lab = on_the_brink(2);
    let owner = owner(&lab);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    pairs(&mut lab, &[owner], 1, "last");
    // Those of the writes arrive.
    let of_floor = lab.held.pop();
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    let first = [0, 1].map(|index| floor(&lab, index));
    assert!(first[0].is_some() && first[0] == first[1]);
    assert_eq!(lab.replica(owner).status().unacknowledged, 1);
    pairs(&mut lab, &[owner], 16, "more");
    lab.run(Duration::from_millis(300));
    assert_eq!([0, 1].map(|index| marks(&lab, index)), [16, 16]);
    let next = [0, 1].map(|index| floor(&lab, index));
    assert!(next[0] > first[0] && next[0] == next[1]);
    drop(of_floor);
}
