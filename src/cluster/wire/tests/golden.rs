//! Bytes of the format, which never change.

use super::*;

/// Bytes sent by the first version with protocol 2. They never change.
#[test]
fn the_format_of_protocol_2_stands_still() {
    let golden = [
        membership_and_events(),
        writes(),
        acknowledgements(),
        repair(),
        calls(),
        lists(),
    ]
    .concat();
    assert_eq!(golden.len(), 29);
    for (message, bytes) in golden {
        assert_eq!(hex(&body(&message)), bytes, "{message:?}");
    }
}

type Golden = Vec<(Message, &'static str)>;

fn membership_and_events() -> Golden {
    let node = |port, name: &str| Node {
        address: ([127, 0, 0, 1], port).into(),
        incarnation: 1_700_000_000_000,
        name: name.into(),
    };
    let six = Node {
        address: (std::net::Ipv6Addr::LOCALHOST, 4002).into(),
        incarnation: 3,
        name: "c".into(),
    };
    vec![
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
                loss_window: Duration::from_millis(1_500),
                kinds: None,
            }),
            "01090103edfd0302007f000001a01f80d095ffbc31056e6f6465310100000000000000000000\
             000000000001a21f03016301007f000001a11f80d095ffbc31056e6f6465320100010180cab5\
             ee01",
        ),
        (Message::Leave, "0e"),
        (view(Some(24)), "01090103edfd0300000100010180cab5ee0118"),
        (
            Message::Listen {
                wanted: true,
                after: None,
            },
            "1201",
        ),
        (
            happened(),
            "1380d095ffbc3105ff6167213031323334353637010707070707070707070707070707070780d095\
             ffbc3103",
        ),
        (
            Message::Listen {
                wanted: true,
                after: Some(Cursor { log: 9, seq: 5 }),
            },
            "12010905",
        ),
        (
            traced(),
            "1380d095ffbc3105ff6167213031323334353637010707070707070707070707070707070780d095\
             ffbc310309050104",
        ),
        (Message::Listens(Cursor { log: 9, seq: 5 }), "140905"),
        (reason(), "15ff616721303132333435363703"),
    ]
}

fn writes() -> Golden {
    vec![(
        Message::Write(Write {
            seq: 5,
            behind: 4,
            view: VIEW,
            strict: true,
            sent_at: NOW,
            entries: [live(), changes(), rotated(), dead()].into(),
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
    )]
}

fn acknowledgements() -> Golden {
    vec![
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
            Message::Vote(Vote {
                view: VIEW,
                op: 8,
                key: key(),
                agrees: true,
            }),
            "1103edfd0308ff616721303132333435363701",
        ),
        (
            Message::Write(Write {
                seq: 5,
                behind: 0,
                view: VIEW,
                strict: false,
                sent_at: NOW,
                entries: [entry(Entry::Delta(
                    Delta::of_floor(STAMP, &record()).into(),
                ))]
                .into(),
            }),
            "02050003edfd030080d095ffbc3101ff616721303132333435363701010100808080c0d6fcf3c501\
             effdb6f50d000080d095ffbc31808080c0d6fcf3c5010000",
        ),
    ]
}

fn repair() -> Golden {
    vec![
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
            Message::SlotEntries(SlotEntries {
                view: VIEW,
                round: 2,
                slot: 7,
                sent_at: NOW,
                entries: vec![dead()],
                more: true,
            }),
            "0903edfd03020780d095ffbc3101ff61672130313233343536370280d095ffbc3101",
        ),
    ]
}

fn calls() -> Golden {
    let mut changes = Changes::default();
    changes.rotate(SECRET, SECRET);
    changes.log_in(Login {
        user: Some(UserKey::of("ada")),
        absolute_timeout: Duration::from_secs(300),
    });
    vec![
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
            Message::GetReply(GetReply {
                view: VIEW,
                op: 8,
                sent_at: NOW,
                entry: Some(dead()),
            }),
            "0b03edfd030880d095ffbc3101ff61672130313233343536370280d095ffbc31",
        ),
        (
            Message::Update(UpdateRequest {
                view: VIEW,
                op: 8,
                key: key(),
                retry: true,
                sent_at: NOW,
                expect: Some(("n".into(), Some(STAMP))),
                delta: delta().into(),
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
            Message::Updated(UpdateResponse {
                op: 8,
                sent_at: NOW,
                verdict: UpdateStatus::Conflict,
                entry: None,
            }),
            "0d0880d095ffbc310100",
        ),
        (
            Message::Updated(UpdateResponse {
                op: 8,
                sent_at: NOW,
                verdict: UpdateStatus::Full,
                entry: None,
            }),
            "0d0880d095ffbc310500",
        ),
        (Message::Busy { op: 8 }, "0f08"),
    ]
}

fn lists() -> Golden {
    vec![
        (
            Message::ListSlots(ListRequest {
                view: VIEW,
                op: 8,
                after: Some(key()),
                limit: 500,
            }),
            "1603edfd030801ff6167213031323334353637f403",
        ),
        (
            page(vec![listed()]),
            "1703edfd030880d095ffbc3101ff6167213031323334353637010707070707070707070707070707070780d095ffbc3180d095ffbc3180d095ffbc31ffffffffffffffffff0101ff6167213031323334353637",
        ),
    ]
}

fn entry(entry: Entry) -> KeyedEntry {
    KeyedEntry { key: key(), entry }
}

fn live() -> KeyedEntry {
    entry(Entry::Live(record().into()))
}

fn changes() -> KeyedEntry {
    entry(Entry::Delta(delta().into()))
}

fn dead() -> KeyedEntry {
    entry(Entry::Tombstone { until: NOW })
}

fn rotated() -> KeyedEntry {
    let credential = credential(Details {
        version: STAMP,
        rotated_at: Some(NOW),
        user: Some(UserKey::of("ada")),
        began_at: Some(NOW),
        history: vec![Version::default()],
    });
    entry(Entry::Delta(
        Delta {
            credential: Some(credential),
            ..delta()
        }
        .into(),
    ))
}

#[test]
fn the_format_of_handshakes_stands_still() {
    let node = Node {
        address: ([127, 0, 0, 1], 4000).into(),
        incarnation: 1_700_000_000_000,
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
        (HelloReply::refused(RefusalReason::Protocol), "000000020100"),
        (HelloReply::refused(RefusalReason::Busy), "000000020104"),
        (HelloReply::refused(RefusalReason::Full), "000000020107"),
        (HelloReply::refused(RefusalReason::Secret), "000000020108"),
        (
            HelloReply::Refused {
                refusal: RefusalReason::Name,
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
