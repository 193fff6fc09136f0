//! Tests of writes: what acknowledges them, and what becomes of those that are lost.

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
