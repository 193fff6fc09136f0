//! Tests of links.

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{KeyedEntry, ViewId, Write};
use crate::session::{AttributeEntry, Root, Timestamp, Value, Version};

use super::*;

fn node(number: u16) -> Node {
    Node {
        address: ([127, 0, 0, 1], 4000 + number).into(),
        incarnation: 1,
        name: format!("node{number}").into(),
    }
}

fn link(rules: LinkRules) -> SimLink {
    SimLink::new(1, node(1), node(2), rules, 0)
}

fn data(bytes: usize) -> Message {
    let register = AttributeEntry {
        name: "value".into(),
        value: Some(Value::from_bytes(vec![0; bytes])),
        version: Version::default(),
    };
    let delta = Delta {
        entries: vec![register],
        idle_timeout: None,
        accessed_at: Timestamp::default(),
        access: 0,
        credential: None,
        updates: Vec::new(),
    };
    Message::Write(Write {
        seq: 0,
        behind: 0,
        view: ViewId::default(),
        strict: false,
        sent_at: Timestamp::default(),
        entries: [KeyedEntry {
            key: Root::from_bytes([0; 12]),
            entry: Entry::Delta(delta.into()),
        }]
        .into(),
    })
}

fn whole(message: Message) -> Piece {
    WaitingMessage { message, put_at: 0 }.whole(0)
}

/// Removes everything that the link sends now: `c`ontrol, `s`mall, `f`irst chunk, chun`k`.
fn sent(link: &mut SimLink, rate: Option<u64>) -> String {
    let mut all = String::new();
    while let NextPiece::Piece(piece) = link.next(0) {
        all.push(match &piece {
            piece if piece.is_control() => 'c',
            Piece::Whole { .. } => 's',
            Piece::Chunk { first: true, .. } => 'f',
            Piece::Chunk { .. } => 'k',
        });
        link.transmit(0, rate, 0, piece);
    }
    all
}

#[test]
fn control_goes_first_and_small_data_goes_between_chunks() {
    let mut link = link(LinkRules::ALL);
    for message in [data(200_000), data(40_000), data(40_000), Message::Leave] {
        link.put(0, message);
    }
    assert_eq!(sent(&mut link, None), "csfs");
    link.put(0, data(40_000));
    link.put(0, data(40_000));
    link.admit();
    assert_eq!(sent(&mut link, None), "ksksk");
}

#[test]
fn without_lanes_everything_waits_for_the_first() {
    let mut link = link(LinkRules {
        lanes: false,
        ..LinkRules::ALL
    });
    for message in [data(200_000), data(100), Message::Leave] {
        link.put(0, message);
    }
    assert_eq!(sent(&mut link, None), "f");
    link.admit();
    assert_eq!(sent(&mut link, None), "kkksc");
}

#[test]
fn a_full_socket_buffer_takes_nothing() {
    let mut link = link(LinkRules::ALL);
    for _ in 0..20 {
        link.put(0, data(60_000));
    }
    assert_eq!(sent(&mut link, Some(1_000_000)), "sssss");
    link.put(0, Message::Leave);
    let NextPiece::FullUntil(at) = link.next(0) else {
        panic!("the buffer is full");
    };
    let NextPiece::Piece(piece) = link.next(at) else {
        panic!("the buffer is half empty at {at}");
    };
    assert!(piece.is_control());
}

#[test]
fn control_may_overtake_data_and_nothing_else_overtakes() {
    let mut link = link(LinkRules::ALL);
    let late = link.transmit(0, None, 1_000, whole(data(100)));
    let early = link.transmit(0, None, 10, whole(Message::Leave));
    assert!(early < late);
    let next = link.transmit(0, None, 10, whole(data(100)));
    assert!(next >= late);
    let control = link.transmit(0, None, 500, whole(Message::Leave));
    let data = link.transmit(0, None, 10, whole(data(100)));
    assert!(data >= control);
}

#[test]
fn a_message_carries_the_time_that_it_has_waited_when_its_last_byte_leaves() {
    let mut link = link(LinkRules::ALL);
    link.put(5, data(100_000));
    let mut ages = Vec::new();
    for now in [7, 25] {
        let NextPiece::Piece(Piece::Chunk { age, .. }) = link.next(now) else {
            panic!("there is a chunk");
        };
        ages.push(age);
        link.admit();
    }
    link.put(30, data(100));
    let NextPiece::Piece(Piece::Whole { age, .. }) = link.next(31) else {
        panic!("there is a small message");
    };
    ages.push(age);
    assert_eq!(ages, [2, 20, 1]);
}
