//! Tests of nodes that were suspended, or whose clock was set.

use super::certainty::{ABSENT, SILENT, link_all, removal_of, secs, unknown};
use super::*;

/// the replica's clock includes the time in which the machine is suspended.
#[test]
fn a_suspended_node_joins_again_and_serves_nothing_from_before() {
    for time in [secs(3), secs(60), secs(3600)] {
        let mut lab = ReplicaLab::cluster(2);
        lab.commit(0, 1, key(1), &born("a", "1"));
        // Node 1 is suspended; node 0 continues without it.
        lab.cut = vec![(0, 1), (1, 0)];
        let end = lab.now.plus(time);
        while lab.now < end {
            lab.now = lab.now.plus(Duration::from_millis(50));
            lab.input(0, Input::Timeout);
        }
        let step = lab.replica(0).delete(lab.now, 2, &key(1));
        assert!(matches!(
            step,
            Progress::Pending(true) | Progress::Ready(true)
        ));
        lab.carry();
        // Its first action after waking up.
        let read = lab.replica(1);
        read.handle(lab.now, Input::Timeout);
        let step = read.load(lab.now, 3, &key(1), None);
        assert_eq!(
            step,
            Progress::Rejected(StoreErrorKind::NotReady),
            "{time:?}"
        );
        lab.carry();
        lab.cut.clear();
        link_all(&mut lab);
        lab.run(secs(3));
        assert!(lab.replica(1).is_ready());
        assert!(lab.read(1, key(1)).is_none(), "{time:?}");
    }
}

///
#[test]
fn nodes_that_were_all_suspended_at_once_serve_again_soon() {
    let two = Copies::Count(std::num::NonZeroU8::MIN.saturating_add(1));
    let mut lab = ReplicaLab::cluster_with(3, two);
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.now = lab.now.plus(secs(1800));
    for index in 0..3 {
        lab.input(index, Input::Timeout);
        assert!(!lab.replica(index).is_ready());
    }
    link_all(&mut lab);
    lab.run(secs(1));
    for index in 0..3 {
        assert!(lab.replica(index).is_ready(), "node {index}");
        // Their former incarnations are no losses.
        let absent = unknown(&mut lab, index, 10 + index as OpId);
        assert_eq!(absent, ABSENT, "node {index}");
    }
    let copies = (0..3).filter(|index| lab.read(*index, key(1)).is_some());
    assert_eq!(copies.count(), 2);
}

/// a virtual machine all of whose clocks stood still.
#[test]
fn a_pause_that_only_the_wall_clock_shows_is_a_pause() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let before = lab.nodes[0].0.clone();
    lab.replica(0).handle(lab.now, Input::Paused);
    assert!(!lab.replica(0).is_ready());
    lab.carry();
    assert_eq!(lab.nodes[0].0, before.next_incarnation());
    link_all(&mut lab);
    lab.run(secs(1));
    assert!(lab.replica(0).is_ready());
    assert!(lab.read(0, key(1)).is_some(), "nothing expires early");
}

#[test]
fn a_node_that_serves_alone_goes_on_when_its_clock_is_set() {
    let mut lab = ReplicaLab::unconnected(1);
    lab.run(secs(3));
    lab.input(0, Input::Paused);
    assert!(lab.replica(0).is_ready());
}

#[test]
fn a_node_whose_clock_was_set_back_goes_on_above_its_last_incarnation() {
    let mut lab = ReplicaLab::unconnected(2);
    lab.input(1, Input::Seen { incarnation: 500 });
    assert_eq!(lab.nodes[1].0.incarnation, 501);
    lab.input(1, Input::Seen { incarnation: 500 });
    assert_eq!(lab.nodes[1].0.incarnation, 501, "that is known");
    link_all(&mut lab);
    lab.run(secs(3));
    assert!((0..2).all(|index| lab.replica(index).is_ready()));
    assert_eq!(lab.replica(0).status().members.len(), 1);
}

/// The members may have learned of it from others, so that none of them has met it.
#[test]
fn a_node_goes_on_above_its_last_incarnation_if_that_is_named_as_removed() {
    let mut lab = ReplicaLab::unconnected(2);
    let mut before = lab.nodes[1].0.clone();
    before.incarnation = 500;
    lab.deliver(0, 1, removal_of(before));
    lab.carry();
    assert_eq!(lab.nodes[1].0.incarnation, 501);
    // No clock is that far ahead: the number is from a faulty member.
    before = lab.nodes[1].0.clone();
    before.incarnation = u64::MAX >> 1;
    lab.deliver(0, 1, removal_of(before));
    lab.carry();
    assert_eq!(lab.nodes[1].0.incarnation, 501);
}

/// No other node can have continued without it.
#[test]
fn a_node_without_members_serves_on_after_a_pause() {
    let mut lab = ReplicaLab::unconnected(1);
    lab.run(secs(3));
    lab.input(0, Input::Paused);
    assert!(lab.replica(0).is_ready());
    assert_eq!(lab.replica(0).status().me, node(0));
}

/// All nodes were paused. One is paused again when it has met one of the others: that the other one
/// is back does not mean that all are.
#[test]
fn a_node_that_is_paused_again_waits_for_all_former_members() {
    let mut lab = ReplicaLab::cluster(3);
    let between = |one: usize, other: usize| [(one, other), (other, one)];
    lab.cut = [between(0, 1), between(0, 2), between(1, 2)].concat();
    for index in 0..3 {
        lab.input(index, Input::Outlook(SILENT));
        lab.input(index, Input::Paused);
    }
    lab.cut = [between(0, 2), between(1, 2)].concat();
    for time in [6, 3] {
        for (one, other) in between(0, 1) {
            lab.link(one, other);
        }
        lab.run(secs(time));
        assert_eq!(lab.replica(0).status().members.len(), 1);
        assert!(!lab.replica(0).is_ready());
        lab.input(0, Input::Paused);
    }
}
