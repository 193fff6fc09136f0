//! Tests of calls in progress at a node that is declared down.

use super::certainty::removal_of;
use super::copies::find;
use super::*;

/// A pair whose first node has begun `change` when it is informed that it was declared down: it is
/// alone, in a new incarnation.
fn declared_down(change: impl Fn(&mut ReplicaLab)) -> ReplicaLab {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.cut = vec![(0, 1), (1, 0)];
    change(&mut lab);
    let removal = Message::View(message::View {
        number: 1_000,
        ask: false,
        view: UNKNOWN,
        members: Vec::new(),
        removed: vec![lab.nodes[0].0.clone()],
        complete: true,
        ready: true,
        leaving: false,
        loss_window: Duration::ZERO,
        kinds: None,
    });
    lab.deliver(1, 0, removal);
    lab.carry();
    assert!(lab.replica(0).status().members.is_empty());
    lab
}

fn join_again(lab: &mut ReplicaLab) {
    lab.cut.clear();
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(0).is_ready());
}

/// Found by simulation: the node was alone in its new incarnation, so no holder was missing, and it
/// answered that the write was safe. The session expired there before the node had joined again.
#[test]
fn a_node_that_was_declared_down_acknowledges_no_write_alone() {
    let mut lab = declared_down(|lab| {
        lab.commit(0, 2, key(1), &insert("b", "2"));
    });
    assert_eq!(lab.reply(2), None);
    join_again(&mut lab);
    assert_eq!(lab.reply(2), Some(Reply::Written));
    assert_eq!(
        text(&lab.read(1, key(1)).unwrap(), "b").as_deref(),
        Some("2")
    );
}

#[test]
fn a_node_that_was_declared_down_acknowledges_no_deletion_alone() {
    let mut lab = declared_down(|lab| {
        let step = lab.replica(0).delete(lab.now, 2, &key(1));
        assert_eq!(step, Progress::Pending(true));
        lab.carry();
    });
    assert_eq!(lab.reply(2), None);
    join_again(&mut lab);
    assert_eq!(lab.reply(2), Some(Reply::Written));
    assert!(lab.read(1, key(1)).is_none());
}

/// It is alone in its new incarnation, and has not looked for other nodes yet.
#[test]
fn a_node_that_was_declared_down_does_not_serve_alone_at_once() {
    let mut lab = declared_down(|_| ());
    lab.run(Duration::from_millis(1_500));
    assert!(!lab.replica(0).is_ready());
}

/// The owner, which alone can confirm that the secret is not the session's, has not answered.
#[test]
fn a_node_that_was_declared_down_answers_no_read_alone() {
    let owned = |lab: &ReplicaLab, key: &Root| lab.replica(1).owns(key.slot());
    let lab = declared_down(|lab| {
        let key = find(lab, owned);
        lab.cut.clear();
        lab.commit(0, 3, key, &born("a", "1"));
        lab.cut = vec![(0, 1), (1, 0)];
        let other = SecretHash::from_bytes([9; 16]);
        let step = lab.replica(0).load(lab.now, 4, &key, Some(&other));
        assert!(matches!(step, Progress::Pending(_)));
        lab.carry();
    });
    assert_eq!(lab.reply(4), Some(Reply::Unavailable));
}

/// Its members may have continued; nothing of theirs is missing here.
#[test]
fn a_node_that_was_declared_down_misses_no_member() {
    let lab = declared_down(|_| ());
    assert!(!lab.replica(0).is_divided());
}

/// A list without the sessions of the members that have not answered would pass for the whole one.
#[test]
fn a_node_that_was_declared_down_lists_nothing_alone() {
    let mut lab = ReplicaLab::cluster_with(2, Copies::Count(1.try_into().unwrap()));
    lab.cut = vec![(0, 1), (1, 0)];
    let scope = crate::session::Scope::Cluster;
    let step = lab.replica(0).list(lab.now, 1, scope, None, 10);
    assert!(matches!(step, Progress::Pending(_)));
    lab.carry();
    let removal = removal_of(lab.nodes[0].0.clone());
    lab.deliver(1, 0, removal);
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Unavailable));
}
