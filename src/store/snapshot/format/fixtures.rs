//! Sample sessions for the tests of the format.

use std::sync::Arc;
use std::time::Duration;

use crate::session::{
    AttributeEntry, Credential, Details, Lifetime, Record, Root, SecretHash, Timestamp, UserKey,
    Value, Version,
};
use crate::store::export::SnapshotSurvivor;
use crate::store::export::{EntryState, StoredEntry};
use crate::store::snapshot::format::encoder::SnapshotEncoder;
use crate::store::snapshot::format::encryption::FileKey;
use crate::store::snapshot::format::header::SnapshotHeader;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const KEY: [u8; 32] = *b"thirty-two bytes for the tests!!";

/// A key in a slot.
pub(crate) fn key(slot: u16, number: u8) -> Root {
    let mut bytes = [number; 12];
    bytes[10..].copy_from_slice(&slot.to_be_bytes());
    Root::from_bytes(bytes)
}

pub(crate) const fn version(clock: u64) -> Version {
    Version {
        clock: clock << 16,
        writer: 7,
    }
}

/// The credential of a session that was rotated half a minute ago, at a login, under its second
/// owner.
pub(crate) fn credential(number: u8) -> Credential {
    let details = Details {
        version: version(7),
        rotated_at: Some(NOW.minus(MINUTE / 2)),
        user: Some(UserKey::from_bytes([number; 16])),
        began_at: Some(NOW.minus(MINUTE / 2)),
        history: vec![Version {
            clock: 3 << 16,
            writer: 8,
        }],
    };
    let hash = SecretHash::from_bytes([number; 16]);
    Credential::from_parts(hash, NOW.plus(23 * 60 * MINUTE), details)
}

/// A session that was never rotated.
pub(crate) fn fresh(slot: u16, number: u8) -> StoredEntry {
    let hash = SecretHash::from_bytes([number; 16]);
    let credential = Credential::new(hash, NOW.plus(23 * 60 * MINUTE), None);
    with(credential, slot, number)
}

/// A session with an idle timeout of half an hour, used a minute ago, and its whole history.
pub(crate) fn live(slot: u16, number: u8) -> StoredEntry {
    with(credential(number), slot, number)
}

fn with(credential: Credential, slot: u16, number: u8) -> StoredEntry {
    let lifetime = Lifetime {
        created_at: NOW.minus(10 * MINUTE),
        accessed_at: NOW.minus(MINUTE),
        access: 9 << 16,
        idle_timeout: (version(1), Some(30 * MINUTE).into()),
        initial_idle_timeout: Some(5 * MINUTE).into(),
        returned: true,
    };
    let text = format!("\x01\"value {number}\"");
    let entries = vec![
        AttributeEntry {
            name: "cart".into(),
            version: version(5),
            value: None,
        },
        AttributeEntry {
            name: "user".into(),
            version: version(4),
            value: Some(Value::from_bytes(text.as_bytes())),
        },
    ];
    let updates = vec![version(6), version(5)];
    let record =
        Record::from_parts(credential, lifetime, entries, updates).expect("it is in order");
    StoredEntry {
        key: key(slot, number),
        state: EntryState::Live(Arc::new(record)),
    }
}

/// The tombstone of a session that was ended.
pub(crate) fn tombstone(slot: u16, number: u8) -> StoredEntry {
    StoredEntry {
        key: key(slot, number),
        state: EntryState::Tombstone {
            until: NOW.plus(20 * 60 * MINUTE),
        },
    }
}

pub(crate) fn header(nonce: Option<[u8; 16]>) -> SnapshotHeader {
    SnapshotHeader {
        application: "shop".to_owned(),
        written_at: NOW.as_millis(),
        salt: 0x1234_5678_9ABC_DEF0,
        nonce,
        journaled: false,
        survivors: vec![SnapshotSurvivor {
            name: "node2".to_owned(),
            incarnation: 1_800_000_000_001,
            leaving: true,
        }],
    }
}

/// Slots with their entries.
pub(crate) fn slots() -> Vec<(u16, Vec<StoredEntry>)> {
    vec![
        (0, vec![live(0, 1), tombstone(0, 2), live(0, 3)]),
        (77, vec![fresh(77, 4)]),
        (16_383, vec![tombstone(16_383, 5), live(16_383, 6)]),
    ]
}

/// A file with these slots.
pub(crate) fn file(
    header: &SnapshotHeader,
    key: Option<[u8; 32]>,
    slots: &[(u16, Vec<StoredEntry>)],
) -> Vec<u8> {
    let key = key.map(FileKey::new);
    let mut encoder =
        SnapshotEncoder::begin(Vec::new(), header, key.as_ref()).expect("memory takes all");
    for (slot, entries) in slots {
        let written = encoder.slot(*slot, NOW, NOW, entries);
        written.expect("memory takes all");
    }
    encoder.end(0).expect("memory takes all").0
}
