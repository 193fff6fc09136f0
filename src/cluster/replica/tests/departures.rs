//! Tests of members that are missing, leave in order, come back or are replaced, and of their
//! places.

use super::copies::{find, holders, two};
use super::slowness::{is_write, roomy};
use super::*;
use crate::cluster::replica::events::Happening;
use crate::session::{EndReason, Scope, SessionEventKind};

/// Declares a member down at the others, to which it has no links any more.
fn fail(lab: &mut ReplicaLab, dead: usize) {
    let node = lab.nodes[dead].0.clone();
    let others: Vec<_> = (0..lab.nodes.len()).filter(|one| *one != dead).collect();
    for other in &others {
        lab.cut.extend([(*other, dead), (dead, *other)]);
    }
    for other in others {
        let node = node.clone();
        lab.input(other, Input::Refused { node });
    }
    lab.run(Duration::from_millis(500));
}

fn leave(lab: &mut ReplicaLab, leaver: usize) {
    lab.input(leaver, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    lab.input(leaver, Input::Leave);
    lab.run(Duration::from_millis(500));
}

/// Starts a node again, as another process under this number.
fn start(lab: &mut ReplicaLab, index: usize, number: u16) {
    let me = Node {
        incarnation: 2,
        ..node(number)
    };
    let settings = Settings {
        me: me.clone(),
        ..settings(number, Copies::All)
    };
    lab.nodes[index] = (me, Replica::new(lab.now, settings));
    lab.cut.retain(|(from, to)| *from != index && *to != index);
    for other in (0..lab.nodes.len()).filter(|other| *other != index) {
        lab.link(other, index);
        lab.link(index, other);
    }
    lab.run(Duration::from_secs(2));
}

/// A node that has left in order starts again while another one is missing: it is not in the place
/// of that one, whose writes may still come.
#[test]
fn a_node_that_had_left_does_not_replace_a_missing_one() {
    let mut lab = ReplicaLab::cluster(4);
    fail(&mut lab, 3);
    assert!(lab.replica(0).is_divided());
    leave(&mut lab, 2);
    lab.nodes.pop();
    lab.cut.clear();
    start(&mut lab, 2, 2);
    assert_eq!(lab.replica(0).status().members.len(), 2);
    assert!(lab.replica(0).is_divided(), "a member is missing");
}

/// The same, if the others have removed the node before its `Leave` arrives.
#[test]
fn a_node_whose_leave_message_was_late_does_not_replace_a_missing_one() {
    let mut lab = ReplicaLab::cluster(4);
    fail(&mut lab, 3);
    lab.nodes.pop();
    lab.cut.clear();
    lab.input(2, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    lab.hold = |message| matches!(message, Message::Leave | Message::Swim(_));
    lab.input(2, Input::Leave);
    lab.hold = |_| false;
    let late = std::mem::take(&mut lab.held);
    let node = lab.nodes[2].0.clone();
    for index in 0..2 {
        let node = node.clone();
        lab.input(index, Input::Refused { node });
    }
    lab.run(Duration::from_millis(1_500));
    assert_eq!(lab.replica(0).status().members.len(), 1);
    for (from, to, message) in late {
        if to < 2 && message == Message::Leave {
            lab.deliver(from, to, message);
        }
    }
    lab.carry();
    start(&mut lab, 2, 2);
    assert_eq!(lab.replica(0).status().members.len(), 2);
    assert!(lab.replica(0).is_divided(), "a member is missing");
}

/// The failed node does not come back. Marks of removed attributes would be kept for good.
#[test]
fn a_node_of_another_name_replaces_a_missing_one() {
    let mut lab = ReplicaLab::cluster(3);
    fail(&mut lab, 2);
    assert!(lab.replica(0).is_divided());
    start(&mut lab, 2, 7);
    assert_eq!(lab.replica(0).status().members.len(), 2);
    assert!(!lab.replica(0).is_divided());
}

/// A member that was missing is back, and another one fails before the sessions are compared.
#[test]
fn a_partition_does_not_end_when_another_member_fails() {
    let mut lab = ReplicaLab::cluster(4);
    fail(&mut lab, 3);
    lab.hold = |message| matches!(message, Message::Digests { .. });
    start(&mut lab, 3, 3);
    assert_eq!(lab.replica(0).status().members.len(), 3);
    fail(&mut lab, 2);
    lab.lose_held();
    lab.run(Duration::from_secs(2));
    let status = lab.replica(0).status();
    assert!(status.settled && status.members.len() == 2);
    assert!(lab.replica(0).is_divided(), "a member is missing");
}

/// What a member has handed over before it left is not lost.
#[test]
fn an_orderly_leave_leaves_no_uncertainty() {
    for is_late in [false, true] {
        let mut lab = ReplicaLab::cluster_with(3, Copies::Count(1.try_into().unwrap()));
        lab.input(2, Input::Drain(true));
        lab.run(Duration::from_secs(1));
        if is_late {
            lab.hold = |message| matches!(message, Message::Leave);
        }
        lab.input(2, Input::Leave);
        lab.run(Duration::from_secs(1));
        lab.hold = |_| false;
        for (from, to, message) in std::mem::take(&mut lab.held) {
            lab.deliver(from, to, message);
        }
        lab.carry();
        assert_eq!(lab.replica(0).status().members.len(), 1);
        for number in 200..220 {
            let step = lab
                .replica(0)
                .load(lab.now, number.into(), &key(number), None);
            lab.carry();
            let absent = Some(Reply::Found(Loaded::Absent));
            let is_certain =
                step == Progress::Ready(Loaded::Absent) || lab.reply(number.into()) == absent;
            assert!(is_certain, "late: {is_late}, {step:?}");
        }
    }
}

/// The new member numbers its writes from one, like the failed one whose place it takes.
#[test]
fn acknowledgements_for_a_failed_member_do_not_count_for_the_next_one() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(1, 1, key(1), &born("a", "1"));
    assert_eq!(lab.reply(1), Some(Reply::Written));
    fail(&mut lab, 1);
    start(&mut lab, 1, 7);
    lab.hold = is_write;
    lab.commit(1, 2, key(2), &born("a", "1"));
    lab.relink(0, 1);
    assert!(lab.read(0, key(2)).is_none());
    assert_eq!(lab.reply(2), None);
}

/// A write was in flight to a member that failed: no delivery of it is ever reported.
#[test]
fn bytes_in_flight_to_a_failed_member_do_not_count_for_the_next_one() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    fail(&mut lab, 1);
    lab.held.clear();
    lab.hold = |_| false;
    start(&mut lab, 1, 7);
    lab.run(Duration::from_secs(12));
    assert!(lab.replica(0).status().settled);
    let is_stalled = |(_, notification): &(usize, Notification)| {
        matches!(notification, Notification::Stalled(_))
    };
    assert!(!lab.reports.iter().any(is_stalled));
}

/// What a node that leaves in order has had is not missing. One whose sessions or writes the others
/// lack fails instead.
#[test]
fn only_a_node_that_has_handed_over_leaves_in_order() {
    for case in 0..4 {
        let mut lab = ReplicaLab::cluster(2);
        lab.hold = |message| {
            matches!(message, Message::Leave | Message::Digests { .. }) || is_write(message)
        };
        match case {
            0 => {}
            // The other node is not complete.
            1 => {
                for leaving in [true, false] {
                    lab.input(1, Input::Drain(leaving));
                }
            }
            // It lacks a write.
            2 => {
                lab.commit(0, 1, key(1), &born("a", "1"));
            }
            // It leaves as well.
            _ => {
                lab.hold = |message| matches!(message, Message::Leave);
                for index in 0..2 {
                    lab.input(index, Input::Drain(true));
                }
                lab.run(Duration::from_secs(1));
                assert!(lab.replica(0).status().settled);
            }
        }
        lab.input(0, Input::Leave);
        let is_leave = |(.., message): &(usize, usize, Message)| *message == Message::Leave;
        assert_eq!(lab.held.iter().any(is_leave), case == 0, "case {case}");
    }
}

/// Their callers would wait without end: a node that has left handles nothing any more.
#[test]
fn a_node_that_leaves_answers_all_calls() {
    let mut lab = ReplicaLab::cluster_with(3, Copies::Count(1.try_into().unwrap()));
    let other = find(&lab, |lab, key| holders(lab, key) == [1]);
    lab.commit(1, 1, other, &born("a", "1"));
    let mut pair = ReplicaLab::cluster(2);
    pair.hold = is_write;
    pair.commit(0, 2, key(1), &born("a", "1"));
    lab.hold = |message| message.lane() == Lane::Data;
    let (replica, now) = (lab.replica(0), lab.now);
    replica.load(now, 3, &other, None);
    replica.delete(now, 4, &other);
    replica.list(now, 5, Scope::Cluster, None, 10);
    lab.carry();
    for op in 3..6 {
        assert_eq!(lab.reply(op), None);
    }
    for lab in [&mut lab, &mut pair] {
        lab.input(0, Input::Leave);
    }
    assert_eq!(pair.reply(2), Some(Reply::Indeterminate));
    assert_eq!(lab.reply(3), Some(Reply::Unavailable));
    assert_eq!(lab.reply(4), Some(Reply::Indeterminate));
    assert_eq!(lab.reply(5), Some(Reply::Unavailable));
}

/// The number of copies is reported as restored when there are enough members, and all of them are
/// complete.
#[test]
fn copying_ends_when_the_members_are_complete() {
    let is_end = |(index, notification): &(usize, Notification)| {
        *index == 0 && matches!(notification, Notification::CopyingEnds { .. })
    };
    let mut lab = ReplicaLab::cluster_with(2, two());
    lab.reports.clear();
    fail(&mut lab, 1);
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(0).status().settled);
    assert!(!lab.reports.iter().any(is_end), "a member is missing");
    lab.hold = |message| matches!(message, Message::Digests { .. });
    start(&mut lab, 1, 1);
    assert!(!lab.reports.iter().any(is_end), "it is not complete");
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert!(lab.reports.iter().any(is_end));
}

/// A subscriber gets no event from a member that has left: the events have to be sent before.
#[test]
fn events_that_wait_for_a_subscriber_hold_up_the_departure() {
    let mut lab = roomy(2, |_| {});
    events::listen(&mut lab, 1, Scope::Cluster);
    lab.hold = is_write;
    let text = "1".repeat(60 << 10);
    for number in 0..=u8::try_from(flow::SMALL_WINDOW / text.len()).unwrap() {
        lab.commit(0, number.into(), key(number), &born("a", &text));
    }
    lab.replica(0).report(
        lab.now,
        Happening {
            kind: SessionEventKind::Deleted(EndReason::Logout),
            key: key(200),
            user: None,
            rotation: 0,
        },
    );
    lab.carry();
    assert!(!lab.replica(0).status().reported);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert!(lab.replica(0).status().reported);
    assert_eq!(events::seen(&lab, 1).len(), 1);
}
