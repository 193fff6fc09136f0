use std::sync::Arc;

use super::*;
use crate::session::{Record, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

fn value(text: &str) -> Value {
    Value::from_bytes(text.as_bytes())
}

fn created(name: &str, text: &str) -> Arc<Record> {
    let mut changes = Changes::create(SECRET, Some(HOUR), 24 * HOUR);
    changes.insert(name.into(), value(text));
    match changes.apply_as(None, None, NOW, 1) {
        Outcome::Committed(record) => record,
        other => panic!("expected a session, got {other:?}"),
    }
}

fn insert(name: &str, text: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert(name.into(), value(text));
    changes
}

#[test]
fn an_update_never_creates() {
    assert_eq!(insert("a", "1").apply_as(None, None, NOW, 1), Outcome::Gone);
}

#[test]
fn an_update_of_an_expired_session_is_gone() {
    let record = created("a", "1");
    let late = NOW.plus(2 * HOUR);
    let outcome = insert("a", "2").apply_as(Some(&record), Some(&record), late, 1);
    assert_eq!(outcome, Outcome::Gone);
}

#[test]
fn writes_of_different_attributes_are_both_kept() {
    let base = created("a", "1");
    let Outcome::Committed(one) = insert("b", "2").apply_as(Some(&base), Some(&base), NOW, 1)
    else {
        panic!("not committed")
    };
    let Outcome::Committed(two) = insert("c", "3").apply_as(Some(&one), Some(&base), NOW, 2) else {
        panic!("not committed")
    };
    let names: Vec<_> = two.entries().iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn of_two_rotations_of_one_secret_one_counts() {
    let record = created("a", "1");
    let rotate = |n: u8| {
        let mut changes = insert("a", &n.to_string());
        changes.rotate(SECRET, SecretHash::from_bytes([n; 16]));
        changes
    };
    let Outcome::Committed(first) = rotate(2).apply_as(Some(&record), Some(&record), NOW, 1) else {
        panic!("not committed")
    };
    assert!(first.is_current(&SecretHash::from_bytes([2; 16])));
    let second = rotate(3).apply_as(Some(&first), Some(&record), NOW, 1);
    assert_eq!(second, Outcome::Superseded);
    // A write of a request that had loaded the session before is stored in it.
    let write = insert("b", "1").apply_as(Some(&first), Some(&record), NOW, 1);
    assert!(matches!(write, Outcome::Committed(after) if after.get("b").is_some()));
}

#[test]
fn an_expectation_that_no_longer_holds_is_a_conflict() {
    let base = created("a", "1");
    let Outcome::Committed(current) = insert("a", "2").apply_as(Some(&base), None, NOW, 1) else {
        panic!("not committed")
    };
    let mut update = insert("a", "3");
    update.require_version("a".into(), base.version("a"));
    let outcome = update.apply_as(Some(&current), Some(&base), NOW, 1);
    assert_eq!(outcome, Outcome::Conflict(current));
}

/// W-03.
#[test]
fn a_write_that_confirms_is_one_only_after_another_write() {
    let new = created("a", "1");
    let mut confirm = Changes::default();
    confirm.confirm("a".into(), Some(value("1")), new.version("a"));
    confirm.confirm("b".into(), None, None);
    confirm.set_idle_timeout(Some(HOUR));
    // The timeout that the session was created with was not set for it.
    let Outcome::Committed(base) = confirm.apply_as(Some(&new), Some(&new), NOW, 1) else {
        panic!("not committed")
    };
    assert!(base.has_own_idle_timeout() && !new.has_own_idle_timeout());
    assert_eq!(base.version("a"), new.version("a"));
    let later = NOW.plus(HOUR / 2);
    let outcome = confirm.apply_as(Some(&base), Some(&base), later, 1);
    assert_eq!(outcome, Outcome::Committed(base.clone()));

    let Outcome::Committed(two) = insert("a", "2").apply_as(Some(&base), None, NOW, 1) else {
        panic!("not committed")
    };
    let Outcome::Committed(both) = insert("b", "2").apply_as(Some(&two), None, NOW, 1) else {
        panic!("not committed")
    };
    // Back to the value that it had: the later write counts.
    let Outcome::Committed(after) = confirm.apply_as(Some(&both), Some(&base), NOW, 1) else {
        panic!("not committed")
    };
    assert_eq!((after.get("a"), after.get("b")), (Some(&value("1")), None));
    assert!(after.version("a") > two.version("a"));
    assert_eq!(after.idle_timeout(), Some(HOUR));
}

/// W-02.
#[test]
fn a_removed_attribute_leaves_nothing_behind_and_no_stamp_comes_twice() {
    let mut record = created("a", "1");
    let mut last = record.clock();
    for n in 0..10_000 {
        let name = format!("state_{n}");
        let mut removal = Changes::default();
        removal.remove(name.as_str().into());
        for changes in [insert(&name, "1"), removal] {
            // One moment: the clock alone orders them.
            let Outcome::Committed(after) = changes.apply_as(Some(&record), None, NOW, 1) else {
                panic!("not committed")
            };
            assert!(after.clock() > last);
            last = after.clock();
            record = after;
        }
    }
    assert_eq!(record.entries().len(), 1);
    assert_eq!(record.live_size(), (1, 2));
}

#[test]
fn what_a_write_confirms_is_forgotten_with_the_write() {
    let mut changes = Changes::default();
    changes.confirm("a".into(), Some(value("1")), None);
    assert_eq!(changes.confirmed("a"), Some(None));
    changes.insert("a".into(), value("2"));
    assert_eq!(changes.confirmed("a"), None);
    changes.confirm("a".into(), Some(value("1")), None);
    changes.unset("a");
    assert!(changes.is_empty());
}

#[test]
fn the_last_write_of_a_name_in_a_request_counts() {
    let mut changes = insert("a", "1");
    changes.remove("a".into());
    assert_eq!(changes.get("a"), Some(None));
    changes.unset("a");
    assert_eq!(changes.get("a"), None);
    assert!(changes.is_empty());
}
