//! Tests of flow control: the windows of bytes in flight, and what waits for room.

use super::*;
use crate::cluster::replica::flow::{Deferred, Flow};

const PEER: usize = 0;

fn at(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}

/// A write of about this many bytes.
fn write(seq: u64, bytes: usize) -> Message {
    let mut record = record("a", 1);
    record.merge_write(&AttributeEntry {
        name: Name::from("big"),
        version: Version {
            clock: 2,
            writer: 1,
        },
        value: Some(Value::from_bytes(vec![b'1'; bytes])),
    });
    Message::Write(message::Write {
        seq,
        behind: 0,
        view: UNKNOWN,
        strict: false,
        sent_at: START,
        entries: [KeyedEntry {
            key: key(1),
            entry: Entry::Live(Arc::new(record)),
        }]
        .into(),
    })
}

fn get(op: OpId) -> Message {
    Message::Get {
        view: UNKNOWN,
        op,
        key: key(1),
        secret: None,
    }
}

/// Sends small writes until one waits. Returns the bytes in flight.
fn fill(flow: &mut Flow) -> usize {
    let mut bytes = 0;
    for seq in 1..1_000 {
        flow.push(PEER, write(seq, 50_000));
        match flow.next(START, PEER) {
            Some(message) => bytes += message.size(),
            None => return bytes,
        }
    }
    panic!("the window has no end")
}

/// Deadlines are sent as remaining time. If that counted from when the message was queued, a
/// session would live longer at the receiver.
#[test]
fn the_times_in_a_message_count_from_when_it_is_sent() {
    let mut flow = Flow::new(true);
    for seq in [1, 2] {
        flow.push(PEER, write(seq, 100_000));
    }
    let first = flow.next(START, PEER).unwrap();
    assert_eq!(flow.next(START, PEER), None);
    assert_eq!(flow.writes_under_way(PEER), [1, 2].into());
    flow.delivered(at(50), PEER, first.size(), true);
    let Some(Message::Write(second)) = flow.next(at(100), PEER) else {
        panic!("it has room")
    };
    assert_eq!((second.seq, second.sent_at), (2, at(100)));
}

#[test]
fn of_the_accesses_of_a_session_only_the_latest_waits() {
    let mut flow = Flow::new(true);
    let bytes = fill(&mut flow);
    for (millis, access) in [(10, 1), (30, 3), (20, 2)] {
        let touch = Message::Touch {
            sent_at: at(millis),
            key: key(1),
            accessed_at: at(millis),
            access,
        };
        flow.push(PEER, touch);
    }
    assert_eq!(flow.next(at(40), PEER), None);
    flow.delivered(at(50), PEER, bytes, false);
    let sent: Vec<_> = std::iter::from_fn(|| flow.next(at(60), PEER)).collect();
    let [Message::Write(_), Message::Touch { access: 3, .. }] = &sent[..] else {
        panic!("{sent:?}")
    };
}

/// New requests would otherwise take the room for which the earlier ones wait.
#[test]
fn a_request_waits_behind_those_that_wait() {
    let mut flow = Flow::new(true);
    let bytes = fill(&mut flow);
    let is_waiting = |deferred| matches!(deferred, Deferred::Waits);
    assert!(is_waiting(flow.defer(PEER, get(1), false)));
    assert_eq!(flow.question(PEER), None);
    flow.delivered(START, PEER, bytes, false);
    while flow.next(START, PEER).is_some() {}
    assert!(is_waiting(flow.defer(PEER, get(2), false)));
    let questions = [flow.question(PEER), flow.question(PEER)];
    assert_eq!(questions, [Some(get(1)), Some(get(2))]);
}

#[test]
fn a_small_response_passes_large_messages_and_no_small_ones() {
    let mut flow = Flow::new(true);
    for seq in [1, 2] {
        flow.push(PEER, write(seq, 100_000));
    }
    assert!(flow.next(START, PEER).is_some());
    let large = flow.defer(PEER, get(1), false);
    assert!(matches!(large, Deferred::Waits));
    let small = flow.defer(PEER, get(2), true);
    assert!(matches!(small, Deferred::AnswerNow(_)));
    fill(&mut flow);
    let small = flow.defer(PEER, get(3), true);
    assert!(matches!(small, Deferred::Waits));
}

/// One reply may always wait: a session larger than the limit could otherwise never be returned.
#[test]
fn the_bytes_of_replies_that_wait_are_limited() {
    let mut flow = Flow::new(true);
    assert!(flow.admits_reply(PEER, 1 << 30));
    for seq in [1, 2] {
        flow.push(PEER, write(seq, 100_000));
    }
    assert!(flow.admits_reply(PEER, 1 << 20));
    assert!(!flow.admits_reply(PEER, 16 << 20));
}

/// A peer to which more and more is sent would otherwise never count as stalled.
#[test]
fn only_a_delivery_restarts_the_stall_timer() {
    let mut flow = Flow::new(true);
    for (seq, millis) in [(1, 0), (2, 9_000)] {
        flow.push(PEER, write(seq, 100));
        assert!(flow.next(at(millis), PEER).is_some());
    }
    assert!(!flow.is_stalled(at(9_900), PEER));
    assert!(flow.is_stalled(at(10_000), PEER));
    let bytes = write(1, 100).size();
    flow.delivered(at(10_000), PEER, bytes, false);
    assert!(!flow.is_stalled(at(19_900), PEER));
    flow.delivered(at(19_900), PEER, bytes, false);
    assert!(!flow.is_stalled(at(60_000), PEER), "nothing is in flight");
}

/// A caller that waits for a large session waits on while it arrives.
#[test]
fn a_peer_counts_as_moving_while_a_large_message_arrives() {
    let mut flow = Flow::new(true);
    assert!(!flow.is_moving(START, PEER));
    flow.arriving(START, PEER);
    assert!(flow.is_moving(at(1_900), PEER));
    assert!(!flow.is_moving(at(2_000), PEER));
}

/// No delivery is reported of what the former link has lost.
#[test]
fn bytes_lost_with_a_link_do_not_fill_the_window() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.held.clear();
    lab.hold = |_| false;
    lab.relink(0, 1);
    assert_eq!(lab.reply(1), Some(Reply::Written));
    lab.run(Duration::from_secs(12));
    let is_stalled = |(_, notification): &(usize, Notification)| {
        matches!(notification, Notification::Stalled(_))
    };
    assert!(!lab.reports.iter().any(is_stalled));
}
