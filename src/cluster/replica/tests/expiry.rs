//! Tests of sessions that expire at one holder, and may have been used at another one.

use super::copies::{count_up, find, holders, owner, two};
use super::*;

/// Found by simulation: an owner on the other side of a partition confirmed the deletion of a
/// session that it had never seen, when the deletion was requested a second time.
#[test]
fn the_end_of_a_session_that_may_live_elsewhere_is_not_confirmed() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [2, 3]);
    lab.commit(2, 1, key, &born("a", "1"));
    // Nodes 2 and 3 cannot be reached: they disappear for the others.
    let rest = lab.nodes.split_off(2);
    for (node, _) in &rest {
        for index in 0..2 {
            let node = node.clone();
            lab.input(index, Input::Refused { node });
        }
    }
    lab.run(Duration::from_secs(1));
    lab.hold = |message| matches!(message, Message::Update(_));
    let asker = usize::from(lab.replica(0).owns(key.slot()));
    let step = lab.replica(asker).delete(lab.now, 2, &key);
    assert_eq!(step, Progress::Pending(true));
    lab.carry();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert_ne!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert_ne!(lab.verdict(2), Some(UpdateStatus::Gone));
}

#[test]
fn a_session_that_expired_here_may_have_been_used_elsewhere() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(2)), HOUR);
    changes.insert("a".into(), value("1"));
    lab.commit(0, 1, key(1), &changes);
    lab.run(Duration::from_millis(1_500));
    // This access is lost.
    lab.hold = |message| matches!(message, Message::Touch { .. });
    lab.replica(1).touch(lab.now, &key(1));
    lab.carry();
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert!(lab.read(0, key(1)).is_none());
    assert_eq!(
        lab.replica(0).load(lab.now, 2, &key(1), None),
        Progress::Pending(Loaded::Absent)
    );
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
    lab.run(Duration::from_secs(3));
    let step = lab.replica(0).load(lab.now, 3, &key(1), None);
    lab.carry();
    let gone = step == Progress::Ready(Loaded::Absent)
        || lab.reply(3) == Some(Reply::Found(Loaded::Absent));
    assert!(gone, "{step:?}");
}

/// A session with an idle timeout of two seconds.
pub(super) fn short() -> Changes {
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(2)), HOUR);
    changes.insert("n".into(), value("0"));
    changes
}

/// Records an access at a node, which does not reach the other nodes.
pub(super) fn touch_in_silence(lab: &mut ReplicaLab, index: usize, key: Root) {
    lab.hold = |message| matches!(message, Message::Touch { .. });
    lab.replica(index).touch(lab.now, &key);
    lab.carry();
    lab.held.clear();
    lab.hold = |_| false;
}

#[test]
fn a_session_that_was_forgotten_here_may_still_be_used_elsewhere() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key(1));
    lab.run(Duration::from_millis(1_500));
    assert!(lab.replica(0).status().sessions == 0 && lab.replica(1).status().sessions == 1);
    assert_eq!(
        lab.replica(0).load(lab.now, 2, &key(1), None),
        Progress::Pending(Loaded::Absent)
    );
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
    assert!(lab.read(0, key(1)).is_some(), "it has come back for good");
    lab.run(Duration::from_secs(2));
    assert_eq!(
        lab.replica(0).load(lab.now, 3, &key(1), None),
        Progress::Pending(Loaded::Absent)
    );
    lab.carry();
    assert_eq!(lab.reply(3), Some(Reply::Found(Loaded::Absent)));
    let certain = Progress::Ready(Loaded::Absent);
    assert_eq!(lab.replica(0).load(lab.now, 4, &key(1), None), certain);
}

#[test]
fn a_late_access_brings_back_a_session_that_expired_here() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &short());
    for (after, forgotten) in [(700, false), (1_300, true)] {
        lab.run(Duration::from_millis(1_500));
        touch_in_silence(&mut lab, 1, key(1));
        lab.run(Duration::from_millis(after));
        assert!(lab.read(0, key(1)).is_none());
        assert_eq!(lab.replica(0).status().sessions == 0, forgotten);
        lab.replica(1).touch(lab.now, &key(1));
        lab.carry();
        assert!(lab.read(0, key(1)).is_some(), "forgotten: {forgotten}");
    }
}

#[test]
fn a_logout_ends_a_session_that_its_owner_has_forgotten() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && lab.replica(1).holds(key)
    });
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key);
    lab.run(Duration::from_millis(1_500));
    assert_eq!(lab.replica(0).status().sessions, 0);
    assert_eq!(
        lab.replica(2).delete(lab.now, 2, &key),
        Progress::Pending(true)
    );
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert!(lab.read(1, key).is_none());
}

/// Found by simulation: the owner forgot the session while the other holders merged the change, and
/// reported the session as absent after it had applied the change.
#[test]
fn a_change_that_outlasts_the_session_counts_as_a_use() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && !lab.replica(2).holds(key)
    });
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    let base = lab.read(0, key);
    lab.hold = |message| matches!(message, Message::Write(_));
    let step = lab
        .replica(2)
        .commit(lab.now, 2, &key, base.as_ref(), &insert("n", "1"));
    assert_eq!(step, Progress::Pending(Outcome::Gone));
    lab.run(Duration::from_millis(1_500));
    assert!((0..2).all(|index| lab.replica(index).status().sessions == 0));
    lab.lose_held();
    lab.run(Duration::from_millis(600));
    let answer = lab.reply(2);
    let Some(Reply::Updated(UpdateStatus::Applied, Some(record))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(text(&record, "n").as_deref(), Some("1"));
    assert_eq!(text(&lab.read(0, key).unwrap(), "n").as_deref(), Some("1"));
}

#[test]
fn an_update_applied_before_the_session_expired_is_not_reported_as_gone() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(100));
    lab.hold = |message| matches!(message, Message::Updated { .. });
    count_up(&mut lab, 1, 2, key);
    lab.run(Duration::from_millis(2_300));
    assert!((0..2).all(|index| lab.read(index, key).is_none()));
    lab.lose_held();
    lab.run(Duration::from_millis(200));
    let answer = lab.reply(2);
    assert!(
        matches!(
            &answer,
            Some(Reply::Updated(UpdateStatus::Applied, Some(_)))
        ),
        "{answer:?}"
    );
}

#[test]
fn a_session_that_expires_while_it_is_deleted_was_there() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| !lab.replica(2).holds(key));
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_900));
    lab.hold = |message| matches!(message, Message::Write(_));
    assert_eq!(
        lab.replica(2).delete(lab.now, 2, &key),
        Progress::Pending(true)
    );
    lab.run(Duration::from_millis(700));
    assert!((0..2).all(|index| lab.read(index, key).is_none()));
    lab.lose_held();
    lab.run(Duration::from_millis(700));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
}

#[test]
fn a_session_is_looked_for_once_however_often_it_is_used() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key(1));
    lab.run(Duration::from_millis(1_500));
    assert_eq!(lab.replica(0).status().sessions, 0);
    lab.hold = |message| matches!(message, Message::Get { .. });
    for _ in 0..3 {
        lab.replica(1).touch(lab.now, &key(1));
        lab.carry();
    }
    assert_eq!(lab.held.len(), 1);
    let (from, to, message) = lab.held.pop().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert!(lab.read(0, key(1)).is_some());
}

/// Found by simulation: the holder requested the rest of the session without end, and the owner
/// sent its write again without end.
#[test]
fn an_update_of_a_session_that_has_expired_meanwhile_ends() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(1)), 24 * HOUR);
    changes.insert("a".into(), value("1"));
    lab.commit(0, 1, key(1), &changes);
    let owner = owner(&lab, &key(1));
    lab.hold = |message| matches!(message, Message::Write(write) if write.strict);
    let record = lab.read(owner, key(1));
    let mut changes = insert("a", "2");
    changes.require_version("a".into(), record.as_ref().unwrap().version("a"));
    let replica = lab.replica(owner);
    let step = replica.commit(lab.now, 2, &key(1), record.as_ref(), &changes);
    assert!(matches!(step, Progress::Pending(_)), "{step:?}");
    lab.run(Duration::from_secs(8));
    assert_eq!(lab.reply(2), Some(Reply::Indeterminate));
    assert_eq!(lab.replica(owner).status().indeterminate, 1);
    let open = |lab: &ReplicaLab| lab.replica(owner).status().unacknowledged;
    assert_eq!(open(&lab), 1);
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(2));
    assert_eq!(open(&lab), 0);
}

/// The owner has forgotten the session and that it existed; a holder has a later access.
#[test]
fn a_logout_at_an_owner_that_has_forgotten_the_session_ends_it() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && lab.replica(1).holds(key)
    });
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key);
    lab.run(Duration::from_millis(1_500));
    assert_eq!(lab.replica(0).status().sessions, 0);
    lab.replica(0).table.forget_expired(&key);
    lab.replica(2).delete(lab.now, 2, &key);
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert!(lab.read(1, key).is_none());
}

/// One of two holders has the last access, and begins to leave. The other one, where the session
/// expires, has not compared itself with it in the new view, and the new holder has nothing yet.
#[test]
fn a_former_holder_is_asked_for_the_last_access() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [0, 1]);
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key);
    lab.hold = |message| matches!(message, Message::Digests { .. });
    lab.input(1, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    assert_eq!(holders(&lab, &key), [0, 2]);
    let is_here = [0, 1, 2].map(|index| lab.read(index, key).is_some());
    assert_eq!(is_here, [false, true, false]);
    let step = lab.replica(0).load(lab.now, 2, &key, None);
    assert_eq!(step, Progress::Pending(Loaded::Absent));
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}

/// Both holders begin to leave. The session has expired at the one that reads it, the other one has
/// the last access, and the new holders have nothing yet.
#[test]
fn all_members_are_asked_until_the_new_holders_are_complete() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [0, 1]);
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key);
    lab.hold = |message| matches!(message, Message::Digests { .. });
    for index in 0..2 {
        lab.input(index, Input::Drain(true));
    }
    lab.run(Duration::from_secs(1));
    assert_eq!(holders(&lab, &key), [2, 3]);
    let is_here = [0, 1, 2, 3].map(|index| lab.read(index, key).is_some());
    assert_eq!(is_here, [false, true, false, false]);
    let step = lab.replica(0).load(lab.now, 2, &key, None);
    assert_eq!(step, Progress::Pending(Loaded::Absent));
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}

/// The owner has not received the last access, and the other holder has.
#[test]
fn a_node_that_is_no_holder_asks_all_holders_before_it_reports_a_session_as_absent() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        holders(lab, key) == [0, 1] && owner(lab, key) == 0
    });
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key);
    lab.run(Duration::from_secs(1));
    assert!(lab.read(0, key).is_none() && lab.read(1, key).is_some());
    let step = lab.replica(2).load(lab.now, 2, &key, None);
    assert_eq!(step, Progress::Pending(Loaded::Absent));
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}
