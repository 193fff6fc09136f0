//! Tests of readiness: when a node serves, and how certain it is that an unknown session does not
//! exist.

use super::*;
use crate::cluster::replica::event::Exclusion;

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const SILENT: Outlook = Outlook {
    configured: 1,
    accepting: 0,
    rejecting: 0,
    foreign: 0,
    excluding: 0,
    silent: 1,
};
const REJECTING: Outlook = Outlook {
    rejecting: 1,
    silent: 0,
    ..SILENT
};
const FOREIGN: Outlook = Outlook {
    foreign: 1,
    silent: 0,
    ..SILENT
};
const EXCLUDING: Outlook = Outlook {
    excluding: 1,
    ..REJECTING
};
const CLOSED: Outlook = Outlook {
    silent: 0,
    ..SILENT
};

/// Nodes that have not met each other, with this state of their configured addresses.
pub(super) fn looking(count: u16, outlook: Outlook, change: fn(&mut Settings)) -> ReplicaLab {
    let mut lab = ReplicaLab::unconnected(count);
    for number in 0..count {
        lab.nodes[usize::from(number)].1 = replica(number, change);
        lab.input(number.into(), Input::Outlook(outlook));
    }
    lab
}

pub(super) fn replica(number: u16, change: fn(&mut Settings)) -> Replica {
    let mut settings = settings(number, Copies::All);
    change(&mut settings);
    Replica::new(START, settings)
}

/// The view of a node that has no members and has recorded this incarnation as down.
pub(super) fn removal_of(node: Node) -> Message {
    Message::View(message::View {
        number: 1,
        ask: false,
        view: UNKNOWN,
        members: Vec::new(),
        removed: vec![node],
        complete: true,
        ready: true,
        leaving: false,
        loss_window: Duration::ZERO,
        kinds: None,
    })
}

pub(super) fn link_all(lab: &mut ReplicaLab) {
    let count = lab.nodes.len();
    for one in 0..count {
        for other in (0..count).filter(|other| *other != one) {
            lab.link(one, other);
        }
    }
}

/// The result of reading a session that no node has.
pub(super) fn unknown(
    lab: &mut ReplicaLab,
    index: usize,
    op: OpId,
) -> Result<Option<Reply>, StoreErrorKind> {
    let step = lab.replica(index).load(lab.now, op, &key(200), None);
    lab.carry();
    match step {
        Progress::Ready(record) => Ok(Some(Reply::Found(record))),
        Progress::Pending(_) => Ok(lab.reply(op)),
        Progress::Rejected(kind) => Err(kind),
    }
}

pub(super) const ABSENT: Result<Option<Reply>, StoreErrorKind> =
    Ok(Some(Reply::Found(Loaded::Absent)));
const UNCERTAIN: Result<Option<Reply>, StoreErrorKind> = Ok(Some(Reply::Uncertain));

#[test]
fn with_all_addresses_closed_a_node_serves_alone_at_once_and_is_certain() {
    let mut lab = looking(1, CLOSED, |_| ());
    lab.run(Duration::from_millis(1_900));
    assert!(!lab.replica(0).is_ready());
    lab.run(Duration::from_millis(200));
    assert_eq!(unknown(&mut lab, 0, 1), ABSENT);
}

///
#[test]
fn an_address_that_does_not_answer_makes_an_unknown_session_an_error_for_a_while() {
    let mut lab = looking(1, SILENT, |_| ());
    lab.run(Duration::from_millis(9_900));
    assert_eq!(unknown(&mut lab, 0, 1), Err(StoreErrorKind::NotReady));
    lab.run(Duration::from_millis(200));
    assert_eq!(unknown(&mut lab, 0, 2), UNCERTAIN);
    // A session that is written here is found.
    let created = lab.commit(0, 3, key(1), &born("a", "1"));
    assert!(matches!(created, Progress::Ready(Outcome::Committed(_))));
    lab.run(Duration::from_millis(59_700));
    assert_eq!(unknown(&mut lab, 0, 4), UNCERTAIN);
    lab.run(Duration::from_millis(300));
    assert_eq!(unknown(&mut lab, 0, 5), ABSENT);
}

#[test]
fn doubt_ends_when_the_address_turns_out_to_be_closed() {
    let mut lab = looking(1, SILENT, |_| ());
    lab.run(secs(11));
    assert_eq!(unknown(&mut lab, 0, 1), UNCERTAIN);
    lab.input(0, Input::Outlook(CLOSED));
    assert_eq!(unknown(&mut lab, 0, 2), ABSENT);
}

#[test]
fn a_newcomer_is_in_doubt_for_as_long_as_the_node_that_accepts_it() {
    let mut lab = looking(1, SILENT, |_| ());
    lab.run(secs(20));
    let newcomer = looking(2, Outlook::default(), |_| ()).nodes.pop().unwrap();
    lab.nodes.push(newcomer);
    link_all(&mut lab);
    lab.run(secs(1));
    assert_eq!(unknown(&mut lab, 1, 1), UNCERTAIN);
    // It lacks what may be missing, so the first node is no more certain than before.
    assert_eq!(unknown(&mut lab, 0, 2), UNCERTAIN);
    lab.run(secs(55));
    assert_eq!(unknown(&mut lab, 0, 3), ABSENT);
    assert_eq!(unknown(&mut lab, 1, 4), ABSENT);
}

/// C3.
#[test]
fn doubt_ends_when_a_node_that_has_served_meanwhile_is_met() {
    let mut lab = looking(2, CLOSED, |_| ());
    lab.input(0, Input::Outlook(SILENT));
    lab.run(secs(15));
    lab.commit(1, 1, key(7), &born("a", "1"));
    assert_eq!(unknown(&mut lab, 0, 2), UNCERTAIN);
    link_all(&mut lab);
    lab.run(secs(1));
    assert_eq!(unknown(&mut lab, 0, 3), ABSENT);
    assert!(lab.read(0, key(7)).is_some());
}

/// C3.
#[test]
fn a_node_that_a_serving_member_accepts_waits_for_nothing_else() {
    for outlook in [SILENT, REJECTING, FOREIGN] {
        let mut lab = looking(2, CLOSED, |_| ());
        lab.input(1, Input::Outlook(SILENT));
        lab.run(secs(3));
        lab.input(1, Input::Outlook(outlook));
        assert!(lab.replica(0).is_ready() && !lab.replica(1).is_ready());
        link_all(&mut lab);
        lab.run(Duration::from_millis(500));
        assert_eq!(unknown(&mut lab, 1, 1), ABSENT, "{outlook:?}");
    }
}

///
#[test]
fn a_node_that_is_rejected_never_serves_until_the_cause_is_gone() {
    for rejecting in [REJECTING, FOREIGN] {
        let mut lab = looking(1, rejecting, |_| ());
        lab.run(secs(200));
        assert_eq!(unknown(&mut lab, 0, 1), Err(StoreErrorKind::NotReady));
        lab.input(0, Input::Outlook(CLOSED));
        lab.run(Duration::from_millis(100));
        assert_eq!(unknown(&mut lab, 0, 2), ABSENT);
    }
}

#[test]
fn a_rejection_does_not_stop_a_node_that_serves() {
    let mut lab = looking(1, CLOSED, |_| ());
    lab.run(secs(3));
    lab.input(0, Input::Outlook(REJECTING));
    lab.run(secs(100));
    assert_eq!(unknown(&mut lab, 0, 1), ABSENT);
}

///
#[test]
fn one_node_that_rejects_does_not_hold_up_a_majority() {
    let of = |configured, change: fn(&mut Settings)| {
        let outlook = Outlook {
            configured,
            accepting: 1,
            ..REJECTING
        };
        let mut lab = looking(2, outlook, change);
        link_all(&mut lab);
        lab.run(secs(3));
        [0, 1].map(|index| unknown(&mut lab, index, index as OpId))
    };
    // Two of the three that are configured, and two of five.
    assert_eq!(of(2, |_| ()), [ABSENT, ABSENT]);
    let held_up = Err(StoreErrorKind::NotReady);
    assert_eq!(of(4, |_| ()), [held_up.clone(), held_up]);
    let two_are_enough = |settings: &mut Settings| settings.requirements.expect_nodes = 2;
    assert_eq!(of(4, two_are_enough), [ABSENT, ABSENT]);
}

/// C1.
#[test]
fn to_nodes_that_have_come_together_another_cluster_is_one_that_does_not_answer() {
    let outlook = Outlook {
        configured: 2,
        accepting: 1,
        ..FOREIGN
    };
    let mut lab = looking(2, outlook, |_| ());
    link_all(&mut lab);
    lab.run(secs(9));
    assert!(!lab.replica(0).is_ready());
    lab.run(secs(2));
    assert_eq!(unknown(&mut lab, 0, 1), UNCERTAIN);
}

/// C6.
#[test]
fn a_node_that_expects_others_waits_for_them_and_not_for_ever() {
    let three = |settings: &mut Settings| settings.requirements.expect_nodes = 3;
    let mut lab = looking(3, Outlook::default(), three);
    lab.run(secs(9));
    assert!(!lab.replica(0).is_ready());
    lab.run(secs(2));
    assert_eq!(unknown(&mut lab, 0, 1), UNCERTAIN);

    let mut lab = looking(3, Outlook::default(), three);
    lab.run(secs(4));
    link_all(&mut lab);
    lab.run(Duration::from_millis(200));
    for index in 0..3 {
        assert_eq!(unknown(&mut lab, index, index as OpId), ABSENT);
    }
}

/// A node that has accepted this one, but is no member yet, may have sessions.
#[test]
fn a_node_that_has_accepted_this_one_is_waited_for() {
    let accepted = Outlook {
        accepting: 1,
        ..CLOSED
    };
    let mut lab = looking(1, accepted, |_| ());
    lab.run(secs(9));
    assert!(!lab.replica(0).is_ready());
    lab.run(secs(2));
    assert_eq!(unknown(&mut lab, 0, 1), UNCERTAIN);
}

/// Two parts of a network, each with a node of the same name.
#[test]
fn of_two_nodes_of_one_name_that_meet_through_a_heal_the_younger_steps_out() {
    let mut lab = ReplicaLab::unconnected(4);
    let name = lab.nodes[1].0.name.clone();
    let double = Node {
        name,
        incarnation: 9,
        ..lab.nodes[3].0.clone()
    };
    lab.nodes[3].0 = double;
    lab.nodes[3].1 = replica(3, |settings| {
        settings.me.name = node(1).name;
        settings.me.incarnation = 9;
    });
    let join = |lab: &mut ReplicaLab, pairs: &[(usize, usize)]| {
        for (one, other) in pairs {
            lab.link(*one, *other);
            lab.link(*other, *one);
        }
    };
    join(&mut lab, &[(0, 1), (2, 3)]);
    lab.run(secs(3));
    assert!((0..4).all(|index| lab.replica(index).is_ready()));
    // The two nodes with unique names find each other.
    join(&mut lab, &[(0, 2)]);
    lab.run(secs(1));
    assert!(!lab.replica(3).is_ready());
    let excluded = lab.replica(3).status().excluded;
    assert_eq!(excluded, Some(Exclusion::Name(lab.nodes[1].0.clone())));
    // Its peers refuse its connections.
    lab.input(3, Input::Outlook(EXCLUDING));
    join(&mut lab, &[(1, 2)]);
    lab.run(secs(10));
    for index in 0..3 {
        assert!(lab.replica(index).is_ready(), "node {index}");
        let members = lab.replica(index).status().members;
        assert_eq!(members.len(), 2, "node {index}: {members:?}");
    }
    assert!(!lab.replica(3).is_ready());

    // The older one is stopped.
    lab.input(1, Input::Leave);
    lab.input(3, Input::Outlook(CLOSED));
    lab.run(secs(3));
    join(&mut lab, &[(0, 3), (2, 3)]);
    lab.run(secs(3));
    assert!(lab.replica(3).is_ready());
    assert_eq!(lab.replica(0).status().members.len(), 2);
}

#[test]
fn a_node_that_serves_alone_yields_to_an_older_one_of_its_name() {
    let [elder, younger] = [0, 10].map(|incarnation| Node {
        incarnation,
        name: node(0).name,
        ..node(9)
    });
    let mut lab = ReplicaLab::unconnected(1);
    lab.run(secs(3));
    lab.input(0, Input::Rival { node: younger });
    assert!(lab.replica(0).is_ready());
    lab.input(
        0,
        Input::Rival {
            node: elder.clone(),
        },
    );
    assert!(!lab.replica(0).is_ready());
    lab.input(0, Input::Outlook(EXCLUDING));
    lab.run(secs(60));
    assert!(!lab.replica(0).is_ready());
    assert_eq!(
        lab.replica(0).status().excluded,
        Some(Exclusion::Name(elder))
    );
    lab.input(0, Input::Outlook(CLOSED));
    lab.run(secs(3));
    assert!(lab.replica(0).is_ready());
}
