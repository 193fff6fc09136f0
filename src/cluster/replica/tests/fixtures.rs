//! Nodes, sessions and changes with fixed contents, for the tests.

use super::*;

pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

/// A view that no node is in.
pub(super) const UNKNOWN: ViewId = ViewId {
    epoch: 1,
    members: 12345,
};

/// The same members in another epoch.
pub(super) const fn another(view: ViewId) -> ViewId {
    ViewId {
        epoch: view.epoch + 1,
        members: view.members,
    }
}

pub(super) fn node(number: u16) -> Node {
    Node {
        address: ([127, 0, 0, 1], 4000 + number).into(),
        incarnation: 1,
        name: format!("node{number}").into(),
    }
}

pub(super) fn key(number: u8) -> Root {
    let mut bytes = [0; 12];
    bytes[11] = number;
    Root::from_bytes(bytes)
}

pub(super) fn born(name: &str, text: &str) -> Changes {
    let mut changes = Changes::create(SECRET, Some(HOUR), 24 * HOUR);
    changes.insert(name.into(), value(text));
    changes
}

pub(super) fn insert(name: &str, text: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert(name.into(), value(text));
    changes
}

pub(super) fn value(text: &str) -> Value {
    Value::from_bytes(text.as_bytes())
}

pub(super) fn text(record: &Record, name: &str) -> Option<String> {
    let bytes = record.get(name)?.as_bytes().to_vec();
    String::from_utf8(bytes).ok()
}

pub(super) fn settings(number: u16, copies: Copies) -> Settings {
    Settings {
        me: node(number),
        copies,
        ack: Ack::All,
        min_copies: 1,
        max_sessions: 100,
        max_bytes: 1 << 20,
        max_session_bytes: 1 << 24,
        ack_timeout: Duration::from_secs(5),
        requirements: Requirements::default(),
        seed: number.into(),
        rules: ProtocolRules::ALL,
    }
}

pub(super) fn table_with(max_sessions: usize, max_bytes: usize) -> EntryTable {
    EntryTable::new(&Settings {
        max_sessions,
        max_bytes,
        ..settings(0, Copies::All)
    })
}

pub(super) fn table() -> EntryTable {
    table_with(100, 1 << 20)
}

pub(super) fn record(name: &str, clock: u64) -> Record {
    let credential = Credential::new(SECRET, START.plus(24 * HOUR), None);
    let mut record = Record::new(
        credential,
        Lifetime {
            created_at: START,
            accessed_at: START,
            access: 0,
            idle_timeout: (Version::default(), Some(HOUR).into()),
            initial_idle_timeout: None.into(),
            returned: false,
        },
    );
    record.merge_write(&register(name, clock));
    record
}

pub(super) fn register(name: &str, clock: u64) -> AttributeEntry {
    AttributeEntry {
        name: Name::from(name),
        version: Version { clock, writer: 1 },
        value: Some(value(&clock.to_string())),
    }
}

pub(super) fn live(number: u8, name: &str, clock: u64) -> KeyedEntry {
    KeyedEntry {
        key: key(number),
        entry: Entry::Live(Arc::new(record(name, clock))),
    }
}

pub(super) fn delta(number: u8, name: &str, clock: u64) -> KeyedEntry {
    let delta = Delta {
        entries: vec![register(name, clock)],
        idle_timeout: None,
        accessed_at: START,
        access: 0,
        credential: None,
        updates: Vec::new(),
    };
    KeyedEntry {
        key: key(number),
        entry: Entry::Delta(Arc::new(delta)),
    }
}

pub(super) fn dead(number: u8) -> KeyedEntry {
    KeyedEntry {
        key: key(number),
        entry: Entry::tombstone(START, &record("a", 1)),
    }
}
