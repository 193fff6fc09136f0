use crate::cluster::replica::message::ViewId;
use crate::cluster::wire::{Segment, SegmentKind, decode};

use super::*;

fn node(generation: u64) -> Node {
    Node {
        address: ([127, 0, 0, 1], 4000).into(),
        generation,
        name: "node1".into(),
    }
}

fn outbox() -> SendQueue {
    let outbox = SendQueue::new(node(1).address);
    outbox.open(&node(1), Protocol::V2);
    outbox
}

fn put(outbox: &SendQueue, generation: u64, message: &Message) {
    let mut encoder = Encoder::default();
    let to = node(generation);
    outbox.put(&to, message, &mut encoder).unwrap();
}

fn taken(outbox: &SendQueue) -> Result<Vec<Message>, Closed> {
    let mut bytes = Vec::new();
    outbox.take(clock::now(), &mut bytes)?;
    let mut messages = Vec::new();
    let mut rest = &bytes[..];
    while let Some((segment, more)) = Segment::next(rest).unwrap() {
        messages.push(decode(segment.content).unwrap());
        rest = more;
    }
    Ok(messages)
}

fn swim(byte: u8, len: usize) -> Message {
    Message::Swim(vec![byte; len])
}

fn pull(slot: u16) -> Message {
    Message::PullSlot {
        view: view(1),
        round: 1,
        slot,
        after: None,
        known: Vec::new(),
    }
}

fn view(members: u64) -> ViewId {
    ViewId { epoch: 1, members }
}

fn ack(members: u64, seqs: &[u64]) -> Message {
    let (view, seqs) = (view(members), seqs.to_vec());
    Message::Ack { view, seqs }
}

#[test]
fn what_gathers_is_taken_at_once_and_control_first() {
    let outbox = outbox();
    for message in [pull(1), swim(1, 1), pull(2), swim(2, 1)] {
        put(&outbox, 1, &message);
    }
    let all = vec![swim(1, 1), swim(2, 1), pull(1), pull(2)];
    assert_eq!(taken(&outbox), Ok(all));
    assert_eq!(taken(&outbox), Ok(vec![]));
}

#[test]
fn acknowledgements_of_one_view_become_one() {
    let outbox = outbox();
    for message in [ack(1, &[1]), ack(1, &[2, 3]), ack(2, &[4])] {
        put(&outbox, 1, &message);
    }
    let all = vec![ack(1, &[1, 2, 3]), ack(2, &[4])];
    assert_eq!(taken(&outbox), Ok(all));
}

#[test]
fn another_incarnation_of_the_node_gets_nothing_of_this_one() {
    let outbox = outbox();
    put(&outbox, 1, &swim(1, 1));
    put(&outbox, 2, &swim(2, 1));
    outbox.open(&node(2), Protocol::V2);
    put(&outbox, 2, &swim(3, 1));
    assert_eq!(taken(&outbox), Ok(vec![swim(3, 1)]));
}

#[test]
fn messages_before_the_link_is_up_are_kept() {
    let outbox = SendQueue::new(node(1).address);
    put(&outbox, 1, &swim(1, 1));
    outbox.open(&node(1), Protocol::V2);
    assert_eq!(taken(&outbox), Ok(vec![swim(1, 1)]));
}

#[test]
fn nothing_is_kept_for_a_link_that_is_down() {
    let outbox = outbox();
    outbox.close();
    put(&outbox, 1, &swim(1, 1));
    assert_eq!(taken(&outbox), Err(Closed));
    outbox.open(&node(1), Protocol::V2);
    assert_eq!(taken(&outbox), Ok(vec![]));
}

#[test]
fn a_box_that_would_overflow_is_emptied_and_closed() {
    let outbox = outbox();
    while outbox.is_open() {
        put(&outbox, 1, &swim(0, 1 << 19));
    }
    assert_eq!(taken(&outbox), Err(Closed));
    assert!(outbox.content().lanes.is_delivered());
}

#[test]
fn a_message_that_no_receiver_would_take_is_refused_and_disturbs_nothing() {
    let outbox = outbox();
    let refused = outbox.put(&node(1), &swim(0, SEGMENT_MAX), &mut Encoder::default());
    assert_eq!(refused, Err(WireError::MessageTooLong));
    assert_eq!(taken(&outbox), Ok(vec![]));
}

#[test]
fn a_box_is_flushed_when_its_data_is_confirmed_and_the_good_bye_has_left() {
    let outbox = outbox();
    put(&outbox, 1, &pull(1));
    put(&outbox, 1, &Message::Leave);
    let mut bytes = Vec::new();
    outbox.take(clock::now(), &mut bytes).unwrap();
    let (segment, rest) = Segment::next(&bytes).unwrap().unwrap();
    assert_eq!((segment.kind, rest), (SegmentKind::Small, &[][..]));
    assert_eq!(taken(&outbox), Ok(vec![]));
    assert!(!outbox.is_flushed());
    let small = bytes.len() as u64;
    outbox.confirm(Credit { small, large: 0 }).unwrap();
    assert!(!outbox.is_flushed());
    assert_eq!(taken(&outbox), Ok(vec![Message::Leave]));
    assert!(!outbox.is_flushed());
    assert_eq!(taken(&outbox), Ok(vec![]));
    assert!(outbox.is_flushed());
}

#[test]
fn a_box_for_an_address_that_is_only_tried_holds_up_no_leave() {
    let outbox = SendQueue::new(node(1).address);
    assert!(outbox.is_flushed());
    put(&outbox, 1, &swim(1, 1));
    assert!(!outbox.is_flushed());
    outbox.open(&node(1), Protocol::V2);
    assert_eq!(taken(&outbox), Ok(vec![swim(1, 1)]));
    assert!(!outbox.is_flushed());
    assert_eq!(taken(&outbox), Ok(vec![]));
    assert!(outbox.is_flushed());
}

#[test]
fn a_credit_that_comes_when_the_link_was_closed_is_no_fault() {
    let outbox = outbox();
    put(&outbox, 1, &pull(1));
    taken(&outbox).unwrap();
    outbox.close();
    let credit = Credit { small: 9, large: 0 };
    assert_eq!(outbox.confirm(credit), Ok(Confirmed::default()));
}
