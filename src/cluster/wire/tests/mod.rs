//! Tests of the wire format.

mod arbitrary;
mod arbitrary_session;
mod fixtures;
mod golden;
mod later_versions;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use std::time::Duration;

use crate::session::{
    AttributeEntry, Changes, Credential, Details, EndReason, FLOOR, HISTORY_MAX, Idle, Lifetime,
    ListPart, Login, Name, Record, Root, Rotation, SLOTS, SecretHash, SessionEventKind,
    SessionInfo, SessionPage, Timestamp, UserKey, Value, Version,
};

use crate::cluster::copies::Copies;
use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{
    Cursor, GetReply, Happened, KeyedEntry, Operation, Proposal, Reason, SlotEntries, Traced,
    UpdateRequest, UpdateResponse, UpdateStatus, View, ViewId, Vote, Write,
};
use crate::cluster::replica::message::{ListRequest, ListResponse};
use crate::cluster::replica::node::Node;
use crate::cluster::transport::Inbox;
use crate::cluster::wire::*;

use self::fixtures::*;

proptest! {
    #[test]
    fn a_message_arrives_as_it_was_sent(message in arbitrary::message()) {
        prop_assert_eq!(decode(&body(&message)), Ok(message));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = Hello::decode(&bytes);
        let _ = HelloReply::decode(&bytes);
    }

    #[test]
    fn no_damage_makes_decoding_panic(
        message in arbitrary::message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = body(&message);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_part_of_a_message_is_none(
        message in arbitrary::message(),
        cut in any::<prop::sample::Index>(),
    ) {
        // Fields that were added later are optional.
        let message = match message {
            Message::Listen { wanted, .. } => Message::Listen { wanted, after: None },
            Message::Happened(happened) => Message::Happened(Happened { traced: None, ..happened }),
            Message::View(view) => Message::View(View { kinds: None, ..view }),
            message => message,
        };
        let bytes = body(&message);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_handshake_arrives_as_it_was_sent(
        node in arbitrary::node(),
        cluster in ".{1,64}",
        process in any::<u64>(),
    ) {
        let hello = Hello::new(&cluster, node.clone(), process, Copies::All);
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        prop_assert!(bytes.len() <= HANDSHAKE_MAX);
        prop_assert_eq!(Hello::decode(&bytes[4..]), Ok(hello));

        let reply = HelloReply::Welcome { proto: 2, node, seen: process };
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        prop_assert_eq!(HelloReply::decode(&bytes[4..]), Ok(reply));
    }
}

#[test]
fn contents_that_break_a_replica_are_refused() {
    let content = [
        vec![register(&"x".repeat(257), 1)],
        vec![register("a", u64::MAX)],
        vec![register("\0", u64::MAX)],
        vec![AttributeEntry {
            value: Some(Value::from_bytes(*b"J1")),
            ..register("\0", 1)
        }],
        vec![register("b", 1), register("a", 1)],
        vec![register("a", 1), register("a", 2)],
    ];
    for entries in content {
        let message = write_of(Delta {
            entries,
            ..empty_delta()
        });
        let refused = Err(WireError::InvalidContent);
        assert_eq!(decode(&body(&message)), refused, "{message:?}");
    }

    let differ = |slots| Message::DigestDiff {
        view: VIEW,
        round: 2,
        slots,
    };
    let too_far = Message::Propose(Proposal {
        view: VIEW,
        op: 8,
        key: key(),
        floor: register("a", u64::MAX).version,
        content: 1,
    });
    let bad_node = Message::View(View {
        number: 1,
        ask: false,
        view: VIEW,
        members: vec![Node {
            address: ([127, 0, 0, 1], 4000).into(),
            incarnation: 1,
            name: "no route".into(),
        }],
        removed: Vec::new(),
        complete: true,
        ready: true,
        leaving: false,
        loss_window: Duration::ZERO,
        kinds: None,
    });
    let cases = [
        (too_far, WireError::InvalidContent),
        (differ(vec![SLOTS as u16]), WireError::NoSuchSlot),
        (differ(vec![0; SLOTS + 1]), WireError::TooMany),
        (bad_node, WireError::BadNode),
        (
            page(vec![listed(); SessionPage::LIMIT_MAX + 1]),
            WireError::TooMany,
        ),
    ];
    for (message, error) in cases {
        assert_eq!(decode(&body(&message)), Err(error), "{message:?}");
    }
}

fn register(name: &str, clock: u64) -> AttributeEntry {
    AttributeEntry {
        name: name.into(),
        version: Version { clock, writer: 1 },
        value: None,
    }
}

fn empty_delta() -> Delta {
    Delta {
        entries: Vec::new(),
        idle_timeout: None,
        accessed_at: NOW,
        access: 0,
        credential: None,
        updates: Vec::new(),
    }
}

fn write_of(delta: Delta) -> Message {
    Message::Write(Write {
        seq: 1,
        behind: 0,
        view: VIEW,
        strict: false,
        sent_at: NOW,
        entries: [KeyedEntry {
            key: key(),
            entry: Entry::Delta(delta.into()),
        }]
        .into(),
    })
}

#[test]
fn a_delta_keeps_as_many_updates_as_a_record_however_many_come() {
    let version = |clock| Version { clock, writer: 1 };
    let many: Vec<_> = (1..=5_000).map(version).collect();
    let latest: Vec<_> = (5_000 - 15..=5_000).map(version).collect();
    let write = |updates| {
        write_of(Delta {
            updates,
            ..empty_delta()
        })
    };
    // From this version, and from one that sends all of them.
    assert_eq!(
        decode(&body(&write(many.clone()))),
        Ok(write(latest.clone()))
    );
    let mut bytes = Vec::new();
    let head = (2u8, (1u8, 0u8), VIEW, false, NOW, 1u8);
    put(&head, &mut bytes);
    put(&record::copy_with_updates(key(), NOW, &many), &mut bytes);
    assert_eq!(decode(&bytes), Ok(write(latest)));
}

fn happened() -> Message {
    Message::Happened(Happened {
        sent_at: NOW,
        kind: SessionEventKind::Deleted(EndReason::Limit),
        key: key(),
        user: Some(UserKey::from_bytes([7; 16])),
        at: NOW,
        lost: 3,
        traced: None,
    })
}

/// The same with the fields that were added later.
fn traced() -> Message {
    let Message::Happened(happened) = happened() else {
        unreachable!("it is an event");
    };
    Message::Happened(Happened {
        traced: Some(Traced {
            place: Cursor { log: 9, seq: 5 },
            possible_repeat: true,
            rotation: 4,
        }),
        ..happened
    })
}

fn reason() -> Message {
    Message::Reason(Reason {
        key: key(),
        reason: EndReason::User,
    })
}

fn view(kinds: Option<u32>) -> Message {
    Message::View(View {
        number: 9,
        ask: true,
        view: VIEW,
        members: Vec::new(),
        removed: Vec::new(),
        complete: true,
        ready: false,
        leaving: true,
        loss_window: Duration::from_millis(1_500),
        kinds,
    })
}

fn page(sessions: Vec<SessionInfo>) -> Message {
    Message::ListPage(ListResponse {
        view: VIEW,
        op: 8,
        sent_at: NOW,
        part: ListPart {
            sessions,
            through: Some(key()),
        },
    })
}

fn listed() -> SessionInfo {
    SessionInfo {
        key: key(),
        user: Some(UserKey::from_bytes([7; 16])),
        label: None,
        created_at: NOW,
        last_accessed_at: NOW,
        expires_at: NOW,
        absolute_deadline: Timestamp::NEVER,
    }
}

/// A node of an earlier version skips the later fields, and does not send them.
#[test]
fn later_fields_of_a_message_are_optional() {
    let listen = |after| Message::Listen {
        wanted: true,
        after,
    };
    let place = Cursor { log: 9, seq: 5 };
    for (later, earlier) in [
        (traced(), happened()),
        (listen(Some(place)), listen(None)),
        (view(Some(24)), view(None)),
    ] {
        let (bytes, short) = (body(&later), body(&earlier));
        assert_eq!(bytes[..short.len()], short);
        assert_eq!(decode(&bytes), Ok(later));
        assert_eq!(decode(&short), Ok(earlier.clone()));
        // Cut off or damaged, they count as absent.
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(earlier));
    }
    let mut bytes = body(&reason());
    *bytes.last_mut().unwrap() = 6;
    assert_eq!(decode(&bytes), Err(WireError::InvalidContent));
}

#[test]
fn fields_that_follow_a_message_are_skipped() {
    let mut bytes = body(&Message::Leave);
    bytes.extend_from_slice(b"a later field");
    assert_eq!(decode(&bytes), Ok(Message::Leave));
}

#[test]
fn a_kind_of_a_later_version_is_distinguished_from_garbage() {
    assert_eq!(body(&page(vec![listed()]))[0], KINDS as u8 - 1);
    assert_eq!(decode(&[KINDS as u8, 1, 2]), Err(WireError::UnknownKind));
    assert_eq!(decode(&[KINDS as u8 - 1]), Err(WireError::Malformed));
    assert_eq!(decode(&[]), Err(WireError::Malformed));
}

#[test]
fn a_message_that_no_receiver_would_accept_is_not_written() {
    let mut bytes = b"before".to_vec();
    let message = Message::Swim(vec![0; 98]);
    let refused = encode_within(&message, ProtocolVersion::V2, 99, &mut bytes);
    assert_eq!(refused, Err(WireError::MessageTooLong));
    assert_eq!(bytes, b"before");
    let written = encode_within(&message, ProtocolVersion::V2, 100, &mut bytes);
    assert_eq!((written, bytes.len()), (Ok(()), 106));
}

#[test]
fn a_count_that_nothing_follows_takes_no_memory() {
    // A write with 2^63 copies, and an acknowledgement of as many writes.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for head in [&[2, 1, 2, 0, 3][..], &[3, 1]] {
        let bytes = [head, &huge].concat();
        assert_eq!(decode(&bytes), Err(WireError::Malformed));
    }
}

#[test]
fn a_small_change_is_small_on_the_wire() {
    let message = Message::Write(Write {
        seq: 100_000,
        behind: 10,
        view: ViewId {
            epoch: 1_000,
            members: u64::MAX,
        },
        strict: false,
        sent_at: NOW,
        entries: [KeyedEntry {
            key: key(),
            entry: Entry::Delta(delta().into()),
        }]
        .into(),
    });
    let len = SEGMENT_HEAD + body(&message).len();
    assert!(len <= 120, "{len}");
}
