//! Events whose node or link fails before they have arrived.

use super::events::{listen, seen};
use super::*;
use crate::cluster::replica::events::Happening;
use crate::session::{EndReason, Scope, SessionEvent, SessionEventKind};

const CREATED: SessionEventKind = SessionEventKind::Created;

/// Three nodes with subscribers to everything.
pub(super) fn listening(copies: Copies) -> ReplicaLab {
    let mut lab = ReplicaLab::cluster_with(3, copies);
    for index in 0..3 {
        listen(&mut lab, index, Scope::Cluster);
    }
    lab
}

fn report(lab: &mut ReplicaLab, index: usize, key: Root, kind: SessionEventKind) {
    let record = lab.replica(index).peek(lab.now, &key);
    let happening = Happening {
        kind,
        key,
        user: record.and_then(|record| record.user()),
        rotation: 0,
    };
    let now = lab.now;
    lab.replica(index).report(now, happening);
    lab.carry();
}

/// Cuts a node off, which the others soon declare down.
pub(super) fn kill(lab: &mut ReplicaLab, dead: usize) {
    for other in (0..lab.nodes.len()).filter(|other| *other != dead) {
        lab.cut.extend([(dead, other), (other, dead)]);
    }
    lab.run(Duration::from_secs(10));
}

/// The events of a session at a node: their kinds, and whether they are possible repeats.
pub(super) fn of(lab: &ReplicaLab, index: usize, key: Root) -> Vec<(SessionEventKind, bool)> {
    let seen = seen(lab, index).into_iter().map(|(_, event)| event);
    let of_key = seen.filter(|event| event.key == key);
    of_key
        .map(|event| (event.kind, event.possible_repeat))
        .collect()
}

#[test]
fn what_a_node_has_done_before_it_failed_is_reported_by_another_one() {
    let mut lab = listening(Copies::All);
    let deleted = SessionEventKind::Deleted(EndReason::User);
    lab.commit(1, 1, key(1), &born("a", "1"));
    report(&mut lab, 1, key(1), CREATED);
    // The node that serves fails before it reports any of these.
    lab.commit(0, 2, key(2), &born("a", "1"));
    let now = lab.now;
    lab.replica(0).announce_reason(now, key(1), EndReason::User);
    lab.replica(0).delete(now, 3, &key(1));
    lab.carry();
    assert_eq!(lab.reply(3), Some(Reply::Written));
    let at = lab.now;
    kill(&mut lab, 0);
    for index in 1..3 {
        let ended = [(CREATED, false), (deleted, true)];
        assert_eq!(of(&lab, index, key(1)), ended, "at {index}");
        assert_eq!(of(&lab, index, key(2)), [(CREATED, true)], "at {index}");
    }
    // One node of the two has reported them, with the time at which they happened.
    let mine = |index| seen(&lab, index).into_iter().filter(|(mine, _)| *mine);
    let repeats: Vec<SessionEvent> = (1..3)
        .flat_map(mine)
        .map(|(_, event)| event)
        .filter(|event| event.possible_repeat)
        .collect();
    assert_eq!(repeats.len(), 2, "{repeats:?}");
    assert!(repeats.iter().all(|event| event.at == at), "{repeats:?}");
}

#[test]
fn what_was_received_before_a_node_failed_is_not_handed_out_again() {
    let mut lab = listening(Copies::All);
    lab.commit(0, 1, key(1), &born("a", "1"));
    report(&mut lab, 0, key(1), CREATED);
    kill(&mut lab, 0);
    for index in 1..3 {
        assert_eq!(of(&lab, index, key(1)), [(CREATED, false)], "at {index}");
    }
    // A subscriber to what one node reports may have been at the node that failed.
    let again = lab.events.iter().filter_map(|(_, report)| match report {
        EventReport::LocalRepeat(event) => Some((event.key, event.possible_repeat)),
        _ => None,
    });
    assert_eq!(again.collect::<Vec<_>>(), [(key(1), true)]);
}

/// The report has reached one subscriber and not the other.
#[test]
fn a_member_that_has_received_an_event_reports_it_to_those_that_have_not() {
    for (early, late) in [(1, 2), (2, 1)] {
        let mut lab = listening(Copies::All);
        lab.commit(0, 1, key(1), &born("a", "1"));
        lab.cut = vec![(0, late)];
        report(&mut lab, 0, key(1), CREATED);
        kill(&mut lab, 0);
        assert_eq!(of(&lab, early, key(1)), [(CREATED, false)]);
        assert_eq!(of(&lab, late, key(1)), [(CREATED, true)]);
    }
}

#[test]
fn the_owner_reports_what_it_has_done_for_a_node_that_fails() {
    let copies = Copies::Count(1.try_into().unwrap());
    let mut lab = listening(copies);
    let asker = (0..3)
        .find(|index| !lab.replica(*index).holds(&key(1)))
        .unwrap();
    lab.commit(asker, 1, key(1), &born("a", "1"));
    let mut rotation = Changes::default();
    rotation.rotate(SECRET, SecretHash::from_bytes([2; 16]));
    lab.commit(asker, 2, key(1), &rotation);
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    let now = lab.now;
    lab.replica(asker)
        .announce_reason(now, key(1), EndReason::Logout);
    lab.replica(asker).delete(now, 3, &key(1));
    lab.carry();
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
    kill(&mut lab, asker);
    let expected = [
        (CREATED, true),
        (SessionEventKind::Rotated, true),
        (SessionEventKind::Deleted(EndReason::Logout), true),
    ];
    for index in (0..3).filter(|index| *index != asker) {
        assert_eq!(of(&lab, index, key(1)), expected, "at {index}");
    }
}

#[test]
fn a_reason_reaches_all_holders_through_the_owner() {
    let copies = Copies::Count(2.try_into().unwrap());
    let mut lab = listening(copies);
    let asker = (0..3)
        .find(|index| !lab.replica(*index).holds(&key(1)))
        .unwrap();
    let owner = (0..3)
        .find(|index| lab.replica(*index).owns(key(1).slot()))
        .unwrap();
    lab.commit(asker, 1, key(1), &born("a", "1"));
    let now = lab.now;
    lab.replica(asker)
        .announce_reason(now, key(1), EndReason::Limit);
    lab.replica(asker).delete(now, 2, &key(1));
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    kill(&mut lab, owner);
    let deleted = SessionEventKind::Deleted(EndReason::Limit);
    for index in (0..3).filter(|index| *index != owner) {
        let expected = [(CREATED, true), (deleted, true)];
        assert_eq!(of(&lab, index, key(1)), expected, "at {index}");
    }
}

#[test]
fn a_node_that_leaves_in_order_has_reported_everything() {
    let mut lab = listening(Copies::All);
    lab.commit(0, 1, key(1), &born("a", "1"));
    report(&mut lab, 0, key(1), CREATED);
    for index in 1..3 {
        // Only here: a subscriber that is new would take a repeat for the event.
        lab.input(index, Input::Listen(None));
        listen(&mut lab, index, Scope::Cluster);
    }
    lab.events.clear();
    lab.input(0, Input::Drain(true));
    lab.run(Duration::from_secs(3));
    lab.input(0, Input::Leave);
    lab.run(Duration::from_secs(10));
    for index in 1..3 {
        assert_eq!(of(&lab, index, key(1)), [], "at {index}");
    }
}

#[test]
fn events_on_a_link_that_breaks_are_received_once_and_in_order() {
    let mut lab = ReplicaLab::cluster(2);
    listen(&mut lab, 0, Scope::Cluster);
    // The place is known once `Listen` was repeated.
    lab.run(Duration::from_secs(2));
    let expected: Vec<_> = (1..=6).map(|number| (key(number), false)).collect();
    for number in 1..=2 {
        report(&mut lab, 1, key(number), CREATED);
    }
    lab.hold = |message| matches!(message, Message::Happened(_));
    for number in 3..=5 {
        report(&mut lab, 1, key(number), CREATED);
    }
    // One of those in flight arrives, late.
    let late = lab.held.pop().unwrap();
    lab.lose_held();
    let received = |lab: &ReplicaLab| -> Vec<_> {
        let events = seen(lab, 0).into_iter();
        events
            .map(|(_, event)| (event.key, event.possible_repeat))
            .collect()
    };
    assert_eq!(received(&lab), expected[..5]);
    let (from, to, message) = late;
    lab.deliver(from, to, message);
    report(&mut lab, 1, key(6), CREATED);
    lab.relink(1, 0);
    lab.run(Duration::from_secs(3));
    assert_eq!(received(&lab), expected);
}

#[test]
fn an_event_that_is_missing_is_sent_again_with_those_that_follow_it() {
    let mut lab = ReplicaLab::cluster(2);
    listen(&mut lab, 0, Scope::Cluster);
    lab.run(Duration::from_secs(2));
    lab.hold = |message| matches!(message, Message::Happened(_));
    for number in 1..=3 {
        report(&mut lab, 1, key(number), CREATED);
    }
    lab.hold = |_| false;
    let mut held = std::mem::take(&mut lab.held).into_iter();
    // The first one counts as delivered, and has not arrived.
    let (_, _, message) = held.next().unwrap();
    let delivered = Input::Delivered {
        node: lab.nodes[0].0.clone(),
        bytes: message.size(),
        large: false,
    };
    lab.input(1, delivered);
    for (from, to, message) in held {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(seen(&lab, 0), []);
    lab.run(Duration::from_secs(2));
    let keys = seen(&lab, 0).into_iter().map(|(_, event)| event.key);
    assert_eq!(keys.collect::<Vec<_>>(), [key(1), key(2), key(3)]);
}

#[test]
fn a_new_subscription_begins_with_what_follows_it() {
    let mut lab = listening(Copies::All);
    report(&mut lab, 1, key(1), CREATED);
    lab.run(Duration::from_secs(2));
    lab.input(0, Input::Listen(None));
    report(&mut lab, 1, key(2), CREATED);
    listen(&mut lab, 0, Scope::Cluster);
    lab.run(Duration::from_secs(2));
    report(&mut lab, 1, key(3), CREATED);
    let keys = seen(&lab, 0).into_iter().map(|(_, event)| event.key);
    assert_eq!(keys.collect::<Vec<_>>(), [key(1), key(3)]);
    let keys = seen(&lab, 2).into_iter().map(|(_, event)| event.key);
    assert_eq!(keys.collect::<Vec<_>>(), [key(1), key(2), key(3)]);
}

#[test]
fn a_member_that_was_cut_off_receives_what_it_has_missed() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    listen(&mut lab, 0, Scope::Cluster);
    lab.run(Duration::from_secs(2));
    report(&mut lab, 1, key(1), CREATED);
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(10));
    assert!((0..2).all(|index| lab.replica(index).status().members.is_empty()));
    report(&mut lab, 1, key(2), CREATED);
    users::heal(&mut lab);
    report(&mut lab, 1, key(3), CREATED);
    for number in 1..=3 {
        assert_eq!(of(&lab, 0, key(number)), [(CREATED, false)], "{number}");
    }
}

#[test]
fn a_subscription_is_confirmed_when_all_members_have_answered() {
    let mut lab = ReplicaLab::cluster(3);
    lab.hold = |message| matches!(message, Message::Listens(_));
    listen(&mut lab, 0, Scope::Cluster);
    let confirmed = |lab: &ReplicaLab| {
        let last = lab
            .events
            .iter()
            .rev()
            .find_map(|(index, report)| match report {
                EventReport::Confirmed(by_all) if *index == 0 => Some(*by_all),
                _ => None,
            });
        last.unwrap_or(false)
    };
    assert!(!confirmed(&lab));
    let (from, to, answer) = lab.held.pop().unwrap();
    lab.deliver(from, to, answer);
    lab.carry();
    assert!(!confirmed(&lab));
    // A member that is gone need not answer.
    let dead = lab.held.pop().unwrap().0;
    lab.held.clear();
    kill(&mut lab, dead);
    assert!(confirmed(&lab));
    // The next subscription starts again.
    lab.input(0, Input::Listen(None));
    listen(&mut lab, 0, Scope::Cluster);
    assert!(!confirmed(&lab));
    lab.hold = |_| false;
    lab.run(Duration::from_secs(2));
    assert!(confirmed(&lab));
}

/// The reason is lost on its way to the other holders, and the report on its way to one of them,
/// which reports the deletion without the reason when the node has failed.
#[test]
fn a_deletion_that_is_repeated_without_its_reason_is_not_handed_out_again() {
    let mut lab = listening(Copies::All);
    let deleted = SessionEventKind::Deleted;
    lab.commit(0, 1, key(1), &born("a", "1"));
    report(&mut lab, 0, key(1), CREATED);
    lab.hold = |message| matches!(message, Message::Reason(_));
    let now = lab.now;
    lab.replica(0)
        .announce_reason(now, key(1), EndReason::Logout);
    lab.replica(0).delete(now, 2, &key(1));
    lab.carry();
    lab.held.clear();
    lab.hold = |_| false;
    lab.cut = vec![(0, 1)];
    report(&mut lab, 0, key(1), deleted(EndReason::Logout));
    kill(&mut lab, 0);
    let at_one = [(CREATED, false), (deleted(EndReason::Admin), true)];
    assert_eq!(of(&lab, 1, key(1)), at_one);
    let at_two = [(CREATED, false), (deleted(EndReason::Logout), false)];
    assert_eq!(of(&lab, 2, key(1)), at_two);
}
