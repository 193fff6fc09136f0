//! Tests of the events of sessions that expire, while their owner fails or changes.

use super::events::{listen, seen};
use super::repeats::{kill, listening, of};
use super::*;
use crate::session::{EndReason, Scope, SessionEventKind};

#[test]
fn an_expiry_that_its_owner_has_not_reported_is_reported_by_another_holder() {
    let mut lab = listening(Copies::All);
    let brief = Changes::create(SECRET, Some(Duration::from_secs(1)), HOUR);
    lab.commit(0, 1, key(1), &brief);
    let owner = (0..3)
        .find(|index| lab.replica(*index).owns(key(1).slot()))
        .unwrap();
    lab.hold = |message| matches!(message, Message::Happened(_));
    lab.run(Duration::from_secs(3));
    assert!((0..3).all(|index| lab.read(index, key(1)).is_none()));
    lab.held.clear();
    lab.hold = |_| false;
    kill(&mut lab, owner);
    let expired = SessionEventKind::Expired(EndReason::Idle);
    for index in (0..3).filter(|index| *index != owner) {
        assert_eq!(of(&lab, index, key(1)), [(expired, true)], "at {index}");
    }
}

/// The former owner may have dropped the session before it failed.
#[test]
fn an_expiry_at_a_new_owner_is_a_possible_repeat() {
    let mut lab = listening(Copies::All);
    let brief = Changes::create(SECRET, Some(Duration::from_secs(10)), HOUR);
    lab.commit(0, 1, key(1), &brief);
    let owner = (0..3)
        .find(|index| lab.replica(*index).owns(key(1).slot()))
        .unwrap();
    kill(&mut lab, owner);
    lab.run(Duration::from_secs(4));
    let expired = SessionEventKind::Expired(EndReason::Idle);
    for index in (0..3).filter(|index| *index != owner) {
        assert_eq!(of(&lab, index, key(1)), [(expired, true)], "at {index}");
    }
}

/// The new owner has just joined: it does not have the sessions, or does not serve yet.
#[test]
fn an_expiry_while_its_owner_changes_is_reported() {
    let mut lab = ReplicaLab::unconnected(3);
    for (one, other) in [(0, 1), (1, 0)] {
        lab.link(one, other);
    }
    lab.run(Duration::from_secs(3));
    for index in 0..2 {
        listen(&mut lab, index, Scope::Cluster);
    }
    let brief = Changes::create(SECRET, Some(Duration::from_secs(5)), HOUR);
    for number in 1..=24 {
        lab.commit(0, number.into(), key(number), &brief);
    }
    lab.run(Duration::from_millis(5_900));
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    for (one, other) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
        lab.link(one, other);
    }
    lab.run(Duration::from_secs(1));
    let moved = (1..=24).filter(|number| lab.replica(2).owns(key(*number).slot()));
    assert!(moved.count() > 0);
    let expired = SessionEventKind::Expired(EndReason::Idle);
    for index in 0..2 {
        for number in 1..=24 {
            let kinds = of(&lab, index, key(number))
                .into_iter()
                .map(|(kind, _)| kind);
            assert_eq!(kinds.collect::<Vec<_>>(), [expired], "{number} at {index}");
        }
    }
}

/// One holder has dropped it, because an access was late.
#[test]
fn a_session_that_was_used_elsewhere_is_not_reported_as_expired() {
    let mut lab = listening(Copies::All);
    let idle = Changes::create(SECRET, Some(Duration::from_secs(10)), HOUR);
    lab.commit(0, 1, key(1), &idle);
    let owner = (0..3)
        .find(|index| lab.replica(*index).owns(key(1).slot()))
        .unwrap();
    lab.run(Duration::from_secs(9));
    lab.hold = |message| matches!(message, Message::Touch { .. });
    lab.replica(owner).touch(lab.now, &key(1));
    lab.carry();
    lab.run(Duration::from_secs(4));
    let others = || (0..3).filter(|index| *index != owner);
    assert!(others().all(|index| lab.replica(index).status().sessions == 0));
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert!(others().all(|index| lab.read(index, key(1)).is_some()));
    for other in others() {
        lab.cut.extend([(owner, other), (other, owner)]);
    }
    lab.run(Duration::from_secs(5));
    for index in others() {
        assert_eq!(lab.replica(index).status().members.len(), 1);
        assert!(lab.read(index, key(1)).is_some());
        assert_eq!(of(&lab, index, key(1)), [], "at {index}");
    }
}

#[test]
fn a_node_that_does_not_serve_reports_no_expiry() {
    let mut lab = listening(Copies::All);
    let brief = Changes::create(SECRET, Some(Duration::from_secs(1)), HOUR);
    for number in 1..=12 {
        lab.commit(0, number.into(), key(number), &brief);
    }
    // Alone and without a place among the others, it owns every slot.
    lab.cut = vec![(0, 2), (2, 0), (1, 2), (2, 1)];
    lab.input(2, Input::Paused);
    assert!(!lab.replica(2).is_ready());
    let has_ended = |lab: &ReplicaLab| (1..=12).all(|number| lab.read(2, key(number)).is_none());
    while lab.replica(2).status().sessions > 0 {
        lab.run(Duration::from_millis(50));
        assert!(!lab.replica(2).is_ready());
    }
    assert!(has_ended(&lab));
    assert_eq!(seen(&lab, 2), []);
}
