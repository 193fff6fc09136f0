use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn content(byte: u8, len: usize) -> Bytes {
    vec![byte; len].into()
}

/// Returns the kind, the age in milliseconds and the content's length of each segment taken.
fn taken(lanes: &mut Lanes, now: Timestamp) -> Vec<(SegmentKind, u128, usize)> {
    let mut out = Vec::new();
    lanes.take(now, ProtocolVersion::V2, &mut out);
    let mut segments = Vec::new();
    let mut rest = &out[..];
    while let Some((segment, more)) = Segment::next(rest).unwrap() {
        segments.push((segment.kind, segment.age.as_millis(), segment.content.len()));
        rest = more;
    }
    assert!(rest.is_empty());
    segments
}

fn confirm_all(lanes: &mut Lanes) -> usize {
    let credit = Credit {
        small: lanes.small_sent.sent,
        large: lanes.large_sent.sent,
    };
    {
        let confirmed = lanes.confirm(NOW, credit).unwrap();
        confirmed.small + confirmed.large
    }
}

use SegmentKind::{Control, FirstChunk, NextChunk, Small};

const fn in_view(members: u64) -> ViewId {
    ViewId { epoch: 1, members }
}

#[test]
fn control_leaves_before_small_messages_and_these_before_a_chunk() {
    let mut lanes = Lanes::default();
    lanes.put_large(NOW, content(1, CHUNK + 1), 7);
    lanes.put_small(NOW, content(2, 20), 8);
    lanes.put_control(NOW, content(3, 30), false);
    let later = NOW.plus(std::time::Duration::from_millis(5));
    let first = [(Control, 5, 30), (Small, 5, 20), (FirstChunk, 5, 4 + CHUNK)];
    assert_eq!(taken(&mut lanes, later), first);
    lanes.put_control(later, content(3, 31), false);
    assert_eq!(
        taken(&mut lanes, later),
        [(Control, 0, 31), (NextChunk, 5, 1)]
    );
    assert_eq!(taken(&mut lanes, later), []);
    assert!(!lanes.is_delivered());
    assert_eq!(confirm_all(&mut lanes), 15);
    assert!(lanes.is_delivered());
}

#[test]
fn neither_small_messages_nor_chunks_starve() {
    let mut lanes = Lanes::default();
    for _ in 0..100 {
        lanes.put_small(NOW, content(1, 10_000), 1);
    }
    lanes.put_large(NOW, content(2, 10 * CHUNK), 1);
    let mut turns = 0;
    while !lanes.small.messages.is_empty() {
        let segments = taken(&mut lanes, NOW);
        let small = segments.iter().filter(|(kind, ..)| *kind == Small);
        let small: usize = small.map(|(_, _, len)| len).sum();
        assert!((1..=SMALL_TURN).contains(&small));
        let chunks = segments.len() - small / 10_000;
        assert_eq!(chunks, usize::from(turns < 10), "turn {turns}");
        turns += 1;
        confirm_all(&mut lanes);
    }
}

#[test]
fn a_small_message_that_is_longer_than_a_turn_leaves_alone() {
    let mut lanes = Lanes::default();
    lanes.put_small(NOW, content(1, SMALL_TURN + 1), 1);
    lanes.put_small(NOW, content(1, 1), 1);
    assert_eq!(taken(&mut lanes, NOW), [(Small, 0, SMALL_TURN + 1)]);
    assert_eq!(taken(&mut lanes, NOW), [(Small, 0, 1)]);
}

#[test]
fn chunks_wait_for_credit_and_nothing_else_does() {
    let mut lanes = Lanes::default();
    lanes.put_large(NOW, content(1, 4 << 20), 1);
    while !taken(&mut lanes, NOW).is_empty() {}
    let unconfirmed = lanes.large_sent.unconfirmed();
    let window = lanes.pace.window() / 2;
    assert!(unconfirmed <= window + CHUNK_MIN as u64);
    assert!(unconfirmed > window - 2 * CHUNK as u64);
    lanes.put_small(NOW, content(2, 1), 1);
    lanes.put_control(NOW, content(3, 1), false);
    assert_eq!(taken(&mut lanes, NOW), [(Control, 0, 1), (Small, 0, 1)]);
    let credit = Credit {
        small: 0,
        large: 2 * CHUNK as u64,
    };
    let confirmed = lanes.confirm(NOW, credit);
    let is_large = true;
    assert_eq!(
        confirmed,
        Some(Confirmed {
            small: 0,
            large: 0,
            is_large
        })
    );
    assert_eq!(taken(&mut lanes, NOW), [(NextChunk, 0, CHUNK)]);
}

#[test]
fn a_good_bye_follows_the_confirmation_of_all_data() {
    let mut lanes = Lanes::default();
    lanes.put_small(NOW, content(1, 10), 1);
    lanes.put_control(NOW, content(2, 1), true);
    // Membership packets with the same meaning.
    lanes.put_control(NOW, content(3, 2), false);
    assert_eq!(taken(&mut lanes, NOW), [(Small, 0, 10)]);
    assert_eq!(taken(&mut lanes, NOW), []);
    assert!(!lanes.is_delivered());
    confirm_all(&mut lanes);
    assert!(!lanes.is_delivered());
    assert_eq!(taken(&mut lanes, NOW), [(Control, 0, 1), (Control, 0, 2)]);
    assert!(lanes.is_delivered());
}

#[test]
fn a_credit_for_what_was_never_sent_is_refused() {
    let mut lanes = Lanes::default();
    lanes.put_small(NOW, content(1, 10), 1);
    taken(&mut lanes, NOW);
    let credit = |small, large| Credit { small, large };
    assert_eq!(lanes.confirm(NOW, credit(19, 0)), None);
    assert_eq!(lanes.confirm(NOW, credit(18, 1)), None);
    assert!(lanes.confirm(NOW, credit(18, 0)).is_some());
    assert_eq!(lanes.confirm(NOW, credit(17, 0)), None);
}

#[test]
fn each_lane_is_bounded_in_bytes() {
    let fill = |put: fn(&mut Lanes, Bytes)| {
        let mut lanes = Lanes::default();
        let mut bytes = 0;
        while !lanes.is_over() {
            put(&mut lanes, content(1, SEGMENT_MAX));
            bytes += SEGMENT_MAX;
        }
        bytes
    };
    let control = fill(|lanes, content| lanes.put_control(NOW, content, false));
    assert!(control <= CONTROL_MAX + SEGMENT_MAX);
    let leave = fill(|lanes, content| lanes.put_control(NOW, content, true));
    assert!(leave <= CONTROL_MAX + SEGMENT_MAX);
    let small = fill(|lanes, content| lanes.put_small(NOW, content, 1));
    assert!(small <= SMALL_MAX + SEGMENT_MAX);
    let large = fill(|lanes, content| lanes.put_large(NOW, content, 1));
    assert!(large <= LARGE_MAX + SEGMENT_MAX);
    let mut lanes = Lanes::default();
    let seqs: Vec<_> = (0..ACKS_MAX as u64).collect();
    for view in 0..100 {
        lanes.put_acks(NOW, in_view(view), &seqs, ProtocolVersion::V2);
    }
    assert!(!lanes.is_over());
    for view in 0..1_000 {
        lanes.put_acks(NOW, in_view(view), &seqs, ProtocolVersion::V2);
    }
    assert!(lanes.is_over());
}

#[test]
fn one_large_message_may_be_of_any_length() {
    let mut lanes = Lanes::default();
    lanes.put_large(NOW, content(1, LARGE_MAX + 1), 1);
    assert!(!lanes.is_over());
}
