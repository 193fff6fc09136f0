use crate::cluster::replica::message::ViewId;
use crate::cluster::wire::{Segment, SegmentKind, decode};

use super::*;

fn node(incarnation: u64) -> Node {
    Node {
        address: ([127, 0, 0, 1], 4000).into(),
        incarnation,
        name: "node1".into(),
    }
}

fn send_queue() -> SendQueue {
    let send_queue = SendQueue::new(node(1).address);
    send_queue.open(&node(1), ProtocolVersion::V2);
    send_queue
}

fn put(send_queue: &SendQueue, incarnation: u64, message: &Message) {
    let mut encoder = MessageEncoder::default();
    let to = node(incarnation);
    send_queue.put(&to, message, &mut encoder).unwrap();
}

fn taken(send_queue: &SendQueue) -> Result<Vec<Message>, Closed> {
    let mut bytes = Vec::new();
    send_queue.take(clock::now(), &mut bytes)?;
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
    let send_queue = send_queue();
    for message in [pull(1), swim(1, 1), pull(2), swim(2, 1)] {
        put(&send_queue, 1, &message);
    }
    let all = vec![swim(1, 1), swim(2, 1), pull(1), pull(2)];
    assert_eq!(taken(&send_queue), Ok(all));
    assert_eq!(taken(&send_queue), Ok(vec![]));
}

#[test]
fn acknowledgements_of_one_view_become_one() {
    let send_queue = send_queue();
    for message in [ack(1, &[1]), ack(1, &[2, 3]), ack(2, &[4])] {
        put(&send_queue, 1, &message);
    }
    let all = vec![ack(1, &[1, 2, 3]), ack(2, &[4])];
    assert_eq!(taken(&send_queue), Ok(all));
}

#[test]
fn another_incarnation_of_the_node_gets_nothing_of_this_one() {
    let send_queue = send_queue();
    put(&send_queue, 1, &swim(1, 1));
    put(&send_queue, 2, &swim(2, 1));
    send_queue.open(&node(2), ProtocolVersion::V2);
    put(&send_queue, 2, &swim(3, 1));
    assert_eq!(taken(&send_queue), Ok(vec![swim(3, 1)]));
}

#[test]
fn messages_before_the_link_is_up_are_kept() {
    let send_queue = SendQueue::new(node(1).address);
    put(&send_queue, 1, &swim(1, 1));
    send_queue.open(&node(1), ProtocolVersion::V2);
    assert_eq!(taken(&send_queue), Ok(vec![swim(1, 1)]));
}

#[test]
fn nothing_is_kept_for_a_link_that_is_down() {
    let send_queue = send_queue();
    send_queue.close();
    put(&send_queue, 1, &swim(1, 1));
    assert_eq!(taken(&send_queue), Err(Closed));
    send_queue.open(&node(1), ProtocolVersion::V2);
    assert_eq!(taken(&send_queue), Ok(vec![]));
}

#[test]
fn a_box_that_would_overflow_is_emptied_and_closed() {
    let send_queue = send_queue();
    while send_queue.is_open() {
        put(&send_queue, 1, &swim(0, 1 << 19));
    }
    assert_eq!(taken(&send_queue), Err(Closed));
    assert!(send_queue.state().lanes.is_delivered());
}

#[test]
fn a_message_that_no_receiver_would_take_is_refused_and_disturbs_nothing() {
    let send_queue = send_queue();
    let refused = send_queue.put(
        &node(1),
        &swim(0, SEGMENT_MAX),
        &mut MessageEncoder::default(),
    );
    assert_eq!(refused, Err(WireError::MessageTooLong));
    assert_eq!(taken(&send_queue), Ok(vec![]));
}

#[test]
fn a_box_is_flushed_when_its_data_is_confirmed_and_the_good_bye_has_left() {
    let send_queue = send_queue();
    put(&send_queue, 1, &pull(1));
    put(&send_queue, 1, &Message::Leave);
    let mut bytes = Vec::new();
    send_queue.take(clock::now(), &mut bytes).unwrap();
    let (segment, rest) = Segment::next(&bytes).unwrap().unwrap();
    assert_eq!((segment.kind, rest), (SegmentKind::Small, &[][..]));
    assert_eq!(taken(&send_queue), Ok(vec![]));
    assert!(!send_queue.is_flushed());
    let small = bytes.len() as u64;
    send_queue.confirm(Credit { small, large: 0 }).unwrap();
    assert!(!send_queue.is_flushed());
    assert_eq!(taken(&send_queue), Ok(vec![Message::Leave]));
    assert!(!send_queue.is_flushed());
    assert_eq!(taken(&send_queue), Ok(vec![]));
    assert!(send_queue.is_flushed());
}

#[test]
fn a_box_for_an_address_that_is_only_tried_holds_up_no_leave() {
    let send_queue = SendQueue::new(node(1).address);
    assert!(send_queue.is_flushed());
    put(&send_queue, 1, &swim(1, 1));
    assert!(!send_queue.is_flushed());
    send_queue.open(&node(1), ProtocolVersion::V2);
    assert_eq!(taken(&send_queue), Ok(vec![swim(1, 1)]));
    assert!(!send_queue.is_flushed());
    assert_eq!(taken(&send_queue), Ok(vec![]));
    assert!(send_queue.is_flushed());
}

#[test]
fn a_credit_that_comes_when_the_link_was_closed_is_no_fault() {
    let send_queue = send_queue();
    put(&send_queue, 1, &pull(1));
    taken(&send_queue).unwrap();
    send_queue.close();
    let credit = Credit { small: 9, large: 0 };
    assert_eq!(send_queue.confirm(credit), Ok(Confirmed::default()));
}
