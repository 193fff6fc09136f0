//! Events: which node reports a change of a session, and which nodes receive it.

use super::*;
use crate::cluster::replica::events::Happening;
use crate::session::{EndReason, Scope, SessionEvent, SessionEventKind, UserKey};

/// The events that a node has handed out to subscribers with the scope of the cluster: whether it
/// has reported them itself, and what they say.
pub(super) fn seen(lab: &ReplicaLab, index: usize) -> Vec<(bool, SessionEvent)> {
    let at = lab.events.iter().filter(|(at, _)| *at == index);
    at.filter_map(|(_, report)| match report {
        EventReport::Local(event) => Some((true, event.clone())),
        EventReport::Remote(event) => Some((false, event.clone())),
        EventReport::Lost(events) => panic!("{events} are lost"),
        EventReport::LocalRepeat(_) | EventReport::Confirmed(_) => None,
    })
    .collect()
}

/// Reports an event of a session without a user.
fn report(lab: &mut ReplicaLab, index: usize, number: u8, kind: SessionEventKind) {
    let happening = Happening {
        kind,
        key: key(number),
        user: None,
        rotation: 0,
    };
    let now = lab.now;
    lab.replica(index).report(now, happening);
    lab.carry();
}

fn kinds(lab: &ReplicaLab, index: usize) -> Vec<SessionEventKind> {
    let seen = seen(lab, index).into_iter();
    seen.map(|(_, event)| event.kind).collect()
}

pub(super) fn listen(lab: &mut ReplicaLab, index: usize, scope: Scope) {
    lab.input(index, Input::Listen(Some(scope)));
}

#[test]
fn a_subscriber_to_the_cluster_receives_the_events_of_other_nodes() {
    let mut lab = ReplicaLab::cluster(3);
    assert!((0..3).all(|index| !lab.replica(index).reports()));
    listen(&mut lab, 0, Scope::Node);
    listen(&mut lab, 1, Scope::Cluster);
    assert!((0..3).all(|index| lab.replica(index).reports()));
    let user = Some(UserKey::of("ada"));
    let kind = SessionEventKind::Deleted(EndReason::Limit);
    let happening = Happening {
        kind,
        key: key(1),
        user,
        rotation: 0,
    };
    lab.replica(2).report(lab.now, happening);
    report(&mut lab, 0, 2, SessionEventKind::Created);
    let event = |kind, number, user, node: &str| SessionEvent {
        kind,
        key: key(number),
        user,
        node: Some(node.to_owned()),
        at: lab.now,
        possible_repeat: false,
    };
    let created = event(SessionEventKind::Created, 2, None, "node0");
    let deleted = event(kind, 1, user, "node2");
    assert_eq!(seen(&lab, 0), [(true, created.clone())]);
    let mut at_one = seen(&lab, 1);
    at_one.sort_by_key(|(_, event)| event.key);
    assert_eq!(at_one, [(false, deleted), (false, created)]);
    assert_eq!(seen(&lab, 2), []);
}

#[test]
fn one_node_reports_that_a_session_has_expired() {
    let mut lab = ReplicaLab::cluster(3);
    for index in 0..3 {
        listen(&mut lab, index, Scope::Cluster);
    }
    for number in 1..=12 {
        let idle = Some(Duration::from_secs(5));
        let lifetime = Duration::from_secs(if number > 6 { 4 } else { 60 });
        let changes = Changes::create(SECRET, idle, lifetime);
        lab.commit(0, number.into(), key(number), &changes);
    }
    lab.run(Duration::from_secs(8));
    let idle = SessionEventKind::Expired(EndReason::Idle);
    let absolute_timeout = SessionEventKind::Expired(EndReason::Absolute);
    for index in 0..3 {
        let mut seen = seen(&lab, index);
        seen.sort_by_key(|(_, event)| event.key);
        let found: Vec<_> = seen
            .iter()
            .map(|(_, event)| (event.key, event.kind))
            .collect();
        let expected: Vec<_> = (1..=12)
            .map(|number| {
                (
                    key(number),
                    if number > 6 { absolute_timeout } else { idle },
                )
            })
            .collect();
        assert_eq!(found, expected, "at {index}");
        for (mine, event) in seen {
            let owns = lab.replica(index).owns(event.key.slot());
            assert_eq!(mine, owns, "{event:?} at {index}");
        }
    }
}

#[test]
fn a_node_that_is_no_holder_receives_the_events_as_well() {
    let copies = Copies::Count(2.try_into().unwrap());
    let mut lab = ReplicaLab::cluster_with(3, copies);
    for index in 0..3 {
        listen(&mut lab, index, Scope::Cluster);
    }
    let changes = Changes::create(SECRET, Some(Duration::from_secs(5)), HOUR);
    lab.commit(0, 1, key(1), &changes);
    lab.run(Duration::from_secs(8));
    assert!((0..3).any(|index| !lab.replica(index).holds(&key(1))));
    for index in 0..3 {
        let expired = SessionEventKind::Expired(EndReason::Idle);
        assert_eq!(kinds(&lab, index), [expired], "at {index}");
    }
}

#[test]
fn a_later_member_receives_the_subscriptions_and_a_canceled_one_receives_nothing() {
    let mut lab = ReplicaLab::unconnected(2);
    listen(&mut lab, 0, Scope::Cluster);
    lab.run(Duration::from_secs(3));
    for (one, other) in [(0, 1), (1, 0)] {
        lab.link(one, other);
    }
    lab.run(Duration::from_secs(3));
    let report = |lab: &mut ReplicaLab, number| report(lab, 1, number, SessionEventKind::Created);
    report(&mut lab, 1);
    assert_eq!(kinds(&lab, 0), [SessionEventKind::Created]);
    // A link that breaks does not end it.
    lab.relink(1, 0);
    lab.relink(0, 1);
    lab.run(Duration::from_secs(10));
    report(&mut lab, 2);
    assert_eq!(kinds(&lab, 0).len(), 2);
    lab.input(0, Input::Listen(None));
    assert!(!lab.replica(1).reports());
    report(&mut lab, 3);
    assert_eq!(kinds(&lab, 0).len(), 2);
}

#[test]
fn a_silent_subscriber_gets_no_events() {
    let mut lab = ReplicaLab::cluster(2);
    listen(&mut lab, 0, Scope::Cluster);
    assert!(lab.replica(1).reports());
    lab.hold = |message| matches!(message, Message::Listen { .. });
    lab.run(Duration::from_secs(7));
    let before = kinds(&lab, 0).len();
    report(&mut lab, 1, 1, SessionEventKind::Created);
    assert_eq!(kinds(&lab, 0).len(), before);
    // It may come back for that, within a minute.
    assert!(lab.replica(1).reports());
    lab.run(Duration::from_secs(60));
    assert!(!lab.replica(1).reports());
}

#[test]
fn a_member_that_receives_nothing_has_a_limit_and_gets_the_number_of_what_is_lost() {
    let mut lab = ReplicaLab::cluster(2);
    listen(&mut lab, 0, Scope::Cluster);
    // Nothing is reported as delivered while the messages are held.
    lab.hold = |message| matches!(message, Message::Happened(_));
    let reported = 100_000;
    for rotation in 1..=reported {
        lab.replica(1).report(
            lab.now,
            Happening {
                kind: SessionEventKind::Rotated,
                key: key(1),
                user: None,
                rotation,
            },
        );
    }
    lab.carry();
    lab.hold = |_| false;
    let mut events = 0;
    while !lab.held.is_empty() {
        for (from, to, message) in std::mem::take(&mut lab.held) {
            lab.deliver(from, to, message);
        }
        lab.carry();
    }
    let mut lost = 0;
    for (_, report) in &lab.events {
        match report {
            EventReport::Lost(number) => lost += number,
            EventReport::Remote(_) => events += 1,
            _ => {}
        }
    }
    assert!(lost > 0);
    assert_eq!(events + lost, reported);
}

/// the node that owns the user's list reports what it ends on its own account.
#[test]
fn a_session_that_is_ended_when_two_sides_meet_is_reported_once() {
    let mut lab = users::split();
    users::log_in(&mut lab, 0, 10, 2);
    lab.run(Duration::from_secs(1));
    let mut end = Changes::default();
    crate::session::note_end(&mut end);
    let root = crate::session::index_root(&UserKey::of("ada"));
    lab.commit(1, 20, root, &end);
    for index in 0..2 {
        listen(&mut lab, index, Scope::Cluster);
    }
    users::heal(&mut lab);
    let deleted = SessionEventKind::Deleted(EndReason::User);
    for index in 0..2 {
        let seen = seen(&lab, index).into_iter().map(|(_, event)| event);
        let mut seen: Vec<_> = seen.map(|event| (event.key, event.kind)).collect();
        seen.sort_by_key(|(key, _)| *key);
        assert_eq!(seen, [(key(1), deleted), (key(2), deleted)], "at {index}");
    }
}

/// Otherwise the events of its first second would be lost.
#[test]
fn a_node_that_joins_receives_the_subscriptions_at_once() {
    let mut lab = ReplicaLab::unconnected(2);
    listen(&mut lab, 0, Scope::Cluster);
    for (one, other) in [(0, 1), (1, 0)] {
        lab.link(one, other);
    }
    assert!(lab.replica(1).reports());
}
