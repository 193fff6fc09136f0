use proptest::prelude::*;

use super::*;
use crate::store::snapshot::format::fixtures::{
    MINUTE, NOW, credential, fresh, live, tombstone, version,
};

fn written(entry: &StoredEntry) -> Vec<u8> {
    encode(entry, NOW, Vec::new()).expect("memory takes all")
}

fn read(bytes: &[u8], now: Timestamp, down: Duration) -> Option<StoredEntry> {
    match decode(bytes, Downtime { now, down })? {
        (DecodedEntry::Stored(entry), []) => Some(entry),
        _ => None,
    }
}

#[test]
fn what_is_written_is_read() {
    for entry in [live(3, 1), fresh(3, 1), tombstone(3, 1)] {
        assert_eq!(read(&written(&entry), NOW, Duration::ZERO), Some(entry));
    }
}

/// F-01.
#[test]
fn time_spent_down_is_deducted_whatever_the_reader_calls_now() {
    let later = NOW.plus(1_000 * MINUTE);
    let entry = read(&written(&live(3, 1)), later, 10 * MINUTE).expect("it is still alive");
    let EntryState::Live(record) = entry.state else {
        panic!("it was a session");
    };
    assert_eq!(
        record.absolute_deadline(),
        later.plus((23 * 60 - 10) * MINUTE)
    );
    assert_eq!(record.last_accessed_at(), later.minus(11 * MINUTE));
    assert_eq!(record.created_at(), NOW.minus(10 * MINUTE));
    let rotated_at = record.credential.rotated_at();
    assert_eq!(rotated_at, Some(later.minus(10 * MINUTE + MINUTE / 2)));
    assert_eq!(record.credential.began_at(), rotated_at);
}

/// F-01.
#[test]
fn what_ran_out_meanwhile_does_not_come_back() {
    for (entry, down) in [
        (live(3, 1), 31 * MINUTE),
        (live(3, 1), 24 * 60 * MINUTE),
        (tombstone(3, 1), 20 * 60 * MINUTE),
    ] {
        let downtime = Downtime { now: NOW, down };
        let bytes = written(&entry);
        assert!(matches!(
            decode(&bytes, downtime),
            Some((DecodedEntry::Expired, []))
        ));
    }
}

#[test]
fn a_deadline_that_never_comes_stays_one() {
    let mut entry = live(3, 1);
    if let EntryState::Live(record) = &mut entry.state {
        Arc::make_mut(record).credential.absolute_deadline = Timestamp::NEVER;
    }
    let entry = read(&written(&entry), NOW, MINUTE).expect("it is alive");
    assert!(
        matches!(entry.state, EntryState::Live(record) if record.absolute_deadline() == Timestamp::NEVER)
    );
}

/// a history that is longer than any that a store writes, and versions that could not be
/// followed.
#[test]
fn a_credential_that_no_store_has_written_is_refused() {
    let downtime = Downtime {
        now: NOW,
        down: Duration::ZERO,
    };
    let sound = credential(1);
    let filed = |change: fn(&mut Details)| {
        let mut details = sound.details();
        change(&mut details);
        let credential = Credential::from_parts(sound.hash, sound.absolute_deadline, details);
        FiledCredential::of(&credential, NOW)
    };
    let longest = filed(|details| details.history = (0..4).map(version).collect());
    assert!(longest.restore(downtime).is_some());
    for hostile in [
        filed(|details| details.history = (0..5).map(version).collect()),
        filed(|details| details.history = vec![version(1); 100_000]),
        filed(|details| details.history[0].clock = Version::MAX_CLOCK + 1),
        filed(|details| details.version.clock = Version::MAX_CLOCK + 1),
    ] {
        assert_eq!(hostile.restore(downtime), None);
    }
    let mut entry = live(3, 1);
    if let EntryState::Live(record) = &mut entry.state {
        let mut details = sound.details();
        details.history = vec![version(1); HISTORY_MAX + 1];
        Arc::make_mut(record).credential =
            Credential::from_parts(sound.hash, sound.absolute_deadline, details);
    }
    assert!(read(&written(&entry), NOW, Duration::ZERO).is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), down in any::<u64>()) {
        let downtime = Downtime { now: NOW, down: Duration::from_millis(down) };
        let _ = decode(&bytes, downtime);
    }

    /// F-05, A-13.
    #[test]
    fn counts_that_lie_cost_nothing(at in 0usize..120, count in any::<u64>()) {
        let mut bytes = written(&live(3, 1));
        let at = at.min(bytes.len());
        let lie = postcard::to_stdvec(&count).expect("memory takes all");
        bytes.splice(at..at, lie);
        let _ = decode(&bytes, Downtime { now: NOW, down: Duration::ZERO });
    }
}
