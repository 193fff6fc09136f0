use proptest::prelude::*;

use super::*;

/// Chains without a fork: what a session's owner makes of its credential, one after the other.
fn credential(ends_at: Timestamp, rotations: u64) -> Credential {
    let hash = |n: u64| SecretHash::from_bytes([n as u8 + 1; 16]);
    let first = Credential::new(hash(0), ends_at, None);
    (1..=rotations).fold(first, |before, clock| {
        let version = Stamp { clock, writer: 1 };
        before.rotated(hash(clock), None, version, Timestamp::default())
    })
}

fn register() -> impl Strategy<Value = Register> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..3));
    (0..4u8, 0..4u64, 0..3u32, value).prop_map(|(name, clock, writer, value)| Register {
        name: Name::from(["a", "b", "c", "d"][usize::from(name)]),
        stamp: Stamp { clock, writer },
        value: value.map(Value::from_bytes),
    })
}

fn seconds() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((1..100u64).prop_map(Duration::from_secs))
}

fn record() -> impl Strategy<Value = Record> {
    let times = (0..9u64, 0..4u64, 0..9u64);
    let registers = prop::collection::vec(register(), 0..6);
    let updates = prop::collection::vec((0..40u64, 0..2u32), 0..20);
    let lifetime = (times, 0..4u64, seconds(), seconds(), any::<bool>());
    (lifetime, registers, updates).prop_map(|(lifetime, registers, updates)| {
        let ((created, rotations, accessed), clock, idle, first_visit, returned) = lifetime;
        let credential = credential(Timestamp::from_millis(9), rotations);
        let mut record = Record::new(
            credential,
            Lifetime {
                created_at: Timestamp::from_millis(created),
                // Where clocks agree, a later access has a larger version.
                accessed_at: Timestamp::from_millis(accessed),
                access: accessed,
                max_inactive: (Stamp { clock, writer: 0 }, idle.into()),
                first_visit: first_visit.into(),
                returned,
            },
        );
        for register in &registers {
            record.merge_register(register);
        }
        for (clock, writer) in updates {
            record.note_update(Stamp { clock, writer });
        }
        record
    })
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
    fn merge_is_associative(a in record(), b in record(), c in record()) {
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
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
}

fn lifetime(idle: Duration) -> Lifetime {
    Lifetime {
        created_at: Timestamp::from_millis(1_000),
        accessed_at: Timestamp::from_millis(1_000),
        access: 1,
        max_inactive: (Stamp::default(), Some(idle).into()),
        first_visit: Idle::default(),
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
fn a_session_nobody_came_back_with_lives_its_first_visit_only() {
    let mut record = Record::new(
        credential(Timestamp::NEVER, 0),
        Lifetime {
            first_visit: Some(Duration::from_secs(60)).into(),
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
    let ends_at = Timestamp::from_millis(2_000);
    let lifetime = lifetime(Duration::from_secs(1800));
    let mut record = Record::new(credential(ends_at, 0), lifetime);
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
    assert_eq!(merge(ahead, behind), (6, at(20)));
    assert_eq!(merge(behind, ahead), (6, at(20)));
    for known in [ahead, behind, (6, at(20))] {
        assert_eq!(merge((6, at(20)), known), (6, at(20)));
        assert_eq!(merge(known, (6, at(20))), (6, at(20)));
    }
    // One access whose message took longer on one way than on the other.
    assert_eq!(merge((5, at(10)), (5, at(11))), (5, at(10)));
}
