//! Tests of writes: what acknowledges them, and what becomes of those that are lost.

use super::copies::{count_up, find, holders, owner, two};
use super::slowness::{is_write, roomy};
use super::*;

#[test]
fn a_write_is_answered_when_every_member_has_it() {
    let mut lab = ReplicaLab::cluster(3);
    lab.hold = |message| matches!(message, Message::Write(_));
    let step = lab.commit(0, 1, key(1), &born("a", "1"));
    assert!(matches!(step, Progress::Pending(Outcome::Committed(_))));
    let mut held = std::mem::take(&mut lab.held).into_iter();
    let (from, to, message) = held.next().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert_eq!(lab.reply(1), None);
    let (from, to, message) = held.next().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
    assert!((0..3).all(|index| lab.read(index, key(1)).is_some()));
}

#[test]
fn an_acknowledgement_counts_in_the_writers_view_only() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (from, to, message) = lab.held.pop().unwrap();
    let Message::Ack { view, seqs } = message else {
        panic!("not an acknowledgement")
    };
    lab.deliver(
        from,
        to,
        Message::Ack {
            view: another(view),
            seqs: seqs.clone(),
        },
    );
    lab.carry();
    assert_eq!(lab.reply(1), None);
    lab.deliver(from, to, Message::Ack { view, seqs });
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
}

#[test]
fn a_write_that_is_lost_is_sent_again() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.held.clear();
    lab.hold = |_| false;
    lab.relink(0, 1);
    assert_eq!(lab.reply(1), Some(Reply::Written));
    assert!(lab.read(1, key(1)).is_some());
}

#[test]
fn a_write_without_acknowledgements_ends_as_indeterminate() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.run(Duration::from_secs(6));
    assert_eq!(lab.reply(1), Some(Reply::Indeterminate));
}

#[test]
fn an_ended_session_is_dead_on_every_node() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    assert_eq!(
        lab.replica(1).delete(lab.now, 2, &key(1)),
        Progress::Pending(true)
    );
    lab.carry();
    assert_eq!(lab.reply(2), Some(Reply::Written));
    assert!(lab.read(0, key(1)).is_none());
    assert_eq!(
        lab.commit(0, 3, key(1), &insert("a", "2")),
        Progress::Ready(Outcome::Gone)
    );
    assert_eq!(
        lab.replica(0).delete(lab.now, 4, &key(1)),
        Progress::Pending(false)
    );
}

/// A node begins to leave, and its announcement reaches the writer before it reaches the new holder
/// of the session, which refuses the write. Sent again at once, it would be refused again, as fast
/// as the link allows.
#[test]
fn a_refused_write_is_sent_again_when_the_holder_has_announced_the_view() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [0, 2]);
    lab.hold = |message| matches!(message, Message::View(_) | Message::Nack { .. });
    lab.input(2, Input::Drain(true));
    let (to_writer, others) = std::mem::take(&mut lab.held)
        .into_iter()
        .partition(|(_, to, _)| *to == 0);
    lab.held = others;
    for (from, to, message) in to_writer {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.commit(0, 1, key, &born("a", "1"));
    let is_refusal =
        |(.., message): &(usize, usize, Message)| matches!(message, Message::Nack { .. });
    let refusal = lab.held.iter().position(is_refusal).unwrap();
    let (from, to, refusal) = lab.held.remove(refusal);
    assert_eq!((from, to), (1, 0));
    lab.hold = |message| is_write(message) || matches!(message, Message::View(_));
    lab.deliver(from, to, refusal);
    lab.carry();
    assert!(!lab.held.iter().any(|(.., message)| is_write(message)));
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.reply(1), Some(Reply::Written));
    assert!(lab.read(1, key).is_some());
}

/// The other holder has come back, and merges the update before it has announced that it is
/// complete: if the owner failed now, it could have the change without the session.
#[test]
fn an_atomic_update_is_answered_when_there_are_enough_whole_copies() {
    let mut lab = roomy(2, |settings| settings.min_copies = 2);
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &born("n", "0"));
    assert_eq!(lab.reply(1), Some(Reply::Written));
    lab.hold = |message| matches!(message, Message::View(view) if view.complete);
    for leaving in [true, false] {
        lab.input(1, Input::Drain(leaving));
        lab.run(Duration::from_millis(300));
    }
    count_up(&mut lab, 0, 2, key);
    assert_eq!(text(&lab.read(1, key).unwrap(), "n").as_deref(), Some("1"));
    assert_eq!(lab.verdict(2), None);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
}

/// All holders have the write, and the announcement of a node that is no holder is late.
#[test]
fn a_write_is_answered_when_the_last_member_announces_the_view() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [0, 1]);
    // Announcements of node 2.
    lab.hold = |message| {
        let is_two = |node: &Node| node.name == super::node(2).name;
        matches!(message, Message::View(view) if !view.members.iter().any(is_two))
    };
    for leaving in [true, false] {
        lab.input(1, Input::Drain(leaving));
        lab.run(Duration::from_millis(300));
    }
    lab.commit(0, 1, key, &born("a", "1"));
    assert_eq!(lab.reply(1), None);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    for (from, to, message) in std::mem::take(&mut lab.held) {
        if to == 0 {
            lab.deliver(from, to, message);
        }
    }
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
}

/// The acknowledgement of a node that has dropped the session meanwhile does not count when it is a
/// holder again.
#[test]
fn a_former_holder_does_not_repeat_its_acknowledgements() {
    let mut lab = ReplicaLab::cluster(3);
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    let held = std::mem::take(&mut lab.held);
    let (to_one, to_two): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, to, _)| *to == 1);
    for (from, to, message) in to_one {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.held = to_two;
    assert!(lab.read(1, key(1)).is_some());
    lab.input(1, Input::Drain(true));
    // Longer than a node waits before it drops the slots of other holders.
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.replica(1).status().sessions, 0);
    assert_eq!(lab.reply(1), None);
    lab.input(1, Input::Drain(false));
    lab.run(Duration::from_millis(300));
    let (to_one, to_two): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
        .into_iter()
        .partition(|(_, to, _)| *to == 1);
    for (from, to, message) in to_two {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.reply(1), None, "one copy is missing");
    for (from, to, message) in to_one {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
}
