//! Messages and sessions with fixed contents, and their bytes.

use super::*;

pub(super) const VIEW: ViewId = ViewId {
    epoch: 3,
    members: 0xfeed,
};

pub(super) fn body(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, ProtocolVersion::V2, &mut bytes).unwrap();
    bytes
}

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(super) const SECRET: SecretHash = SecretHash::from_bytes(*b"the secret, hash");
pub(super) const STAMP: Version = Version {
    clock: 1_700_000_000_000 << 16,
    writer: 0xdead_beef,
};
pub(super) fn key() -> Root {
    Root::from_bytes(*b"\xffag!01234567")
}

/// One attribute of eight bytes.
pub(super) fn delta() -> Delta {
    Delta {
        entries: vec![AttributeEntry {
            name: "session_counter".into(),
            version: STAMP,
            value: Some(Value::from_bytes(*b"J1234567")),
        }],
        idle_timeout: None,
        accessed_at: NOW,
        access: STAMP.clock,
        credential: None,
        updates: vec![STAMP],
    }
}

pub(super) fn credential(details: Details) -> Credential {
    Credential::from_parts(SECRET, Timestamp::NEVER, details)
}

pub(super) fn record() -> Record {
    let lifetime = Lifetime {
        created_at: NOW,
        accessed_at: NOW,
        access: STAMP.clock,
        idle_timeout: (STAMP, Some(Duration::new(1800, 5)).into()),
        initial_idle_timeout: Some(Duration::from_secs(60)).into(),
        returned: true,
    };
    let removed = AttributeEntry {
        name: "zero".into(),
        version: Version::default(),
        value: None,
    };
    let entries = [delta().entries, vec![removed]].concat();
    Record::from_parts(
        credential(Details::default()),
        lifetime,
        entries,
        vec![STAMP],
    )
    .unwrap()
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .trim()
        .bytes()
        .map(|b| (b as char).to_digit(16).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
