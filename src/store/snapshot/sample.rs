//! Sessions for the tests of the format.

use std::sync::Arc;
use std::time::Duration;

use crate::session::{Lifetime, Record, Register, Root, Stamp, Timestamp, Value};

use super::encoder::Encoder;
use super::header::Header;
use super::seal::FileKey;
use super::source::{Kept, State};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const KEY: [u8; 32] = *b"thirty-two bytes for the tests!!";

/// A key in a slot.
pub(super) fn key(slot: u16, number: u8) -> Root {
    let mut bytes = [number; 20];
    bytes[..4].copy_from_slice(&u32::from(slot).to_be_bytes());
    Root::from_bytes(bytes)
}

/// A session with half an hour of idle time, used a minute ago, and its whole history.
pub(super) fn live(slot: u16, number: u8) -> Kept {
    let stamp = |clock: u64| Stamp {
        clock: clock << 16,
        writer: 7,
    };
    let lifetime = Lifetime {
        created_at: NOW.minus(10 * MINUTE),
        ends_at: NOW.plus(23 * 60 * MINUTE),
        accessed_at: NOW.minus(MINUTE),
        max_inactive: (stamp(1), Some(30 * MINUTE).into()),
        first_visit: Some(5 * MINUTE).into(),
        returned: true,
    };
    let text = format!("\x01\"value {number}\"");
    let registers = vec![
        Register {
            name: "cart".into(),
            stamp: stamp(5),
            value: None,
        },
        Register {
            name: "user".into(),
            stamp: stamp(4),
            value: Some(Value::from_bytes(text.as_bytes())),
        },
    ];
    let updates = vec![stamp(6), stamp(5)];
    let record = Record::from_parts(lifetime, registers, updates).expect("it is in order");
    Kept {
        key: key(slot, number),
        state: State::Live(Arc::new(record)),
    }
}

/// What remains of a session that was moved.
pub(super) fn dead(slot: u16, number: u8) -> Kept {
    Kept {
        key: key(slot, number),
        state: State::Dead {
            until: NOW.plus(20 * 60 * MINUTE),
            successor: Some(key(slot, number + 1)),
        },
    }
}

pub(super) fn header(nonce: Option<[u8; 16]>) -> Header {
    Header {
        application: "shop".to_owned(),
        written_at: NOW.as_millis(),
        salt: 0x1234_5678_9ABC_DEF0,
        nonce,
        journaled: false,
    }
}

/// Slots with what is in them.
pub(super) fn slots() -> Vec<(u16, Vec<Kept>)> {
    vec![
        (0, vec![live(0, 1), dead(0, 2), live(0, 3)]),
        (77, vec![live(77, 4)]),
        (16_383, vec![dead(16_383, 5), live(16_383, 6)]),
    ]
}

/// A file with that in it.
pub(super) fn file(header: &Header, key: Option<[u8; 32]>, slots: &[(u16, Vec<Kept>)]) -> Vec<u8> {
    let key = key.map(FileKey::new);
    let mut encoder = Encoder::begin(Vec::new(), header, key.as_ref()).expect("memory takes all");
    for (slot, kept) in slots {
        let written = encoder.slot(*slot, (NOW, NOW), kept);
        written.expect("memory takes all");
    }
    encoder.end(0).expect("memory takes all").0
}
