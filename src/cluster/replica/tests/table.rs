//! Tests of the table by itself.

use proptest::prelude::*;

use super::*;

#[test]
fn a_change_never_creates_a_session_but_is_kept_for_it() {
    let table = table();
    table.merge(START, &delta(1, "a", 2));
    assert!(table.peek(START, &key(1)).is_none());
    assert_eq!(table.sessions(), 0);
    table.merge(START, &live(1, "b", 1));
    let record = table.peek(START, &key(1)).unwrap();
    assert_eq!(text(&record, "a").as_deref(), Some("2"));
    assert_eq!(text(&record, "b").as_deref(), Some("1"));
}

#[test]
fn a_late_copy_does_not_bring_back_an_ended_session() {
    let table = table();
    table.merge(START, &live(1, "a", 1));
    table.merge(START, &dead(1));
    table.merge(START, &live(1, "a", 9));
    table.merge(START, &delta(1, "a", 9));
    assert!(table.peek(START, &key(1)).is_none());
    assert_eq!((table.sessions(), table.tombstones()), (0, 1));
}

#[test]
fn an_expired_session_is_swept_and_not_merged_again() {
    // The same slot has one that stays.
    let mut lasting = record("a", 1);
    lasting.credential.absolute_deadline = Timestamp::NEVER;
    lasting.lifetime.idle_timeout.1 = None.into();
    let lasting = KeyedEntry {
        key: key(3),
        entry: Entry::Live(lasting.into()),
    };
    let [table, fresh] = [table(), table()];
    fresh.merge(START, &lasting);
    table.merge(START, &lasting);
    table.merge(START, &live(1, "a", 1));
    table.merge(START, &dead(2));
    let late = START.plus(48 * HOUR);
    table.sweep(late);
    let count = |table: &EntryTable| (table.sessions(), table.tombstones(), table.bytes());
    assert_eq!(count(&table), count(&fresh));
    table.merge(late, &live(1, "a", 1));
    assert_eq!(count(&table), count(&fresh));
    assert_eq!(table.digests(|_| true), fresh.digests(|_| true));
}

/// A copy that was sent over a slow link has a later deadline, and may lack the last changes.
#[test]
fn a_session_at_its_absolute_deadline_does_not_continue_in_an_earlier_state() {
    let due = |clock, after| {
        let mut record = record("a", clock);
        record.credential.absolute_deadline = START.plus(after);
        let entry = Entry::Live(record.into());
        KeyedEntry { key: key(1), entry }
    };
    let deadline = Duration::from_secs(6);
    let delay = Duration::from_millis(500);
    let table = table();
    table.merge(START, &due(2, deadline));
    let late = START.plus(deadline).plus(Duration::from_millis(50));
    table.sweep(late);
    table.merge(late, &due(1, deadline + delay));
    assert!(table.peek(late, &key(1)).is_none());
    let later = START.plus(HOUR);
    table.sweep(later);
    assert_eq!((table.sessions(), table.tombstones()), (0, 0));
}

#[test]
fn the_keys_of_expired_sessions_take_a_part_of_the_bytes_for_sessions() {
    let table = table_with(1_000, 100_000);
    let at = |slot: u16| {
        let mut bytes = [0; 12];
        bytes[10..12].copy_from_slice(&slot.to_be_bytes());
        Root::from_bytes(bytes)
    };
    let fill = |now| {
        let mut record = record("a", 1);
        record.touch(now);
        for slot in 0..200 {
            let entry = Entry::Live(Arc::new(record.clone()));
            table.merge(
                now,
                &KeyedEntry {
                    key: at(slot),
                    entry,
                },
            );
        }
    };
    let known = |now| {
        (0..200)
            .filter(|slot| table.may_be_stale(now, &at(*slot)))
            .count()
    };
    let mut now = START;
    for turn in 0..4 {
        fill(now);
        now = now.plus(HOUR + HOUR / 5);
        table.sweep(now);
        assert_eq!(table.sessions(), 0);
        // A twentieth of the bytes, at fifty each.
        assert_eq!(known(now), 100);
        // They are dropped with the slots that other nodes hold from now on, or when their time is
        // up.
        if turn % 2 == 0 {
            fill(now);
            table.retain(|_| false);
        }
        now = now.plus(2 * HOUR);
        table.sweep(now);
        assert_eq!(known(now), 0);
    }
}

#[test]
fn a_full_table_refuses_new_sessions_and_ends_old_ones() {
    let table = table_with(1, 1 << 20);
    let create = |number| table.commit(START, &key(number), None, &born("a", "1"), 1);
    assert!(create(1).is_ok());
    assert_eq!(create(2), Err(StoreErrorKind::Full));
    assert!(table.delete(START, &key(1)).is_some());
    assert!(create(3).is_ok());
}

fn keyed() -> impl Strategy<Value = KeyedEntry> {
    let number = || 0..4_u8;
    let name = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        (number(), name(), 0..5_u64).prop_map(|(number, name, clock)| live(number, name, clock)),
        (number(), name(), 0..5_u64).prop_map(|(number, name, clock)| delta(number, name, clock)),
        number().prop_map(dead),
    ]
}

proptest! {
    /// Entries may arrive in any order and any number of times.
    #[test]
    fn tables_agree_whatever_the_order_of_merges(
        entries in prop::collection::vec(keyed(), 0..8),
        order in any::<prop::sample::Index>(),
    ) {
        let (one, other) = (table(), table());
        for keyed in &entries {
            one.merge(START, keyed);
        }
        let first = order.index(entries.len().max(1));
        for keyed in entries.iter().rev().chain(entries.iter().skip(first)) {
            other.merge(START, keyed);
        }
        prop_assert_eq!(one.digests(|_| true), other.digests(|_| true));
        prop_assert_eq!(one.sessions(), other.sessions());
        for number in 0..4 {
            prop_assert_eq!(one.peek(START, &key(number)), other.peek(START, &key(number)));
        }
    }

    /// The counters match the contents.
    #[test]
    fn the_counters_match_after_any_merges(entries in prop::collection::vec(keyed(), 0..20)) {
        let table = table();
        for keyed in &entries {
            table.merge(START, keyed);
        }
        let alive = (0..4).filter(|number| table.peek(START, &key(*number)).is_some());
        prop_assert_eq!(table.sessions(), alive.count());
        let late = START.plus(1000 * HOUR);
        table.sweep(late);
        prop_assert_eq!((table.sessions(), table.tombstones(), table.bytes()), (0, 0, 0));
    }
}

/// Otherwise a session that alone exceeds the limit could not be handed over.
#[test]
fn a_response_has_at_least_one_session_and_ends_at_its_limit() {
    let table = table();
    for number in 1..=3 {
        let key = Root::from_bytes([number; 12]).with_slot(5);
        let keyed = live(number, "a", 1);
        table.merge(START, &KeyedEntry { key, ..keyed });
    }
    for (max_bytes, count) in [(1, 1), (usize::MAX, 3)] {
        let (entries, more) = table.unknown(START, 5, None, &[], max_bytes);
        assert_eq!((entries.len(), more), (count, count < 3));
    }
    let (entries, _) = table.unknown(START.plus(25 * HOUR), 5, None, &[], usize::MAX);
    assert_eq!(entries, [], "they have expired");
}

/// Every request is an access: a comparison would transfer all sessions in use.
#[test]
fn of_a_session_that_was_only_accessed_the_access_is_sent() {
    let table = table();
    table.merge(START, &live(1, "a", 1));
    let slot = key(1).slot() as u16;
    let known = table.versions(slot, None);
    let unknown = || table.unknown(START, slot, None, &known, usize::MAX).0;
    assert_eq!(unknown(), []);
    let access = table.touch(START, &key(1), 1).unwrap();
    let [keyed] = &unknown()[..] else {
        panic!("one entry")
    };
    let Entry::Delta(delta) = &keyed.entry else {
        panic!("{keyed:?}")
    };
    assert_eq!((delta.access, &delta.entries[..]), (access, &[][..]));
}
