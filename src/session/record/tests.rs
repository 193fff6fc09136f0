use proptest::prelude::*;

use super::*;
use crate::session::Name;
use crate::session::idle::Idle;

/// Chains without a fork: the successive credentials of one owner.
fn credential(absolute_deadline: Timestamp, rotations: u64) -> Credential {
    let hash = |n: u64| SecretHash::from_bytes([n as u8 + 1; 16]);
    let first = Credential::new(hash(0), absolute_deadline, None);
    (1..=rotations).fold(first, |before, clock| {
        let version = Version { clock, writer: 1 };
        before.rotated(hash(clock), None, version, Timestamp::default())
    })
}

fn entry() -> impl Strategy<Value = AttributeEntry> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..3));
    (0..4u8, 0..4u64, 0..3u32, value).prop_map(|(name, clock, writer, value)| AttributeEntry {
        name: Name::from(["a", "b", "c", "d"][usize::from(name)]),
        version: Version { clock, writer },
        value: value.map(Value::from_bytes),
    })
}

fn seconds() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((1..100u64).prop_map(Duration::from_secs))
}

fn record() -> impl Strategy<Value = Record> {
    let times = (0..9u64, 0..4u64, 0..9u64);
    let entries = prop::collection::vec(entry(), 0..6);
    let floor = prop::option::of((0..4u64, 0..3u32));
    let later = prop::collection::vec(entry(), 0..3);
    let entries = (entries, floor, later);
    let updates = prop::collection::vec((0..40u64, 0..2u32), 0..20);
    let lifetime = (times, 0..4u64, seconds(), seconds(), any::<bool>());
    (lifetime, entries, updates).prop_map(|(lifetime, entries, updates)| {
        let ((created, rotations, accessed), clock, idle, initial_idle_timeout, returned) =
            lifetime;
        let (entries, floor, later) = entries;
        let credential = credential(Timestamp::from_millis(9), rotations);
        let mut record = Record::new(
            credential,
            Lifetime {
                created_at: Timestamp::from_millis(created),
                // If clocks agree, a later access has a larger version.
                accessed_at: Timestamp::from_millis(accessed),
                access: accessed,
                idle_timeout: (Version { clock, writer: 0 }, idle.into()),
                initial_idle_timeout: initial_idle_timeout.into(),
                returned,
            },
        );
        for entry in &entries {
            record.merge_write(entry);
        }
        if let Some((clock, writer)) = floor {
            record.merge_write(&AttributeEntry::floor(Version { clock, writer }));
        }
        for entry in &later {
            record.merge_write(entry);
        }
        for (clock, writer) in updates {
            record.note_update(Version { clock, writer });
        }
        record
    })
}

/// Which writes a copy has seen, as bits, and where its floor is.
fn seen() -> impl Strategy<Value = (u16, Option<u64>)> {
    (any::<u16>(), prop::option::of(0..4u64))
}

/// A copy with a correct floor: all writes at or below it are in the copy.
fn copy_of(
    writes: &[AttributeEntry],
    (seen, floor): &(u16, Option<u64>),
    other: &Record,
) -> Record {
    let mut record = Record::new(other.credential.clone(), other.lifetime.clone());
    let floor = floor.map(|clock| Version { clock, writer: 9 });
    for (at, write) in writes.iter().enumerate() {
        if seen >> at & 1 == 1 || Some(write.version) <= floor {
            record.merge_write(write);
        }
    }
    if let Some(floor) = floor {
        record.merge_write(&AttributeEntry::floor(floor));
    }
    record
}

fn merged(a: &Record, b: &Record) -> Record {
    let mut all = a.clone();
    assert_eq!(all.merge(b), Ok(()));
    all
}

proptest! {
    #[test]
    fn merge_is_commutative(a in record(), b in record()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
    }

    #[test]
    fn merge_is_associative(
        writes in prop::collection::vec(entry(), 0..12),
        copies in prop::array::uniform3(seen()),
        lifetimes in prop::array::uniform3(record()),
    ) {
        let copies: Vec<_> = copies
            .iter()
            .zip(&lifetimes)
            .map(|(seen, lifetime)| copy_of(&writes, seen, lifetime))
            .collect();
        let [a, b, c] = &copies[..] else { unreachable!() };
        prop_assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)));
    }

    /// If a floor was raised although its holder had not seen everything below it, the order of
    /// merges decides what is dropped; but all copies drop the same.
    #[test]
    fn copies_agree_when_they_have_met_whatever_their_floors(
        copies in prop::array::uniform3(record()),
        meetings in prop::collection::vec((0..3usize, 0..3usize), 0..6),
    ) {
        let mut copies = copies;
        let all = (0..3).flat_map(|one| (0..3).map(move |other| (one, other)));
        let all: Vec<_> = all.collect();
        for (one, other) in meetings.iter().chain(&all).chain(&all).chain(&all) {
            copies[*one] = merged(&copies[*one], &copies[*other]);
        }
        prop_assert_eq!(&copies[0], &copies[1]);
        prop_assert_eq!(&copies[1], &copies[2]);
    }

    #[test]
    fn merge_is_idempotent(a in record(), b in record()) {
        let once = merged(&a, &b);
        prop_assert_eq!(merged(&once, &b), once.clone());
        prop_assert_eq!(merged(&once, &once), once);
    }

    #[test]
    fn a_merged_clock_is_never_behind(a in record(), b in record()) {
        prop_assert_eq!(merged(&a, &b).clock(), a.clock().max(b.clock()));
    }

    #[test]
    fn a_clock_is_never_below_the_floor_and_a_mark_always_above_it(a in record(), b in record()) {
        let merged = merged(&a, &b);
        prop_assert_eq!(merged.floor(), a.floor().max(b.floor()));
        prop_assert!(Some(merged.latest()) >= merged.floor());
        let is_above = |r: &AttributeEntry| Some(r.version) > merged.floor();
        prop_assert!(merged.entries().iter().filter(|r| r.is_mark()).all(is_above));
    }

    /// Copies that are equal up to a version lose nothing when one of them raises its floor to it.
    #[test]
    fn a_floor_that_is_agreed_drops_marks_only(
        common in prop::collection::vec(entry(), 0..6),
        later in prop::collection::vec(entry(), 0..6),
    ) {
        let floor = Version { clock: 4, writer: 0 };
        let blank = Record::new(credential(Timestamp::NEVER, 0), lifetime(Duration::from_secs(9)));
        let with = |record: &Record, entries: &[AttributeEntry]| {
            let mut record = record.clone();
            for entry in entries {
                record.merge_write(entry);
            }
            record
        };
        // Writes after the agreement are above the floor.
        let later: Vec<_> = later
            .into_iter()
            .map(|r| AttributeEntry {
                version: Version { clock: r.version.clock + 5, ..r.version },
                ..r
            })
            .collect();
        let behind = with(&blank, &common);
        let raised = with(&behind, &[AttributeEntry::floor(floor)]);
        let written = with(&behind, &later);
        for met in [merged(&raised, &written), merged(&written, &raised), with(&raised, &later)] {
            for name in ["a", "b", "c", "d"] {
                prop_assert_eq!(met.get(name), written.get(name));
            }
        }
    }
}

fn write(name: &str, clock: u64, value: Option<&str>) -> AttributeEntry {
    AttributeEntry {
        name: name.into(),
        version: Version { clock, writer: 1 },
        value: value.map(|text| Value::from_bytes(text.as_bytes())),
    }
}

fn with(entries: &[AttributeEntry]) -> Record {
    let idle = Duration::from_secs(1800);
    let mut record = Record::new(credential(Timestamp::NEVER, 0), lifetime(idle));
    for entry in entries {
        record.merge_write(entry);
    }
    record
}

#[test]
fn what_a_stale_copy_has_below_the_floor_does_not_come_back() {
    let floor = AttributeEntry::floor(write("", 5, None).version);
    let stale = with(&[write("a", 1, Some("1")), write("b", 2, Some("1"))]);
    let removed = [write("a", 3, None), write("c", 6, Some("1")), floor];
    let mut current = stale.clone();
    for entry in &removed {
        current.merge_write(entry);
    }
    for met in [merged(&current, &stale), merged(&stale, &current)] {
        assert_eq!(met, current);
        assert_eq!((met.get("a"), met.live_size().0), (None, 2));
    }
    // Nor does a late message with the write alone; a later write of the name counts.
    assert!(!current.merge_write(&write("a", 1, Some("1"))));
    assert!(current.merge_write(&write("a", 6, Some("2"))));
    assert!(current.get("a").is_some());
}

#[test]
fn the_floor_is_no_attribute() {
    let mut record = with(&[
        write("a", 1, Some("1")),
        AttributeEntry::floor(write("", 5, None).version),
    ]);
    assert_eq!((record.live_size(), record.clock()), ((1, 2), 5));
    assert_eq!(record.get(FLOOR), None);
    record.forget_removed();
    assert_eq!(record.entries(), [write("a", 1, Some("1"))]);
    assert_eq!(record.clock(), 5);
}

fn lifetime(idle: Duration) -> Lifetime {
    Lifetime {
        created_at: Timestamp::from_millis(1_000),
        accessed_at: Timestamp::from_millis(1_000),
        access: 1,
        idle_timeout: (Version::default(), Some(idle).into()),
        initial_idle_timeout: Idle::default(),
        returned: false,
    }
}

#[test]
fn idle_expiry_is_never_early_and_at_most_a_tenth_late() {
    let idle = Duration::from_secs(3);
    let record = Record::new(credential(Timestamp::NEVER, 0), lifetime(idle));
    let start = record.last_accessed_at();
    assert!(record.is_live(start.plus(idle)));
    assert!(!record.is_live(start.plus(idle + idle / 10)));
    assert!(!record.is_touch_due(start.plus(Duration::from_millis(299))));
    assert!(record.is_touch_due(start.plus(Duration::from_millis(300))));
}

#[test]
fn a_session_that_never_returned_lives_for_its_initial_idle_timeout() {
    let mut record = Record::new(
        credential(Timestamp::NEVER, 0),
        Lifetime {
            initial_idle_timeout: Some(Duration::from_secs(60)).into(),
            ..lifetime(Duration::from_secs(1800))
        },
    );
    let later = record.created_at().plus(Duration::from_secs(600));
    assert!(!record.is_live(later));
    assert!(record.is_touch_due(record.created_at()));
    record.touch(record.created_at());
    assert!(record.is_live(later));
}

#[test]
fn the_absolute_deadline_cuts_the_idle_time_short() {
    let absolute_deadline = Timestamp::from_millis(2_000);
    let lifetime = lifetime(Duration::from_secs(1800));
    let mut record = Record::new(credential(absolute_deadline, 0), lifetime);
    record.touch(Timestamp::from_millis(1_999));
    assert_eq!(record.expires_at(), Timestamp::from_millis(2_000));
}

#[test]
fn a_later_access_with_a_smaller_version_gets_a_version_that_all_agree_on() {
    let at = |seconds: u64| Timestamp::from_millis(1_000 * seconds);
    // The node of the later access has a clock that is behind.
    let (ahead, behind) = ((5, at(10)), (3, at(20)));
    let merge = |(version, time), (other, other_time)| {
        let mut lifetime = lifetime(Duration::from_secs(1800));
        (lifetime.access, lifetime.accessed_at) = (version, time);
        lifetime.merge_access(other_time, other);
        (lifetime.access, lifetime.accessed_at)
    };
    let raised = merge(ahead, behind);
    assert!(raised.0 > 5 && raised.1 == at(20), "{raised:?}");
    assert_eq!(merge(behind, ahead), raised);
    for known in [ahead, behind, raised] {
        assert_eq!(merge(raised, known), raised);
        assert_eq!(merge(known, raised), raised);
    }
    // One access whose message took longer on one way than on the other.
    assert_eq!(merge((5, at(10)), (5, at(11))), (5, at(10)));
}

/// X1: equal versions count as one access, the earlier one.
#[test]
fn two_accesses_do_not_get_the_same_version() {
    let at = |seconds: u64| Timestamp::from_millis(1_000 * seconds);
    let used = |access, accessed_at| {
        let mut record = Record::new(
            credential(Timestamp::NEVER, 0),
            lifetime(Duration::from_secs(1800)),
        );
        (record.lifetime.access, record.lifetime.accessed_at) = (access, accessed_at);
        record
    };
    // The node of an earlier access has a clock that is far ahead.
    let ahead = access_version(at(1_000_000), 9);
    let joined = |one: &Record, other: &Record| {
        let mut lifetime = one.lifetime.clone();
        lifetime.merge(&other.lifetime);
        lifetime.accessed_at
    };
    // Two nodes record an access.
    let [mut one, mut two] = [1, 2].map(|writer| {
        let mut record = used(ahead, at(10));
        record.touch_as(at(10 * u64::from(writer) + 10), writer);
        record
    });
    assert_eq!(joined(&one, &two), at(30));
    assert_eq!(joined(&two, &one), at(30));
    // Two holders merge one access each of nodes whose clocks are behind.
    (one, two) = (used(ahead, at(10)), used(ahead, at(10)));
    one.lifetime.merge_access(at(20), access_version(at(20), 1));
    two.lifetime.merge_access(at(30), access_version(at(30), 2));
    assert_eq!(joined(&one, &two), at(30));
    assert_eq!(joined(&two, &one), at(30));
}

#[test]
fn the_largest_access_version_is_followed_by_itself() {
    let now = Timestamp::from_millis(1_000_000);
    assert_eq!(next_access(u64::MAX, now, 1), u64::MAX);
    let mut lifetime = lifetime(Duration::from_secs(1800));
    (lifetime.access, lifetime.accessed_at) = (u64::MAX, now);
    lifetime.merge_access(now.plus(Duration::from_secs(60)), 1);
    assert_eq!(lifetime.access, u64::MAX);
}
