//! Tests of both ends of a link without a network: for any order of events, and any division of the
//! stream, the messages that were put in come out.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{KeyedEntry, Message, ViewId, Write};
use crate::cluster::wire::{ProtocolVersion, Segment, SegmentKind, WireError, encode};
use crate::session::{AttributeEntry, Root, Timestamp, Value, Version};

use super::inbox::{Arrival, Inbox};
use super::lanes::{CHUNK, LARGE_WINDOW, Lanes};
use super::receive_budget::{BudgetClaim, ReceiveBudget};

/// An event on a link.
#[derive(Clone, Debug)]
enum LinkEvent {
    PutControl(usize),
    PutSmall(usize),
    PutLarge(usize),
    /// The sender takes a turn.
    Take,
    /// This many bytes arrive.
    Arrive(usize),
    /// The receiver's credit arrives.
    Credit,
    /// Time passes, in milliseconds.
    Pass(u64),
}

fn event() -> impl Strategy<Value = LinkEvent> {
    prop_oneof![
        (0..2_000_usize).prop_map(LinkEvent::PutControl),
        (0..20_000_usize).prop_map(LinkEvent::PutSmall),
        (0..2_000_000_usize).prop_map(LinkEvent::PutLarge),
        Just(LinkEvent::Take),
        Just(LinkEvent::Take),
        (0..100_usize).prop_map(LinkEvent::Arrive),
        (0..200_000_usize).prop_map(LinkEvent::Arrive),
        Just(LinkEvent::Credit),
        (0..1_000_u64).prop_map(LinkEvent::Pass),
    ]
}

/// A message of the data lane with about this many bytes.
pub(super) fn data(seq: u64, len: usize) -> Message {
    let register = AttributeEntry {
        name: "name".into(),
        version: Version::default(),
        value: Some(Value::from_bytes(vec![seq as u8; len])),
    };
    let delta = Delta {
        entries: vec![register],
        idle_timeout: None,
        accessed_at: Timestamp::default(),
        access: 0,
        credential: None,
        updates: Vec::new(),
    };
    let copy = KeyedEntry {
        key: Root::from_bytes([7; 12]),
        entry: Entry::Delta(Arc::new(delta)),
    };
    Message::Write(Write {
        seq,
        behind: 0,
        view: ViewId::default(),
        strict: false,
        sent_at: Timestamp::default(),
        entries: Arc::new([copy]),
    })
}

/// A link, and the messages expected from it.
struct LinkLab {
    now: Timestamp,
    lanes: Lanes,
    /// Taken by the sender, and not arrived.
    wire: Vec<u8>,
    buffer: BytesMut,
    inbox: Inbox,
    arrived: Vec<Arrival>,
    put: [Vec<Message>; 3],
    sizes_put: usize,
    sizes_confirmed: usize,
}

impl LinkLab {
    fn new(budget: &Arc<ReceiveBudget>) -> Self {
        Self {
            now: Timestamp::default(),
            lanes: Lanes::default(),
            wire: Vec::new(),
            buffer: BytesMut::new(),
            inbox: Inbox::new(budget.clone(), false),
            arrived: Vec::new(),
            put: Default::default(),
            sizes_put: 0,
            sizes_confirmed: 0,
        }
    }

    fn put(&mut self, lane: usize, message: Message) {
        let mut content = Vec::new();
        encode(&message, ProtocolVersion::V2, &mut content).unwrap();
        let (now, content, size) = (self.now, Bytes::from(content), message.size());
        match lane {
            0 => self.lanes.put_control(now, content, false),
            1 => self.lanes.put_small(now, content, size),
            _ => self.lanes.put_large(now, content, size),
        }
        if lane > 0 {
            self.sizes_put += size;
        }
        self.put[lane].push(message);
    }

    /// Returns the number of chunks that were taken.
    fn take(&mut self) -> usize {
        let mut out = Vec::new();
        self.lanes.take(self.now, ProtocolVersion::V2, &mut out);
        let mut chunks = 0;
        let mut rest = &out[..];
        while let Some((segment, more)) = Segment::next(rest).unwrap() {
            let is_chunk = matches!(
                segment.kind,
                SegmentKind::FirstChunk | SegmentKind::NextChunk
            );
            assert!(chunks == 0, "a chunk is the last of its turn");
            chunks += usize::from(is_chunk);
            rest = more;
        }
        self.wire.extend_from_slice(&out);
        chunks
    }

    fn arrive(&mut self, bytes: usize) -> Result<(), WireError> {
        let bytes = bytes.min(self.wire.len());
        self.buffer.extend_from_slice(&self.wire[..bytes]);
        self.wire.drain(..bytes);
        self.inbox.advance(&mut self.buffer, &mut self.arrived)
    }

    fn credit(&mut self) {
        let credit = self.inbox.take_credit();
        let confirmed = self
            .lanes
            .confirm(self.now, credit)
            .expect("an honest credit");
        self.sizes_confirmed += confirmed.small + confirmed.large;
        assert!(!self.inbox.is_owing());
    }

    fn happen(&mut self, event: &LinkEvent) {
        match *event {
            LinkEvent::PutControl(len) => self.put(0, Message::Swim(vec![1; len])),
            LinkEvent::PutSmall(len) => self.put(1, data(self.put[1].len() as u64, len)),
            LinkEvent::PutLarge(len) => self.put(2, data(1 << 32 | self.put[2].len() as u64, len)),
            LinkEvent::Take => {
                self.take();
            }
            LinkEvent::Arrive(bytes) => self.arrive(bytes).unwrap(),
            LinkEvent::Credit => self.credit(),
            LinkEvent::Pass(ms) => self.now = self.now.plus(Duration::from_millis(ms)),
        }
    }

    /// Continues until nothing moves any more.
    fn run_until_quiet(&mut self) {
        loop {
            self.take();
            let is_quiet = self.wire.is_empty() && !self.inbox.is_owing();
            self.arrive(usize::MAX).unwrap();
            self.credit();
            if is_quiet {
                return;
            }
        }
    }

    fn arrived(&self, lane: usize) -> Vec<&Message> {
        let lane_of = |message: &Message| match message {
            Message::Write(write) if write.seq >= 1 << 32 => 2,
            Message::Write(_) => 1,
            _ => 0,
        };
        let messages = self.arrived.iter().map(|arrival| &arrival.message);
        messages
            .filter(|message| lane_of(message) == lane)
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_put_in_comes_out_whatever_the_order_of_events(events in vec(event(), 1..60)) {
        let mut lab = LinkLab::new(&Arc::default());
        for event in &events {
            lab.happen(event);
            prop_assert!(lab.lanes.unconfirmed_large() <= LARGE_WINDOW);
        }
        lab.run_until_quiet();
        for lane in 0..3 {
            let put: Vec<_> = lab.put[lane].iter().collect();
            prop_assert_eq!(lab.arrived(lane), put);
        }
        prop_assert_eq!(lab.sizes_confirmed, lab.sizes_put);
        prop_assert!(lab.lanes.is_delivered());
    }

    #[test]
    fn small_messages_pass_a_large_one_that_is_not_admitted(events in vec(event(), 1..60)) {
        let budget = Arc::new(ReceiveBudget::new(1));
        let others: BudgetClaim = budget.request(1);
        let mut lab = LinkLab::new(&budget);
        for event in &events {
            lab.happen(event);
            prop_assert!(lab.inbox.assembled() <= 2 * (CHUNK + LARGE_WINDOW as usize));
        }
        lab.run_until_quiet();
        for lane in 0..2 {
            let put: Vec<_> = lab.put[lane].iter().collect();
            prop_assert_eq!(lab.arrived(lane), put);
        }
        drop(others);
        lab.run_until_quiet();
        let put: Vec<_> = lab.put[2].iter().collect();
        prop_assert_eq!(lab.arrived(2), put);
        prop_assert!(lab.lanes.is_delivered());
    }
}

#[test]
fn the_age_of_a_large_message_is_that_of_its_last_chunk() {
    let mut lab = LinkLab::new(&Arc::default());
    lab.put(2, data(1 << 32, 3 * CHUNK));
    for _ in 0..4 {
        lab.now = lab.now.plus(Duration::from_millis(100));
        assert_eq!(lab.take(), 1);
    }
    lab.arrive(usize::MAX).unwrap();
    let ages: Vec<_> = lab.arrived.iter().map(|arrival| arrival.age).collect();
    assert_eq!(ages, [Duration::from_millis(400)]);
}

#[test]
fn a_message_that_waits_for_room_is_credited_with_its_first_chunk_only() {
    let budget = Arc::new(ReceiveBudget::new(1));
    let others = budget.request(1);
    let mut lab = LinkLab::new(&budget);
    lab.put(2, data(1 << 32, 2_000_000));
    lab.run_until_quiet();
    let first = lab.inbox.credit().large;
    assert!((1..CHUNK as u64 + 100).contains(&first), "{first}");
    assert!(lab.inbox.is_waiting());
    // The sender has used up its window, and waits.
    assert_eq!(lab.take(), 0);
    drop(others);
    assert!(lab.inbox.is_pressed());
    lab.run_until_quiet();
    assert_eq!(lab.arrived(2).len(), 1);
}

#[test]
fn a_sender_that_does_not_wait_for_room_is_refused() {
    let budget = Arc::new(ReceiveBudget::new(1));
    let _others = budget.request(1);
    let mut lab = LinkLab::new(&budget);
    lab.put(2, data(1 << 32, 2_000_000));
    let refused = loop {
        if lab.take() == 0 {
            // It counts unconfirmed bytes as confirmed.
            lab.lanes.pretend_confirmed();
        }
        if let Err(error) = lab.arrive(usize::MAX) {
            break error;
        }
    };
    assert_eq!(refused, WireError::BeyondWindow);
}

#[test]
fn a_second_large_message_before_the_end_of_the_first_is_refused() {
    let mut lab = LinkLab::new(&Arc::default());
    let chunk = |kind, content: &[u8]| {
        let mut out = Vec::new();
        Segment::encode_parts(kind, Duration::ZERO, [content, &[]], &mut out);
        out
    };
    lab.wire = chunk(SegmentKind::FirstChunk, &[0, 0, 0, 9, 1]);
    assert_eq!(lab.arrive(usize::MAX), Ok(()));
    lab.wire = chunk(SegmentKind::FirstChunk, &[0, 0, 0, 9, 1]);
    assert_eq!(lab.arrive(usize::MAX), Err(WireError::StrayChunk));
}
