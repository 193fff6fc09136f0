//! Tests of sessions that a holder requests from the others because it has only a change of them.

use super::copies::{count_up, find, holders, owner, two};
use super::expiry::{short, touch_in_silence};
use super::slowness::is_write;
use super::*;

/// A session that node 1 has forgotten, because an access at node 0 did not arrive there.
fn forgotten(nodes: u16) -> (ReplicaLab, Root) {
    let mut lab = ReplicaLab::cluster_with(nodes, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [0, 1]);
    lab.commit(0, 1, key, &short());
    forget(&mut lab, key);
    (lab, key)
}

fn forget(lab: &mut ReplicaLab, key: Root) {
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(lab, 0, key);
    lab.run(Duration::from_millis(1_500));
    assert!(lab.read(0, key).is_some());
    assert_eq!(lab.replica(1).status().sessions, 0);
}

/// A holder with the change alone would keep nothing of the session if the other one failed. Its
/// acknowledgements are repeated when its link is new.
#[test]
fn a_change_is_acknowledged_when_the_rest_of_the_session_is_here() {
    let (mut lab, key) = forgotten(2);
    lab.hold = |message| matches!(message, Message::GetReply(_));
    lab.commit(0, 2, key, &insert("a", "1"));
    assert_eq!(lab.held.len(), 1);
    lab.relink(1, 0);
    assert_eq!(lab.reply(2), None);
    assert!(lab.read(1, key).is_none());
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.reply(2), Some(Reply::Written));
    let record = lab.read(1, key).unwrap();
    let values = ["n", "a"].map(|name| text(&record, name));
    assert_eq!(values, ["0", "1"].map(|text| Some(text.to_owned())));
}

/// The view changes while the session is requested, which ends the request. The session is
/// forgotten again, and requested again.
#[test]
fn a_session_is_requested_again_in_a_later_view() {
    let (mut lab, key) = forgotten(3);
    lab.hold = |message| matches!(message, Message::Get { .. });
    lab.commit(0, 2, key, &insert("a", "1"));
    assert_eq!(lab.held.len(), 1);
    lab.held.clear();
    lab.hold = |_| false;
    lab.input(2, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.reply(2), Some(Reply::Written));
    assert!(lab.read(1, key).is_some());
    lab.replica(0).touch(lab.now, &key);
    lab.carry();
    forget(&mut lab, key);
    lab.commit(0, 3, key, &insert("a", "2"));
    assert_eq!(lab.reply(3), Some(Reply::Written));
    assert!(lab.read(1, key).is_some());
}

/// The session expires at both nodes while the other holder merges an update of it, which counts as
/// an access. The owner, whose table has forgotten it, still has it for the holder.
#[test]
fn the_owner_has_a_session_that_expires_while_it_is_updated() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_900));
    lab.hold = is_write;
    count_up(&mut lab, 0, 2, key);
    lab.run(Duration::from_millis(700));
    let sessions = [0, 1].map(|index| lab.replica(index).status().sessions);
    assert_eq!(sessions, [0, 0]);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    for index in 0..2 {
        let record = lab.read(index, key).unwrap();
        assert_eq!(text(&record, "n").as_deref(), Some("1"), "at {index}");
    }
}
