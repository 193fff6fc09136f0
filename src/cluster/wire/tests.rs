use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use std::time::Duration;

use crate::session::{
    AttributeEntry, Changes, Credential, Details, EndReason, FLOOR, HISTORY_MAX, Idle, Lifetime,
    Login, Name, Record, Root, Rotation, SLOTS, SecretHash, SessionEventKind, Timestamp, UserKey,
    Value, Version,
};

use super::*;
use crate::cluster::Copies;
use crate::cluster::link::Inbox;
use crate::cluster::replica::entry::{Delta, Entry};
use crate::cluster::replica::message::{
    Happened, KeyedEntry, Operation, Proposal, Update, UpdateStatus, View, ViewId, Write,
};
use crate::cluster::replica::node::Node;

const VIEW: ViewId = ViewId {
    epoch: 3,
    members: 0xfeed,
};

fn body(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, Protocol::V2, &mut bytes).unwrap();
    bytes
}

mod arbitrary {
    use super::*;

    impl Arbitrary for ViewId {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;

        fn arbitrary_with((): ()) -> Self::Strategy {
            any::<(u64, u64)>()
                .prop_map(|(epoch, members)| Self { epoch, members })
                .boxed()
        }
    }

    pub(super) fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            vec(any::<u8>(), 0..200).prop_map(Message::Swim),
            view().prop_map(Message::View),
            write().prop_map(Message::Write),
            (any::<ViewId>(), vec(any::<u64>(), 0..20))
                .prop_map(|(view, seqs)| Message::Ack { view, seqs }),
            any::<(ViewId, u64)>().prop_map(|(view, seq)| Message::Nack { view, seq }),
            (time(), key(), time(), clock()).prop_map(|(sent_at, key, accessed_at, access)| {
                Message::Touch {
                    sent_at,
                    key,
                    accessed_at,
                    access,
                }
            }),
            (any::<(ViewId, u64)>(), vec((slot(), any::<u64>()), 0..20)).prop_map(
                |((view, round), digests)| Message::Digests {
                    view,
                    round,
                    digests
                }
            ),
            (any::<(ViewId, u64)>(), vec(slot(), 0..20))
                .prop_map(|((view, round), slots)| { Message::DigestDiff { view, round, slots } }),
            (
                any::<(ViewId, u64)>(),
                slot(),
                option::of(key()),
                vec((key(), any::<u64>(), any::<u64>()), 0..20)
            )
                .prop_map(|((view, round), slot, after, known)| Message::PullSlot {
                    view,
                    round,
                    slot,
                    after,
                    known
                }),
            (
                any::<(ViewId, u64, bool)>(),
                slot(),
                time(),
                vec(copy(), 0..5)
            )
                .prop_map(|((view, round, more), slot, sent_at, copies)| {
                    Message::SlotEntries {
                        view,
                        round,
                        slot,
                        sent_at,
                        copies,
                        more,
                    }
                }),
            (any::<(ViewId, u64)>(), key(), option::of(secret())).prop_map(
                |((view, op), key, secret)| Message::Get {
                    view,
                    op,
                    key,
                    secret
                }
            ),
            (any::<(ViewId, u64)>(), time(), option::of(copy())).prop_map(
                |((view, op), sent_at, copy)| Message::GetReply {
                    view,
                    op,
                    sent_at,
                    copy
                }
            ),
            update().prop_map(Message::Update),
            (any::<u64>(), time(), verdict(), option::of(copy())).prop_map(
                |(op, sent_at, verdict, copy)| Message::Updated {
                    op,
                    sent_at,
                    verdict,
                    copy
                }
            ),
            (any::<(ViewId, u64, u64)>(), key(), version()).prop_map(
                |((view, op, content), key, floor)| {
                    Message::Propose(Proposal {
                        view,
                        op,
                        key,
                        floor,
                        content,
                    })
                }
            ),
            (any::<(ViewId, u64, bool)>(), key()).prop_map(|((view, op, agrees), key)| {
                Message::Vote {
                    view,
                    op,
                    key,
                    agrees,
                }
            }),
            any::<bool>().prop_map(|wanted| Message::Listen { wanted }),
            happened(),
            Just(Message::Leave),
        ]
    }

    fn happened() -> impl Strategy<Value = Message> {
        let reasons = [
            SessionEventKind::Created,
            SessionEventKind::Rotated,
            SessionEventKind::Deleted(EndReason::Logout),
            SessionEventKind::Deleted(EndReason::User),
            SessionEventKind::Deleted(EndReason::Admin),
            SessionEventKind::Deleted(EndReason::Limit),
            SessionEventKind::Expired(EndReason::Idle),
            SessionEventKind::Expired(EndReason::Absolute),
        ];
        let kind = proptest::sample::select(reasons.to_vec());
        let user = option::of(any::<[u8; 16]>());
        (kind, key(), user, time(), time(), any::<u64>()).prop_map(
            |(kind, key, user, sent_at, at, lost)| {
                Message::Happened(Happened {
                    sent_at,
                    kind,
                    key,
                    user: user.map(UserKey::from_bytes),
                    at,
                    lost,
                })
            },
        )
    }

    fn view() -> impl Strategy<Value = View> {
        let nodes = || vec(node(), 0..5);
        (
            any::<(u64, bool, ViewId, bool, bool, bool, Duration)>(),
            nodes(),
            nodes(),
        )
            .prop_map(
                |((number, ask, view, complete, ready, leaving, doubt), members, removed)| View {
                    number,
                    ask,
                    view,
                    members,
                    removed,
                    complete,
                    ready,
                    leaving,
                    doubt,
                },
            )
    }

    fn write() -> impl Strategy<Value = Write> {
        (any::<(u64, ViewId, bool)>(), time(), vec(copy(), 0..5)).prop_map(
            |((seq, view, strict), sent_at, copies)| Write {
                seq,
                behind: seq / 2,
                view,
                strict,
                sent_at,
                copies: copies.into(),
            },
        )
    }

    fn update() -> impl Strategy<Value = Update> {
        (
            any::<(ViewId, u64, bool)>(),
            key(),
            time(),
            option::of((name(), option::of(version()))),
            fragment(),
            option::of(rotation()),
            order(),
        )
            .prop_map(
                |((view, op, retry), key, sent_at, expect, fragment, rotation, order)| Update {
                    view,
                    op,
                    key,
                    retry,
                    sent_at,
                    expect,
                    fragment: fragment.into(),
                    rotation,
                    order,
                },
            )
    }

    fn order() -> impl Strategy<Value = Operation> {
        prop_oneof![
            Just(Operation::Update),
            record().prop_map(|record| Operation::Create(record.into())),
            Just(Operation::Delete),
        ]
    }

    fn verdict() -> impl Strategy<Value = UpdateStatus> {
        proptest::sample::select(vec![
            UpdateStatus::Applied,
            UpdateStatus::Conflict,
            UpdateStatus::Gone,
            UpdateStatus::Retry,
            UpdateStatus::Indeterminate,
            UpdateStatus::Full,
            UpdateStatus::TooLarge,
            UpdateStatus::Superseded,
        ])
    }

    pub(super) fn node() -> impl Strategy<Value = Node> {
        let address = (any::<std::net::IpAddr>(), 1..u16::MAX).prop_map(Into::into);
        (address, 0..=u64::MAX >> 1, "[A-Za-z0-9_]{1,32}")
            .prop_map(|(address, generation, name)| Node {
                address,
                generation,
                name: name.into(),
            })
            .prop_filter("an address", |node| !node.address.ip().is_unspecified())
    }

    fn copy() -> impl Strategy<Value = KeyedEntry> {
        let entry = prop_oneof![
            record().prop_map(|record| Entry::Live(record.into())),
            fragment().prop_map(|fragment| Entry::Delta(fragment.into())),
            time().prop_map(|until| Entry::Dead { until }),
        ];
        (key(), entry).prop_map(|(key, entry)| KeyedEntry { key, entry })
    }

    fn record() -> impl Strategy<Value = Record> {
        (
            credential(),
            (time(), time(), clock()),
            (version(), idle()),
            idle(),
            any::<bool>(),
            entries(),
            btree_set(version(), 0..16),
        )
            .prop_map(
                |(
                    credential,
                    times,
                    idle_timeout,
                    initial_idle_timeout,
                    returned,
                    entries,
                    updates,
                )| {
                    let lifetime = Lifetime {
                        created_at: times.0,
                        accessed_at: times.1,
                        access: times.2,
                        idle_timeout,
                        initial_idle_timeout,
                        returned,
                    };
                    let updates = updates.into_iter().rev().collect();
                    Record::from_parts(credential, lifetime, entries, updates).unwrap()
                },
            )
    }

    fn fragment() -> impl Strategy<Value = Delta> {
        (
            entries(),
            option::of((version(), idle())),
            (time(), clock()),
            option::of(credential()),
            vec(version(), 0..5),
        )
            .prop_map(
                |(entries, idle_timeout, (accessed_at, access), credential, updates)| Delta {
                    entries,
                    idle_timeout,
                    accessed_at,
                    access,
                    credential,
                    updates,
                },
            )
    }

    fn credential() -> impl Strategy<Value = Credential> {
        let history = vec(version(), 0..=HISTORY_MAX);
        let details = (version(), option::of(time()), option::of(user()), history);
        (secret(), time(), option::of(details), option::of(time())).prop_map(
            |(hash, absolute_deadline, details, began_at)| {
                let details = details.map(|(version, rotated_at, user, history)| Details {
                    version,
                    rotated_at,
                    user,
                    began_at,
                    history,
                });
                Credential::from_parts(hash, absolute_deadline, details.unwrap_or_default())
            },
        )
    }

    fn rotation() -> impl Strategy<Value = Rotation> {
        let login = option::of((option::of(user()), duration()));
        (secret(), secret(), login).prop_map(|(from, to, login)| {
            let mut changes = Changes::default();
            changes.rotate(from, to);
            if let Some((user, absolute_timeout)) = login {
                changes.log_in(Login {
                    user,
                    absolute_timeout,
                });
            }
            changes.rotation().unwrap()
        })
    }

    fn secret() -> impl Strategy<Value = SecretHash> {
        any::<[u8; 16]>().prop_map(SecretHash::from_bytes)
    }

    fn user() -> impl Strategy<Value = UserKey> {
        any::<[u8; 16]>().prop_map(UserKey::from_bytes)
    }

    fn clock() -> impl Strategy<Value = u64> {
        0..=Version::MAX_CLOCK
    }

    fn idle() -> impl Strategy<Value = Idle> {
        option::of(duration()).prop_map(Idle::from)
    }

    fn entries() -> impl Strategy<Value = Vec<AttributeEntry>> {
        let value = option::of(vec(any::<u8>(), 0..50));
        vec((name(), version(), value), 0..5).prop_map(|entries| {
            let mut entries: Vec<_> = entries
                .into_iter()
                .map(|(name, version, value)| AttributeEntry {
                    version,
                    // A floor has no value.
                    value: value.filter(|_| &*name != FLOOR).map(Value::from_bytes),
                    name,
                })
                .collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            entries.dedup_by(|a, b| a.name == b.name);
            entries
        })
    }

    fn name() -> impl Strategy<Value = Name> {
        ".{0,60}".prop_map(|name| Name::from(&*name))
    }

    fn version() -> impl Strategy<Value = Version> {
        (0..=Version::MAX_CLOCK, any::<u32>()).prop_map(|(clock, writer)| Version { clock, writer })
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        prop_oneof![
            any::<u64>().prop_map(Timestamp::from_millis),
            Just(Timestamp::NEVER)
        ]
    }

    fn duration() -> impl Strategy<Value = Duration> {
        any::<Duration>()
    }

    fn key() -> impl Strategy<Value = Root> {
        any::<[u8; 12]>().prop_map(Root::from_bytes)
    }

    fn slot() -> impl Strategy<Value = u16> {
        0..SLOTS as u16
    }
}

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
        let bytes = body(&message);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn an_introduction_arrives_as_it_was_sent(
        node in arbitrary::node(),
        cluster in ".{1,64}",
        process in any::<u64>(),
    ) {
        let hello = Hello::new(&cluster, node.clone(), process, Copies::All);
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        prop_assert!(bytes.len() <= INTRODUCTION_MAX);
        prop_assert_eq!(Hello::decode(&bytes[4..]), Ok(hello));

        let reply = HelloReply::Welcome { proto: 2, node, seen: process };
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        prop_assert_eq!(HelloReply::decode(&bytes[4..]), Ok(reply));
    }
}

#[test]
fn what_a_replica_could_not_live_with_is_refused() {
    let register = |name: &str, clock| AttributeEntry {
        name: name.into(),
        version: Version { clock, writer: 1 },
        value: None,
    };
    let fragment = |entries| {
        let fragment = Delta {
            entries,
            idle_timeout: None,
            accessed_at: NOW,
            access: 0,
            credential: None,
            updates: Vec::new(),
        };
        let copy = KeyedEntry {
            key: key(),
            entry: Entry::Delta(fragment.into()),
        };
        Message::Write(Write {
            seq: 1,
            behind: 0,
            view: VIEW,
            strict: false,
            sent_at: NOW,
            copies: [copy].into(),
        })
    };
    let differ = |slots| Message::DigestDiff {
        view: VIEW,
        round: 2,
        slots,
    };
    let cases = [
        (
            fragment(vec![register(&"x".repeat(257), 1)]),
            WireError::InvalidContent,
        ),
        (
            fragment(vec![register("a", u64::MAX)]),
            WireError::InvalidContent,
        ),
        (
            fragment(vec![AttributeEntry {
                value: Some(Value::from_bytes(*b"J1")),
                ..register("\0", 1)
            }]),
            WireError::InvalidContent,
        ),
        (
            fragment(vec![register("\0", u64::MAX)]),
            WireError::InvalidContent,
        ),
        (
            Message::Propose(Proposal {
                view: VIEW,
                op: 8,
                key: key(),
                floor: register("a", u64::MAX).version,
                content: 1,
            }),
            WireError::InvalidContent,
        ),
        (
            fragment(vec![register("b", 1), register("a", 1)]),
            WireError::InvalidContent,
        ),
        (
            fragment(vec![register("a", 1), register("a", 2)]),
            WireError::InvalidContent,
        ),
        (differ(vec![SLOTS as u16]), WireError::NoSuchSlot),
        (differ(vec![0; SLOTS + 1]), WireError::TooMany),
        (
            Message::View(View {
                number: 1,
                ask: false,
                view: VIEW,
                members: vec![Node {
                    address: ([127, 0, 0, 1], 4000).into(),
                    generation: 1,
                    name: "no route".into(),
                }],
                removed: Vec::new(),
                complete: true,
                ready: true,
                leaving: false,
                doubt: Duration::ZERO,
            }),
            WireError::BadNode,
        ),
    ];
    for (message, error) in cases {
        assert_eq!(decode(&body(&message)), Err(error), "{message:?}");
    }
}

#[test]
fn a_fragment_keeps_as_many_updates_as_a_record_however_many_come() {
    let version = |clock| Version { clock, writer: 1 };
    let many: Vec<_> = (1..=5_000).map(version).collect();
    let latest: Vec<_> = (5_000 - 15..=5_000).map(version).collect();
    let write = |updates| {
        let fragment = Delta {
            entries: Vec::new(),
            idle_timeout: None,
            accessed_at: NOW,
            access: 0,
            credential: None,
            updates,
        };
        Message::Write(Write {
            seq: 1,
            behind: 0,
            view: VIEW,
            strict: false,
            sent_at: NOW,
            copies: [KeyedEntry {
                key: key(),
                entry: Entry::Delta(fragment.into()),
            }]
            .into(),
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
    put(&session::copy_with_updates(key(), NOW, &many), &mut bytes);
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
    })
}

#[test]
fn fields_that_follow_a_message_are_skipped() {
    let mut bytes = body(&Message::Leave);
    bytes.extend_from_slice(b"a later field");
    assert_eq!(decode(&bytes), Ok(Message::Leave));
}

#[test]
fn a_kind_of_a_later_version_is_told_from_garbage() {
    assert_eq!(body(&happened())[0], KINDS as u8 - 1);
    assert_eq!(decode(&[KINDS as u8, 1, 2]), Err(WireError::UnknownKind));
    assert_eq!(decode(&[KINDS as u8 - 1]), Err(WireError::Malformed));
    assert_eq!(decode(&[]), Err(WireError::Malformed));
}

#[test]
fn a_message_that_no_receiver_would_take_is_not_written() {
    let mut bytes = b"before".to_vec();
    let message = Message::Swim(vec![0; 98]);
    let refused = encode_within(&message, Protocol::V2, 99, &mut bytes);
    assert_eq!(refused, Err(WireError::MessageTooLong));
    assert_eq!(bytes, b"before");
    let written = encode_within(&message, Protocol::V2, 100, &mut bytes);
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
        copies: [KeyedEntry {
            key: key(),
            entry: Entry::Delta(fragment().into()),
        }]
        .into(),
    });
    let len = SEGMENT_HEAD + body(&message).len();
    assert!(len <= 120, "{len}");
}

/// Bytes sent by the first version with protocol 2. They never change.
#[test]
fn the_format_of_protocol_2_stands_still() {
    let copy = |entry| KeyedEntry { key: key(), entry };
    let live = || copy(Entry::Live(record().into()));
    let part = || copy(Entry::Delta(fragment().into()));
    let dead = || copy(Entry::Dead { until: NOW });
    let rotated = || {
        let credential = credential(Details {
            version: STAMP,
            rotated_at: Some(NOW),
            user: Some(UserKey::of("ada")),
            began_at: Some(NOW),
            history: vec![Version::default()],
        });
        let fragment = Delta {
            credential: Some(credential),
            ..fragment()
        };
        copy(Entry::Delta(fragment.into()))
    };
    let node = |port, name: &str| Node {
        address: ([127, 0, 0, 1], port).into(),
        generation: 1_700_000_000_000,
        name: name.into(),
    };
    let six = Node {
        address: (std::net::Ipv6Addr::LOCALHOST, 4002).into(),
        generation: 3,
        name: "c".into(),
    };
    let mut changes = Changes::default();
    changes.rotate(SECRET, SECRET);
    changes.log_in(Login {
        user: Some(UserKey::of("ada")),
        absolute_timeout: Duration::from_secs(300),
    });
    let golden = [
        (Message::Swim(vec![1, 2, 3]), "0003010203"),
        (
            Message::View(View {
                number: 9,
                ask: true,
                view: VIEW,
                members: vec![node(4000, "node1"), six],
                removed: vec![node(4001, "node2")],
                complete: true,
                ready: false,
                leaving: true,
                doubt: Duration::from_millis(1_500),
            }),
            "01090103edfd0302007f000001a01f80d095ffbc31056e6f6465310100000000000000000000\
             000000000001a21f03016301007f000001a11f80d095ffbc31056e6f6465320100010180cab5\
             ee01",
        ),
        (
            Message::Write(Write {
                seq: 5,
                behind: 4,
                view: VIEW,
                strict: true,
                sent_at: NOW,
                copies: [live(), part(), rotated(), dead()].into(),
            }),
            "02050403edfd030180d095ffbc3104ff61672130313233343536370074686520736563726574\
             2c2068617368ffffffffffffffffff010080d095ffbc3180d095ffbc31808080c0d6fcf3c501\
             808080c0d6fcf3c501effdb6f50d01880e05013c0001020f73657373696f6e5f636f756e7465\
             72808080c0d6fcf3c501effdb6f50d01084a31323334353637047a65726f00000001808080c0\
             d6fcf3c501effdb6f50dff616721303132333435363701010f73657373696f6e5f636f756e74\
             6572808080c0d6fcf3c501effdb6f50d01084a313233343536370080d095ffbc31808080c0d6\
             fcf3c5010001808080c0d6fcf3c501effdb6f50dff616721303132333435363701010f736573\
             73696f6e5f636f756e746572808080c0d6fcf3c501effdb6f50d01084a313233343536370080\
             d095ffbc31808080c0d6fcf3c50101746865207365637265742c2068617368ffffffffffffff\
             ffff0101808080c0d6fcf3c501effdb6f50d0180d095ffbc31011fa5f9f597810662447dab4f\
             9d5053750180d095ffbc3101000001808080c0d6fcf3c501effdb6f50dff6167213031323334\
             3536370280d095ffbc31",
        ),
        (
            Message::Ack {
                view: VIEW,
                seqs: vec![5, 6, 300],
            },
            "0303edfd03030506ac02",
        ),
        (Message::Nack { view: VIEW, seq: 5 }, "0403edfd0305"),
        (
            Message::Touch {
                sent_at: NOW,
                key: key(),
                accessed_at: NOW,
                access: 77,
            },
            "0580d095ffbc31ff616721303132333435363780d095ffbc314d",
        ),
        (
            Message::Digests {
                view: VIEW,
                round: 2,
                digests: vec![(0, 1), (16383, u64::MAX)],
            },
            "0603edfd0302020001ff7fffffffffffffffffff01",
        ),
        (
            Message::DigestDiff {
                view: VIEW,
                round: 2,
                slots: vec![0, 16383],
            },
            "0703edfd03020200ff7f",
        ),
        (
            Message::PullSlot {
                view: VIEW,
                round: 2,
                slot: 7,
                after: Some(key()),
                known: vec![(key(), 9, 10)],
            },
            "0803edfd03020701ff616721303132333435363701ff6167213031323334353637090a",
        ),
        (
            Message::SlotEntries {
                view: VIEW,
                round: 2,
                slot: 7,
                sent_at: NOW,
                copies: vec![dead()],
                more: true,
            },
            "0903edfd03020780d095ffbc3101ff61672130313233343536370280d095ffbc3101",
        ),
        (
            Message::Get {
                view: VIEW,
                op: 8,
                key: key(),
                secret: Some(SECRET),
            },
            "0a03edfd0308ff616721303132333435363701746865207365637265742c2068617368",
        ),
        (
            Message::GetReply {
                view: VIEW,
                op: 8,
                sent_at: NOW,
                copy: Some(dead()),
            },
            "0b03edfd030880d095ffbc3101ff61672130313233343536370280d095ffbc31",
        ),
        (
            Message::Update(Update {
                view: VIEW,
                op: 8,
                key: key(),
                retry: true,
                sent_at: NOW,
                expect: Some(("n".into(), Some(STAMP))),
                fragment: fragment().into(),
                rotation: changes.rotation(),
                order: Operation::Delete,
            }),
            "0c03edfd0308ff61672130313233343536370180d095ffbc3101016e01808080c0d6fcf3c501\
             effdb6f50d010f73657373696f6e5f636f756e746572808080c0d6fcf3c501effdb6f50d0108\
             4a313233343536370080d095ffbc31808080c0d6fcf3c5010001808080c0d6fcf3c501effdb6\
             f50d01746865207365637265742c2068617368746865207365637265742c206861736801011f\
             a5f9f597810662447dab4f9d505375ac020002",
        ),
        (
            Message::Updated {
                op: 8,
                sent_at: NOW,
                verdict: UpdateStatus::Conflict,
                copy: None,
            },
            "0d0880d095ffbc310100",
        ),
        (
            Message::Updated {
                op: 8,
                sent_at: NOW,
                verdict: UpdateStatus::Full,
                copy: None,
            },
            "0d0880d095ffbc310500",
        ),
        (Message::Leave, "0e"),
        (Message::Busy { op: 8 }, "0f08"),
        (
            Message::Propose(Proposal {
                view: VIEW,
                op: 8,
                key: key(),
                floor: STAMP,
                content: u64::MAX,
            }),
            "1003edfd0308ff6167213031323334353637808080c0d6fcf3c501effdb6f50dffffffffffffffffff\
             01",
        ),
        (
            Message::Vote {
                view: VIEW,
                op: 8,
                key: key(),
                agrees: true,
            },
            "1103edfd0308ff616721303132333435363701",
        ),
        (Message::Listen { wanted: true }, "1201"),
        (
            happened(),
            "1380d095ffbc3105ff6167213031323334353637010707070707070707070707070707070780d095\
             ffbc3103",
        ),
        (
            Message::Write(Write {
                seq: 5,
                behind: 0,
                view: VIEW,
                strict: false,
                sent_at: NOW,
                copies: [copy(Entry::Delta(Delta::of_floor(STAMP, &record()).into()))].into(),
            }),
            "02050003edfd030080d095ffbc3101ff616721303132333435363701010100808080c0d6fcf3c501\
             effdb6f50d000080d095ffbc31808080c0d6fcf3c5010000",
        ),
    ];
    for (message, bytes) in golden {
        assert_eq!(hex(&body(&message)), bytes, "{message:?}");
    }
}

#[test]
fn the_format_of_introductions_stands_still() {
    let node = Node {
        address: ([127, 0, 0, 1], 4000).into(),
        generation: 1_700_000_000_000,
        name: "node1".into(),
    };
    let mut bytes = Vec::new();
    Hello::new("shop", node.clone(), 77, Copies::All).encode(&mut bytes);
    assert_eq!(
        hex(&bytes),
        "000000246473657373696f6e02020473686f70007f000001a01f80d095ffbc31056e6f646531\
             4d00"
    );

    let replies = [
        (
            HelloReply::Welcome {
                proto: 2,
                node: node.clone(),
                seen: 12,
            },
            "000000160002007f000001a01f80d095ffbc31056e6f6465310c",
        ),
        (HelloReply::refused(Refusal::Protocol), "000000020100"),
        (HelloReply::refused(Refusal::Busy), "000000020104"),
        (HelloReply::refused(Refusal::Full), "000000020107"),
        (HelloReply::refused(Refusal::Secret), "000000020108"),
        (
            HelloReply::Refused {
                refusal: Refusal::Name,
                details: RefusalDetails {
                    seen: 12,
                    rival: Some(Rival {
                        node: node.clone(),
                        serves: true,
                    }),
                },
            },
            "000000180103 0c 01 007f000001a01f80d095ffbc31056e6f646531 01",
        ),
    ];
    for (reply, golden) in replies {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        assert_eq!(hex(&bytes), golden.replace(' ', ""), "{reply:?}");
        assert_eq!(HelloReply::decode(&bytes[4..]), Ok(reply));
    }
}

/// Bytes of a future version: new fields at the end, and new kinds of everything.
#[test]
fn what_the_next_version_adds_is_skipped() {
    let lines = include_str!("golden/next_version.txt").lines();
    let golden: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(what, hex)| (what, unhex(hex)))
        .collect();
    let [(_, introduction), (_, reply), segments @ .., (_, credit)] = &golden[..] else {
        panic!("{golden:?}");
    };

    let hello = Hello::decode(introduction).unwrap();
    assert_eq!(hello.common_protocol(), Some(2));
    assert!(hello.is_later());
    let reply = HelloReply::decode(reply);
    assert!(matches!(reply, Ok(HelloReply::Welcome { proto: 2, .. })));

    let stream: Vec<u8> = segments
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    let mut inbox = Inbox::new(Default::default(), hello.is_later());
    let mut arrived = Vec::new();
    let understood = inbox.advance(&mut stream[..].into(), &mut arrived);
    assert_eq!(understood, Ok(()));
    assert!(matches!(
        &arrived
            .iter()
            .map(|arrival| &arrival.message)
            .collect::<Vec<_>>()[..],
        [
            Message::View(View { number: 9, .. }),
            Message::Write(Write { seq: 5, .. }),
            Message::Updated { op: 8, .. },
            Message::Leave
        ]
    ));
    let len = |from: &str| {
        let of = |(what, _): &&(&str, _)| what.contains(from);
        let bytes: usize = segments
            .iter()
            .filter(of)
            .map(|(_, bytes)| bytes.len())
            .sum();
        bytes as u64
    };
    // Skipped segments are credited like any other ones.
    let credited = Credit {
        small: len("write") + len("verdict"),
        large: len("large") + len("rest"),
    };
    assert_eq!(inbox.credit(), credited);

    let (segment, _) = Segment::next(credit).unwrap().unwrap();
    let credit = Credit::decode(segment.content);
    let (small, large) = (300, 70_000);
    assert_eq!(credit, Ok(Credit { small, large }));
}

/// The same bytes are invalid from a node that supports no later version.
#[test]
fn new_kinds_from_a_node_of_this_version_end_the_link() {
    for (what, hex) in include_str!("golden/next_version.txt")
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(what, _)| what.contains("new kind") && !what.contains("large"))
    {
        let mut inbox = Inbox::new(Default::default(), false);
        let refused = inbox.advance(&mut unhex(hex)[..].into(), &mut Vec::new());
        assert_eq!(refused, Err(WireError::UnknownKind), "{what}");
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SECRET: SecretHash = SecretHash::from_bytes(*b"the secret, hash");
const STAMP: Version = Version {
    clock: 1_700_000_000_000 << 16,
    writer: 0xdead_beef,
};
fn key() -> Root {
    Root::from_bytes(*b"\xffag!01234567")
}

/// One attribute of eight bytes.
fn fragment() -> Delta {
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

fn credential(details: Details) -> Credential {
    Credential::from_parts(SECRET, Timestamp::NEVER, details)
}

fn record() -> Record {
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
    let entries = [fragment().entries, vec![removed]].concat();
    Record::from_parts(
        credential(Details::default()),
        lifetime,
        entries,
        vec![STAMP],
    )
    .unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
