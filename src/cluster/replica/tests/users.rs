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
pub(super) fn log_in(lab: &mut Lab, index: usize, op: OpId, number: u8) {
    let user = UserKey::of("ada");
    let mut changes = born("a", "1");
    changes.log_in(Login {
        user: Some(user),
        absolute_timeout: 24 * HOUR,
    });
    lab.commit(index, op, key(number), &changes);
    let root = index_root(&user);
    let is_new = lab.read(index, root).is_none();
    let mut changes = match is_new {
        true => new_index(48 * HOUR),
        false => Changes::default(),
    };
    put(&mut changes, &key(number), &entry());
    let step = lab.commit(index, op + 1, root, &changes);
    assert!(!matches!(step, Step::Refused(_)), "{step:?}");
}

pub(super) fn split() -> Lab {
    let mut lab = Lab::cluster(2);
    lab.redials = true;
    log_in(&mut lab, 0, 1, 1);
    lab.cut = vec![(0, 1), (1, 0)];
    lab.run(Duration::from_secs(6));
    lab
}

pub(super) fn heal(lab: &mut Lab) {
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

fn use_for_a_minute(lab: &mut Lab, index: usize) {
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
