//! Bytes of later versions of the format, which this version skips or refuses.

use super::*;

/// Bytes of a future version: new fields at the end, and new kinds of everything.
#[test]
fn what_the_next_version_adds_is_skipped() {
    let lines = include_str!("../golden/next_version.txt").lines();
    let golden: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(what, hex)| (what, unhex(hex)))
        .collect();
    let [(_, hello), (_, reply), segments @ .., (_, credit)] = &golden[..] else {
        panic!("{golden:?}");
    };

    let hello = Hello::decode(hello).unwrap();
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
            Message::Updated(UpdateResponse { op: 8, .. }),
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
    for (what, hex) in include_str!("../golden/next_version.txt")
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(what, _)| what.contains("new kind") && !what.contains("large"))
    {
        let mut inbox = Inbox::new(Default::default(), false);
        let refused = inbox.advance(&mut unhex(hex)[..].into(), &mut Vec::new());
        assert_eq!(refused, Err(WireError::UnknownKind), "{what}");
    }
}
