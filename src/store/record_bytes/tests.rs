use std::sync::Arc;

use super::*;
use crate::error::StoreErrorKind;
use crate::session::{Changes, Login, Outcome};

const THERE: Timestamp = Timestamp::from_millis(5_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn apply(changes: &Changes, current: Option<&Arc<Record>>) -> Arc<Record> {
    match changes.apply_as(current, None, clock::now(), 7) {
        Outcome::Committed(record) => record,
        other => panic!("{other:?}"),
    }
}

/// A session with everything that one can have, on this node's clock.
fn session() -> Arc<Record> {
    let secret = |n| SecretHash::from_bytes([n; 16]);
    let mut create = Changes::create(secret(1), Some(HOUR), 24 * HOUR);
    create.initial_idle_timeout(HOUR / 60);
    for name in ["a", "b", ""] {
        create.insert(name.into(), Value::from_bytes([0, 255, 34].as_slice()));
    }
    let mut login = Changes::default();
    login.remove("b".into());
    login.set_idle_timeout(None);
    login.rotate(secret(1), secret(2));
    login.log_in(Login {
        user: Some(UserKey::of("ada")),
        absolute_timeout: 2 * HOUR,
    });
    apply(&login, Some(&apply(&create, None)))
}

#[tokio::test(start_paused = true)]
async fn a_session_is_the_same_after_its_way_through_bytes_and_changes_as_before() {
    let before = session();
    let after = Record::from_bytes(&before.to_bytes(THERE), THERE).unwrap();
    assert_eq!(after.credential, before.credential);
    assert_eq!(after.lifetime, before.lifetime);
    assert_eq!(after.entries(), before.entries());
    let mut next = Changes::default();
    next.insert("a".into(), Value::from_bytes([1].as_slice()));
    assert_eq!(
        apply(&next, Some(&Arc::new(after))).version("a"),
        apply(&next, Some(&before)).version("a"),
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_between_writing_and_reading_counts_on_the_clock_of_the_store() {
    let before = session();
    let bytes = before.to_bytes(THERE);
    for passed in [Duration::ZERO, HOUR, 3 * HOUR] {
        let after = Record::from_bytes(&bytes, THERE.plus(passed)).unwrap();
        assert_eq!(
            after.absolute_deadline(),
            before.absolute_deadline().minus(passed)
        );
        assert_eq!(after.is_live(clock::now()), passed < 2 * HOUR);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_cut_or_changed_are_an_error_or_a_session_and_never_a_panic() {
    let bytes = session().to_bytes(THERE);
    let read = |bytes: &[u8]| Record::from_bytes(bytes, THERE);
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{length}");
    }
    assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    for at in 0..bytes.len() {
        for byte in [0, 1, 127, 255] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            if let Ok(record) = read(&changed) {
                let _ = record.is_live(THERE);
            }
        }
    }
    let mut newer = bytes;
    newer[0] = FORMAT + 1;
    let source = read(&newer).unwrap_err();
    let source = std::error::Error::source(&source).unwrap().to_string();
    assert!(source.contains("newer"), "{source}");
}

/// Written by the first version of the format.
#[tokio::test(start_paused = true)]
async fn the_first_format_stays_readable() {
    let version = [&[9, 0, 0, 0, 0, 0, 0, 0][..], &[7, 0, 0, 0]].concat();
    let none = [&[0; 8][..], &[0; 4]].concat();
    let hour = 3_600_000_u64.to_le_bytes();
    let parts: [&[u8]; 19] = [
        &[1],
        &version,
        // Credential: hash, deadline, version, rotation, user, login, history.
        &[5; 16],
        &THERE.plus(HOUR).as_millis().to_le_bytes(),
        &none,
        &[0, 0, 0],
        &[0; 8],
        // Created, accessed, version of the access, idle timeouts, returned.
        &THERE.as_millis().to_le_bytes(),
        &THERE.as_millis().to_le_bytes(),
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &none,
        &[1],
        &(3_600_000_000_000_u64).to_le_bytes(),
        &[0, 1],
        // One attribute, no updates.
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        b"n",
        &version,
        &[1, 1, 0, 0, 0, 0, 0, 0, 0, b'7'],
        &[0; 8],
    ];
    let record = Record::from_bytes(&parts.concat(), THERE).unwrap();
    assert_eq!(record.get("n"), Some(&Value::from_bytes(b"7".as_slice())));
    assert_eq!(record.clock(), 9);
    assert_eq!(record.idle_timeout(), Some(HOUR));
    let left = record.absolute_deadline().since(clock::now()).as_millis() as u64;
    assert_eq!(left.to_le_bytes(), hour);
    assert_eq!(record.to_bytes(THERE), parts.concat());
}
