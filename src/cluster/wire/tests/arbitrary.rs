//! Messages of every kind, with any content that a node may send.

use super::arbitrary_session::{
    clock, delta, key, name, record, rotation, secret, time, user, version,
};
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
        membership_or_event(),
        write_or_vote(),
        repair(),
        call(),
        list()
    ]
}

fn membership_or_event() -> BoxedStrategy<Message> {
    prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(Message::Swim),
        view().prop_map(Message::View),
        (any::<bool>(), option::of(cursor()))
            .prop_map(|(wanted, after)| Message::Listen { wanted, after }),
        cursor().prop_map(Message::Listens),
        (key(), reason()).prop_map(|(key, reason)| Message::Reason(Reason { key, reason })),
        happened(),
        Just(Message::Leave),
    ]
    .boxed()
}

fn write_or_vote() -> BoxedStrategy<Message> {
    prop_oneof![
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
            Message::Vote(Vote {
                view,
                op,
                key,
                agrees,
            })
        }),
    ]
    .boxed()
}

fn repair() -> BoxedStrategy<Message> {
    prop_oneof![
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
            .prop_map(|((view, round, more), slot, sent_at, entries)| {
                Message::SlotEntries(SlotEntries {
                    view,
                    round,
                    slot,
                    sent_at,
                    entries,
                    more,
                })
            }),
    ]
    .boxed()
}

fn call() -> BoxedStrategy<Message> {
    prop_oneof![
        (any::<(ViewId, u64)>(), key(), option::of(secret())).prop_map(
            |((view, op), key, secret)| Message::Get {
                view,
                op,
                key,
                secret
            }
        ),
        (any::<(ViewId, u64)>(), time(), option::of(copy())).prop_map(
            |((view, op), sent_at, entry)| Message::GetReply(GetReply {
                view,
                op,
                sent_at,
                entry
            })
        ),
        update().prop_map(Message::Update),
        (any::<u64>(), time(), verdict(), option::of(copy())).prop_map(
            |(op, sent_at, verdict, entry)| Message::Updated(UpdateResponse {
                op,
                sent_at,
                verdict,
                entry
            })
        ),
        any::<u64>().prop_map(|op| Message::Busy { op }),
    ]
    .boxed()
}

fn list() -> BoxedStrategy<Message> {
    let info = (key(), option::of(user()), (time(), time(), time(), time())).prop_map(
        |(key, user, times)| SessionInfo {
            key,
            user,
            label: None,
            created_at: times.0,
            last_accessed_at: times.1,
            expires_at: times.2,
            absolute_deadline: times.3,
        },
    );
    let part = (vec(info, 0..5), option::of(key()));
    prop_oneof![
        (any::<(ViewId, u64, u16)>(), option::of(key())).prop_map(|((view, op, limit), after)| {
            Message::ListSlots(ListRequest {
                view,
                op,
                after,
                limit,
            })
        }),
        (any::<(ViewId, u64)>(), time(), part).prop_map(
            |((view, op), sent_at, (sessions, through))| {
                Message::ListPage(ListResponse {
                    view,
                    op,
                    sent_at,
                    part: ListPart { sessions, through },
                })
            }
        ),
    ]
    .boxed()
}

fn cursor() -> impl Strategy<Value = Cursor> {
    any::<(u64, u64)>().prop_map(|(log, seq)| Cursor { log, seq })
}

fn reason() -> impl Strategy<Value = EndReason> {
    let reasons = [
        EndReason::Logout,
        EndReason::User,
        EndReason::Admin,
        EndReason::Limit,
    ];
    proptest::sample::select(reasons.to_vec())
}

fn happened() -> impl Strategy<Value = Message> {
    let traced = (cursor(), any::<bool>(), any::<u64>());
    let traced = traced.prop_map(|(place, possible_repeat, rotation)| Traced {
        place,
        possible_repeat,
        rotation,
    });
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
    let times = (time(), time());
    (kind, key(), user, times, any::<u64>(), option::of(traced)).prop_map(
        |(kind, key, user, (sent_at, at), lost, traced)| {
            Message::Happened(Happened {
                sent_at,
                kind,
                key,
                user: user.map(UserKey::from_bytes),
                at,
                lost,
                traced,
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
        option::of(any::<u32>()),
    )
        .prop_map(
            |(
                (number, ask, view, complete, ready, leaving, loss_window),
                members,
                removed,
                kinds,
            )| {
                View {
                    number,
                    ask,
                    view,
                    members,
                    removed,
                    complete,
                    ready,
                    leaving,
                    loss_window,
                    kinds,
                }
            },
        )
}

fn write() -> impl Strategy<Value = Write> {
    (any::<(u64, ViewId, bool)>(), time(), vec(copy(), 0..5)).prop_map(
        |((seq, view, strict), sent_at, entries)| Write {
            seq,
            behind: seq / 2,
            view,
            strict,
            sent_at,
            entries: entries.into(),
        },
    )
}

fn update() -> BoxedStrategy<UpdateRequest> {
    (
        any::<(ViewId, u64, bool)>(),
        key(),
        time(),
        option::of((name(), option::of(version()))),
        delta(),
        option::of(rotation()),
        order(),
    )
        .prop_map(
            |((view, op, retry), key, sent_at, expect, delta, rotation, order)| UpdateRequest {
                view,
                op,
                key,
                retry,
                sent_at,
                expect,
                delta: delta.into(),
                rotation,
                order,
            },
        )
        .boxed()
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
        .prop_map(|(address, incarnation, name)| Node {
            address,
            incarnation,
            name: name.into(),
        })
        .prop_filter("an address", |node| !node.address.ip().is_unspecified())
}

fn copy() -> BoxedStrategy<KeyedEntry> {
    let entry = prop_oneof![
        record().prop_map(|record| Entry::Live(record.into())),
        delta().prop_map(|delta| Entry::Delta(delta.into())),
        time().prop_map(|until| Entry::Tombstone { until }),
    ];
    (key(), entry)
        .prop_map(|(key, entry)| KeyedEntry { key, entry })
        .boxed()
}

fn slot() -> impl Strategy<Value = u16> {
    0..SLOTS as u16
}
