//! Tests of the indexes of users' sessions when two sides of a partition meet.

use super::*;
use crate::session::{IndexEntry, Login, UserKey, index_root, new_index, note_end, put};

fn entry() -> IndexEntry {
    IndexEntry {
        label: None,
        logged_in_at: 0,
        until: u64::MAX,
    }
}

/// Writes a session of Ada's under this key at a node, and its entry in her index.
pub(super) fn log_in(lab: &mut ReplicaLab, index: usize, op: OpId, number: u8) {
    let user = UserKey::of("ada");
    let mut changes = born("a", "1");
    changes.log_in(Login {
        user: Some(user),
        absolute_timeout: 24 * HOUR,
    });
    lab.commit(index, op, key(number), &changes);
    let root = index_root(&user);
    let mut changes = if lab.read(index, root).is_none() {
        new_index(48 * HOUR)
    } else {
        Changes::default()
    };
    put(&mut changes, &key(number), &entry());
    let step = lab.commit(index, op + 1, root, &changes);
    assert!(!matches!(step, Progress::Rejected(_)), "{step:?}");
}

pub(super) fn split() -> ReplicaLab {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    log_in(&mut lab, 0, 1, 1);
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(6));
    lab
}

pub(super) fn heal(lab: &mut ReplicaLab) {
    lab.cut.clear();
    for _ in 0..10 {
        for (one, other) in [(0, 1), (1, 0)] {
            lab.link(one, other);
        }
        lab.run(Duration::from_secs(1));
    }
    assert!((0..2).all(|index| lab.replica(index).is_ready()));
}

/// the user logs in on one side; then all sessions are ended on the other, which cannot reach
/// it.
#[test]
fn a_login_that_the_other_side_could_not_see_is_ended_when_the_sides_meet() {
    let mut lab = split();
    log_in(&mut lab, 0, 10, 2);
    lab.run(Duration::from_secs(1));
    let mut end = Changes::default();
    note_end(&mut end);
    lab.commit(1, 20, index_root(&UserKey::of("ada")), &end);
    // The side that ends them has the first session only.
    lab.replica(1).delete(lab.now, 21, &key(1));
    lab.carry();
    lab.run(Duration::from_secs(1));
    // A later login on the other side counts.
    log_in(&mut lab, 0, 30, 3);
    heal(&mut lab);
    for index in 0..2 {
        assert!(lab.read(index, key(1)).is_none(), "at {index}");
        assert!(lab.read(index, key(2)).is_none(), "at {index}");
        assert!(lab.read(index, key(3)).is_some(), "at {index}");
    }
    // Indexes are no sessions, and operations that the node started itself answered no call.
    assert_eq!(lab.replica(0).status().sessions, 1);
    assert!(
        lab.replies.iter().all(|(op, _)| *op < 100),
        "{:?}",
        lab.replies
    );
}

/// The last of three attempts for an earlier session comes late: a later session does not wait for
/// it.
#[test]
fn an_end_does_not_wait_for_the_attempts_of_an_earlier_one() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    let index = index_root(&UserKey::of("ada"));
    // A session that no node has any more.
    log_in(&mut lab, 0, 1, 1);
    let mut stale = Changes::default();
    put(&mut stale, &key(9), &entry());
    lab.commit(0, 3, index, &stale);
    let mut end = Changes::default();
    note_end(&mut end);
    lab.commit(0, 4, index, &end);
    lab.run(Duration::from_secs(8));
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(4));
    log_in(&mut lab, 0, 10, 2);
    lab.run(Duration::from_millis(100));
    lab.commit(1, 20, index, &end);
    lab.run(Duration::from_millis(100));
    heal(&mut lab);
    for index in 0..2 {
        assert!(lab.read(index, key(2)).is_none(), "at {index}");
    }
}

/// As before, and the user has never logged in on the side that ends the sessions.
#[test]
fn a_first_login_that_the_other_side_could_not_see_is_ended_when_the_sides_meet() {
    let mut lab = ReplicaLab::cluster(2);
    lab.redials = true;
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(6));
    log_in(&mut lab, 0, 10, 2);
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(1).is_divided());
    let mut end = new_index(48 * HOUR);
    note_end(&mut end);
    lab.commit(1, 20, index_root(&UserKey::of("ada")), &end);
    heal(&mut lab);
    for index in 0..2 {
        assert!(lab.read(index, key(2)).is_none(), "at {index}");
        assert!(!lab.replica(index).is_divided());
    }
}

fn use_for_a_minute(lab: &mut ReplicaLab, index: usize) {
    for _ in 0..30 {
        lab.run(Duration::from_secs(2));
        lab.replica(index).touch(lab.now, &key(1));
        lab.carry();
    }
}

/// The session has expired on the side that ends it, so there is no tombstone for it; the other
/// side uses it.
#[test]
fn a_session_that_one_side_has_forgotten_is_ended_when_the_sides_meet() {
    for ending in [0, 1] {
        let mut lab = split();
        let mut idle = Changes::default();
        idle.set_idle_timeout(Some(Duration::from_secs(20)));
        for index in 0..2 {
            lab.commit(index, 5 + index as u64, key(1), &idle);
        }
        use_for_a_minute(&mut lab, 1 - ending);
        assert!(lab.read(ending, key(1)).is_none());
        assert!(lab.read(1 - ending, key(1)).is_some());
        let mut end = Changes::default();
        note_end(&mut end);
        lab.commit(ending, 20, index_root(&UserKey::of("ada")), &end);
        use_for_a_minute(&mut lab, 1 - ending);
        heal(&mut lab);
        for index in 0..2 {
            assert!(lab.read(index, key(1)).is_none(), "at {index}");
        }
    }
}

/// An entry that is stale, or came from a faulty member, may name a session of another user.
#[test]
fn the_end_of_a_users_sessions_passes_over_a_session_of_another_user() {
    let mut lab = ReplicaLab::cluster(2);
    log_in(&mut lab, 0, 1, 1);
    let mut changes = born("a", "1");
    changes.log_in(Login {
        user: Some(UserKey::of("bob")),
        absolute_timeout: 24 * HOUR,
    });
    lab.commit(0, 10, key(2), &changes);
    let index = index_root(&UserKey::of("ada"));
    let mut changes = Changes::default();
    put(&mut changes, &key(2), &entry());
    // An index is no session of a user either.
    put(&mut changes, &index_root(&UserKey::of("bob")), &entry());
    lab.commit(0, 11, index, &changes);
    let mut end = Changes::default();
    note_end(&mut end);
    lab.commit(1, 20, index, &end);
    lab.run(Duration::from_secs(30));
    for at in 0..2 {
        assert!(lab.read(at, key(1)).is_none(), "at {at}");
        assert!(lab.read(at, key(2)).is_some(), "at {at}");
    }
}

/// Another user logs in to the session after it was read and before it is deleted.
#[test]
fn a_session_that_changes_hands_while_it_is_being_ended_stays() {
    let mut lab = ReplicaLab::cluster(3);
    log_in(&mut lab, 0, 1, 1);
    let index = index_root(&UserKey::of("ada"));
    let mut end = Changes::default();
    note_end(&mut end);
    lab.commit(1, 20, index, &end);
    // Deletions wait at the session's owner, or on the way to it, behind the login.
    lab.hold = |message| matches!(message, Message::GetReply { .. });
    lab.run(Duration::from_millis(1_500));
    let mut login = Changes::default();
    login.rotate(SECRET, SecretHash::from_bytes([2; 16]));
    login.log_in(Login {
        user: Some(UserKey::of("bob")),
        absolute_timeout: 24 * HOUR,
    });
    let replies = std::mem::take(&mut lab.held);
    assert!(!replies.is_empty());
    lab.hold = |message| matches!(message, Message::Write(_) | Message::Update(_));
    for (from, to, message) in replies {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_millis(100));
    lab.commit(0, 30, key(1), &login);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held).into_iter().rev() {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_secs(30));
    let applied = lab.verdict(30) == Some(UpdateStatus::Applied);
    for at in 0..3 {
        assert_eq!(lab.read(at, key(1)).is_some(), applied, "at {at}");
    }
}

/// A node ends the sessions of a user while one of them is alive on the other side only. When the
/// sides meet, the other side takes over the index first, so the node receives nothing new of it.
#[test]
fn an_end_lasts_until_the_sides_have_met() {
    for number in 0..6 {
        let user = UserKey::of(&format!("user {number}"));
        let index = index_root(&user);
        let mut lab = ReplicaLab::cluster(2);
        lab.redials = true;
        let mut changes = Changes::create(SECRET, Some(Duration::from_secs(20)), 24 * HOUR);
        changes.log_in(Login {
            user: Some(user),
            absolute_timeout: 24 * HOUR,
        });
        lab.commit(0, 1, key(1), &changes);
        let mut changes = new_index(48 * HOUR);
        put(&mut changes, &key(1), &entry());
        lab.commit(0, 2, index, &changes);
        lab.cut = vec![(0, 1), (1, 0)];
        lab.run(Duration::from_secs(6));
        use_for_a_minute(&mut lab, 1);
        assert!(lab.read(0, key(1)).is_none());
        let mut end = Changes::default();
        note_end(&mut end);
        lab.commit(0, 20, index, &end);
        // Longer than the owner of the index tries.
        use_for_a_minute(&mut lab, 1);
        lab.hold = |message| matches!(message, Message::Digests { .. });
        lab.cut.clear();
        let mut later = Vec::new();
        for _ in 0..8 {
            for (one, other) in [(0, 1), (1, 0)] {
                lab.link(one, other);
            }
            lab.run(Duration::from_millis(200));
            for (from, to, message) in std::mem::take(&mut lab.held) {
                match from {
                    0 => later.push(message),
                    _ => lab.deliver(from, to, message),
                }
            }
            lab.carry();
        }
        lab.hold = |_| false;
        for message in later {
            lab.deliver(0, 1, message);
        }
        lab.carry();
        lab.run(Duration::from_secs(10));
        for at in 0..2 {
            assert!(lab.replica(at).is_ready(), "at {at}");
            assert!(lab.read(at, key(1)).is_none(), "user {number} at {at}");
        }
    }
}

/// The message that brought the session to the other holder was under way for a while: there it
/// expires later. A call that ends the user's sessions finds what is alive at any holder.
#[test]
fn a_session_that_has_expired_here_and_not_at_the_other_holder_is_found() {
    let mut lab = ReplicaLab::cluster(2);
    let created = lab.now;
    lab.hold = |message| matches!(message, Message::Write(_));
    let changes = Changes::create(SECRET, Some(Duration::from_secs(5)), 24 * HOUR);
    lab.commit(0, 1, key(1), &changes);
    lab.run(Duration::from_secs(1));
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.run(created.plus(Duration::from_secs(6)).since(lab.now));
    let alive = [0, 1].map(|index| lab.read(index, key(1)).is_some());
    assert_eq!(alive, [false, true]);
    let step = lab.replica(0).load(lab.now, 2, &key(1), None);
    assert!(matches!(step, Progress::Pending(_)), "{step:?}");
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
    let step = lab.replica(0).delete(lab.now, 3, &key(1));
    assert!(matches!(step, Progress::Pending(_)), "{step:?}");
    lab.carry();
    assert!((0..2).all(|index| lab.read(index, key(1)).is_none()));
}

/// Two calls delete one session: the second is not answered before the other holders have deleted
/// it as well.
#[test]
fn a_second_deletion_waits_for_the_first_one() {
    let mut lab = ReplicaLab::cluster(3);
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.hold = |message| matches!(message, Message::Write(_));
    for (op, existed) in [(2, true), (3, false)] {
        let step = lab.replica(0).delete(lab.now, op, &key(1));
        assert_eq!(step, Progress::Pending(existed));
        lab.carry();
    }
    assert!(lab.read(1, key(1)).is_some());
    assert_eq!([lab.reply(2), lab.reply(3)], [None, None]);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(
        [2, 3].map(|op| lab.reply(op)),
        [const { Some(Reply::Written) }; 2]
    );
    assert!((0..3).all(|index| lab.read(index, key(1)).is_none()));
}
