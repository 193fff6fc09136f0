//! Tests of nodes that are excluded or quarantined.

use super::certainty::{link_all, removal_of};
use super::copies::find;
use super::*;

/// An older node of the same name.
fn elder() -> Node {
    Node {
        incarnation: 0,
        name: node(0).name,
        ..node(9)
    }
}

#[test]
fn a_node_that_does_not_serve_is_not_excluded_by_a_rival() {
    let mut lab = ReplicaLab::unconnected(1);
    lab.input(0, Input::Rival { node: elder() });
    assert_eq!(lab.replica(0).status().excluded, None);
}

/// Its members would wait for its acknowledgements until they notice that it is silent.
#[test]
fn an_excluded_node_leaves_at_once() {
    let mut lab = ReplicaLab::cluster(2);
    lab.input(0, Input::Rival { node: elder() });
    assert!(lab.replica(0).status().excluded.is_some());
    assert!(lab.replica(1).status().members.is_empty());
}

/// The read waits for another member, and would be answered from the memory of this node alone,
/// where a session may be that the members have deleted.
#[test]
fn the_exclusion_of_a_node_ends_its_reads() {
    let mut lab = ReplicaLab::cluster(2);
    let key = find(&lab, |lab, key| lab.replica(1).owns(key.slot()));
    lab.commit(0, 1, key, &born("a", "1"));
    lab.hold = |message| matches!(message, Message::GetReply(_));
    let other = SecretHash::from_bytes([9; 16]);
    let step = lab.replica(0).load(lab.now, 2, &key, Some(&other));
    assert!(matches!(step, Progress::Pending(_)));
    lab.carry();
    lab.input(0, Input::Rival { node: elder() });
    assert_eq!(lab.reply(2), Some(Reply::Unavailable));
}

/// It would join members that have no place for it.
#[test]
fn an_excluded_node_takes_no_new_incarnation() {
    let mut lab = ReplicaLab::cluster(2);
    lab.input(0, Input::Rival { node: elder() });
    let me = lab.nodes[0].0.clone();
    lab.input(
        0,
        Input::Seen {
            incarnation: me.incarnation,
        },
    );
    assert_eq!(lab.nodes[0].0, me);
}

/// A node that the others have declared down three times within a few seconds is alone for longer
/// than a node waits for others when it starts.
#[test]
fn a_quarantined_node_does_not_serve() {
    let mut lab = ReplicaLab::cluster(3);
    for _ in 0..3 {
        link_all(&mut lab);
        assert_eq!(lab.replica(0).status().members.len(), 2);
        let removal = removal_of(lab.nodes[0].0.clone());
        lab.deliver(1, 0, removal);
        lab.carry();
    }
    let is_quarantined = |(index, notification): &(usize, Notification)| {
        *index == 0 && matches!(notification, Notification::Quarantined(_))
    };
    assert!(lab.reports.iter().any(is_quarantined));
    lab.run(Duration::from_millis(3_500));
    assert!(!lab.replica(0).is_ready());
}

/// With one other member it holds up no third one.
#[test]
fn a_node_of_a_pair_is_not_quarantined() {
    assert!(!is_quarantined(2, Duration::ZERO));
}

/// Only several times within a few seconds show that some member cannot reach it.
#[test]
fn a_node_is_not_quarantined_for_what_is_long_ago() {
    assert!(!is_quarantined(3, Duration::from_secs(7)));
}

/// Whether a node is quarantined that was declared down three times with this time between.
fn is_quarantined(nodes: u16, between: Duration) -> bool {
    let mut lab = ReplicaLab::cluster(nodes);
    for _ in 0..3 {
        link_all(&mut lab);
        assert_eq!(lab.replica(0).status().members.len(), lab.nodes.len() - 1);
        let removal = removal_of(lab.nodes[0].0.clone());
        lab.deliver(1, 0, removal);
        lab.carry();
        lab.run(between);
    }
    lab.reports.iter().any(|(index, notification)| {
        *index == 0 && matches!(notification, Notification::Quarantined(_))
    })
}
