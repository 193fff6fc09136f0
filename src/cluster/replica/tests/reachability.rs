//! Tests of members that some nodes cannot reach, or that receive nothing.

use super::slowness::{is_write, roomy};
use super::*;
use crate::cluster::replica::event::DownCause;

/// Other members receive from both, so the membership protocol keeps both; but no write could be
/// acknowledged by all holders for as long as it lasts.
#[test]
fn of_two_nodes_that_cannot_reach_each_other_one_is_removed() {
    for cut in [vec![(0, 1), (1, 0)], vec![(0, 1)], vec![(1, 0)]] {
        let mut lab = ReplicaLab::cluster(3);
        lab.redials = true;
        lab.cut = cut.clone();
        for (index, op, number) in [(0, 1, 1), (1, 2, 2), (2, 3, 3)] {
            lab.commit(index, op, key(number), &born("a", "1"));
        }
        let writes = |lab: &ReplicaLab| {
            (1..=3)
                .filter(|op| lab.reply(*op) == Some(Reply::Written))
                .count()
        };
        lab.run(Duration::from_millis(4_900));
        // The one that is removed had written something that the others have, but cannot be sure of
        // it.
        assert!(writes(&lab) >= 2, "{cut:?}: {:?}", lab.replies);
        let unreachable = |notification: &(usize, Notification)| {
            matches!(notification.1, Notification::Unreachable(_))
        };
        assert!(lab.reports.iter().any(unreachable), "{cut:?}");
        lab.run(Duration::from_secs(16));
        let serving = |lab: &ReplicaLab| {
            (0..3)
                .filter(|index| lab.replica(*index).is_ready())
                .count()
        };
        // The two that stay continue to work, while the third one retries now and then.
        for turn in 0..20 {
            let op = 10 + turn;
            let step = lab.commit(2, op, key(10 + turn as u8), &born("a", "1"));
            if matches!(step, Progress::Ready(_)) {
                lab.replies.push((op, Reply::Written));
            }
            lab.run(Duration::from_millis(50));
        }
        lab.run(Duration::from_secs(2));
        let written = |op: &OpId| lab.reply(*op) == Some(Reply::Written);
        assert!(
            (10..30).filter(written).count() >= 19,
            "{cut:?}: {:?}",
            lab.replies
        );
        lab.cut.clear();
        lab.run(Duration::from_secs(1));
        for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            lab.link(one, other);
        }
        for _ in 0..40 {
            lab.run(Duration::from_secs(1));
            for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                lab.link(one, other);
            }
        }
        assert_eq!(serving(&lab), 3, "{cut:?}");
        for number in [1, 2, 3, 10, 29] {
            assert!((0..3).all(|index| lab.read(index, key(number)).is_some()));
        }
    }
}

/// A refuted suspicion must have no effect.
#[test]
fn a_suspected_member_that_answers_keeps_its_incarnation() {
    for silent_for in [1_100, 1_600, 2_100] {
        let mut lab = ReplicaLab::cluster(2);
        lab.cut = vec![(0, 1), (1, 0)];
        lab.run(Duration::from_millis(silent_for));
        lab.cut.clear();
        lab.run(Duration::from_secs(5));
        let is_renewed = |(_, notification): &(usize, Notification)| {
            matches!(notification, Notification::Rejoining(_))
        };
        assert!(
            !lab.reports.iter().any(is_renewed),
            "{silent_for} ms: {:?}",
            lab.reports
        );
        assert!((0..2).all(|index| lab.replica(index).is_ready()));
    }
}

#[test]
fn a_refused_port_is_noticed_at_once() {
    let mut lab = ReplicaLab::cluster(2);
    let gone = lab.nodes[1].0.clone();
    lab.nodes.pop();
    lab.input(0, Input::Refused { node: gone });
    assert!(lab.replica(0).status().members.is_empty());
    let step = lab.commit(0, 1, key(1), &born("a", "1"));
    assert!(matches!(step, Progress::Ready(Outcome::Committed(_))));
}

/// The connection to a node that leaves is refused before its `Leave`, which another connection
/// carries, has arrived.
#[test]
fn a_refused_port_of_a_leaving_node_waits_for_its_leave_message() {
    let mut lab = leaving();
    lab.hold = |message| matches!(message, Message::Leave | Message::Swim(_));
    lab.input(2, Input::Leave);
    let node = lab.nodes[2].0.clone();
    lab.input(0, Input::Refused { node });
    lab.run(Duration::from_millis(300));
    assert_eq!(causes(&lab, 0), []);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.run(Duration::from_secs(2));
    for index in 0..2 {
        assert_eq!(causes(&lab, index), [DownCause::Left], "at {index}");
        assert!(!lab.replica(index).is_divided(), "nothing is missing");
    }
}

/// The other member has read `Leave` before, and has removed the node.
#[test]
fn a_leave_message_that_arrives_after_the_removal_counts() {
    let mut lab = leaving();
    lab.hold = |message| matches!(message, Message::Leave | Message::Swim(_));
    lab.input(2, Input::Leave);
    lab.hold = |_| false;
    let (early, late): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
        .into_iter()
        .partition(|(_, to, _)| *to == 1);
    for (from, to, message) in early {
        lab.deliver(from, to, message);
    }
    lab.run(Duration::from_secs(1));
    assert_eq!(causes(&lab, 0), [DownCause::Left]);
    assert!(lab.replica(0).is_divided(), "`Leave` is not here yet");
    for (from, to, message) in late {
        lab.deliver(from, to, message);
    }
    lab.run(Duration::from_secs(1));
    assert!(!lab.replica(0).is_divided(), "nothing is missing");
}

/// Of two nodes that are gone only one has left in order.
#[test]
fn a_late_leave_message_does_not_hide_a_failed_member() {
    let mut lab = ReplicaLab::cluster(4);
    lab.input(2, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    lab.hold = |message| matches!(message, Message::Leave | Message::Swim(_));
    lab.input(2, Input::Leave);
    lab.hold = |_| false;
    let held = std::mem::take(&mut lab.held);
    let (late, early): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, to, _)| *to == 0);
    let failed = lab.nodes.pop().unwrap().0;
    for (from, to, message) in early {
        if to < lab.nodes.len() {
            lab.deliver(from, to, message);
        }
    }
    lab.input(0, Input::Refused { node: failed });
    lab.run(Duration::from_secs(1));
    for (from, to, message) in late {
        lab.deliver(from, to, message);
    }
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(0).is_divided(), "a member is missing");
}

/// `Leave` is from an earlier process of the same name.
#[test]
fn a_late_leave_message_of_an_earlier_process_does_not_hide_a_failure() {
    let mut lab = ReplicaLab::cluster(3);
    let failed = lab.nodes.pop().unwrap().0;
    let node = failed.clone();
    lab.input(0, Input::Refused { node });
    assert!(lab.replica(0).is_divided(), "a member is missing");
    let to = lab.nodes[0].0.incarnation;
    for (incarnation, is_divided) in [(failed.incarnation - 1, true), (failed.incarnation, false)] {
        let from = Node {
            incarnation,
            ..failed.clone()
        };
        let leave = Input::Message {
            from,
            to,
            age: Duration::ZERO,
            message: Message::Leave,
        };
        lab.input(0, leave);
        assert_eq!(
            lab.replica(0).is_divided(),
            is_divided,
            "from {incarnation}"
        );
    }
}

/// The port is open again: the process has not ended.
#[test]
fn a_leaving_node_that_is_linked_again_stays() {
    let mut lab = leaving();
    let node = lab.nodes[2].0.clone();
    lab.input(0, Input::Refused { node });
    lab.relink(0, 2);
    lab.run(Duration::from_secs(2));
    assert_eq!(causes(&lab, 0), []);
}

#[test]
fn a_leaving_node_that_fails_before_its_leave_message_is_down_soon() {
    let mut lab = leaving();
    let node = lab.nodes.pop().unwrap().0;
    lab.input(0, Input::Refused { node });
    lab.run(Duration::from_millis(1_200));
    assert_eq!(causes(&lab, 0), [DownCause::Refused]);
}

/// Three nodes, of which the last one has handed over and is about to leave.
fn leaving() -> ReplicaLab {
    let mut lab = ReplicaLab::cluster(3);
    lab.input(2, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    lab.reports.clear();
    lab
}

/// Why members are down, in the reports of a node.
fn causes(lab: &ReplicaLab, index: usize) -> Vec<DownCause> {
    let of_node = lab.reports.iter().filter(|(at, _)| *at == index);
    of_node
        .filter_map(|(_, notification)| match notification {
            Notification::MemberDown { cause, .. } => Some(*cause),
            _ => None,
        })
        .collect()
}

#[test]
fn a_member_that_answers_and_receives_no_data_is_declared_down() {
    let mut lab = roomy(2, |_| {});
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.run(Duration::from_secs(9));
    assert_eq!(lab.replica(0).status().members.len(), 1);
    lab.run(Duration::from_secs(2));
    let stalled = |(index, sent): &(usize, Notification)| {
        *index == 0 && matches!(sent, Notification::Stalled(_))
    };
    assert!(lab.reports.iter().any(stalled), "{:?}", lab.reports);
}

/// Nothing arrives at the member, however much arrives from it.
#[test]
fn data_from_a_member_does_not_show_that_it_receives_any() {
    let mut lab = roomy(2, |_| {});
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    for _ in 0..11 {
        lab.run(Duration::from_secs(1));
        let node = lab.nodes[1].0.clone();
        lab.input(0, Input::Arriving { node });
    }
    assert_eq!(lab.replica(0).status().members.len(), 0);
}

/// What was in flight at the beginning of the pause has not been in flight for long. The healthy
/// members would be declared down, and the whole cluster would stop serving.
#[test]
fn a_node_that_was_paused_does_not_declare_its_members_down() {
    let mut lab = ReplicaLab::cluster(3);
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    assert_eq!(lab.held.len(), 2);
    lab.now = lab.now.plus(Duration::from_secs(20));
    lab.input(0, Input::Timeout);
    let stalled = |(_, sent): &(usize, Notification)| matches!(sent, Notification::Stalled(_));
    assert!(!lab.reports.iter().any(stalled), "{:?}", lab.reports);
    assert_eq!(lab.replica(0).status().members.len(), 2);
}

/// Its answers to probes wait behind data, parts of which arrive here, or of this node's there.
#[test]
fn a_member_with_which_data_is_exchanged_is_not_declared_down() {
    let inputs: [fn(Node) -> Input; 3] = [
        |node| Input::Delivered {
            node,
            bytes: 0,
            large: true,
        },
        |node| Input::Progress { node },
        |node| Input::Arriving { node },
    ];
    for input in inputs {
        let mut lab = ReplicaLab::cluster(2);
        lab.cut = vec![(1, 0)];
        let member = lab.nodes[1].0.clone();
        for _ in 0..20 {
            lab.run(Duration::from_millis(500));
            lab.input(0, input(member.clone()));
        }
        assert_eq!(causes(&lab, 0), [], "{:?}", input(member));
    }
}

#[test]
fn the_cause_of_a_removal_is_reported() {
    let mut lab = ReplicaLab::cluster(3);
    lab.reports.clear();
    // It has not announced that it leaves.
    lab.input(2, Input::Leave);
    lab.cut = vec![(1, 0), (0, 1)];
    lab.run(Duration::from_secs(8));
    assert_eq!(causes(&lab, 0), [DownCause::Left, DownCause::NoAnswer]);
}
