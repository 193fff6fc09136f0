//! Fuzz tests of every decoder, for bytes from unauthenticated peers, broken links or faulty
//! members. A module of `cluster::wire`, whose private functions it calls.
//!
//! `cargo test` runs the inputs in `__fuzz__/*/corpus` and a few thousand random ones; `cargo
//! bolero test -p distributable --all-features cluster::wire::fuzz::messages` continues with a
//! fuzzing engine, and stores its findings beside the corpus.

use bolero::check;
use bytes::BytesMut;

use crate::cluster::transport::{Arrival, Inbox};

use super::*;

/// S-02.
#[test]
fn frames() {
    check!(name = "frames")
        .with_iterations(RANDOM)
        .for_each(|bytes: &[u8]| {
            let mut rest = bytes;
            while let Ok(Some((content, next))) = next_frame(rest, HANDSHAKE_MAX) {
                assert!(content.len() <= HANDSHAKE_MAX && next.len() < rest.len());
                rest = next;
            }
        });
}

/// S-02.
#[test]
fn handshakes() {
    check!(name = "handshakes")
        .with_iterations(RANDOM)
        .for_each(|bytes: &[u8]| {
            if let Ok(hello) = Hello::decode(bytes) {
                let mut again = Vec::new();
                hello.encode(&mut again);
                assert_eq!(Hello::decode(&again[HEAD..]).as_ref(), Ok(&hello));
            }
            if let Ok(reply) = HelloReply::decode(bytes) {
                let mut again = Vec::new();
                reply.encode(&mut again);
                assert_eq!(HelloReply::decode(&again[HEAD..]).as_ref(), Ok(&reply));
            }
        });
}

/// S-02.
#[test]
fn messages() {
    check!(name = "messages")
        .with_iterations(RANDOM)
        .for_each(|bytes: &[u8]| reads_back(bytes));
}

/// S-02. Segments, chunks and credits, in one piece and byte by byte.
#[test]
fn segments() {
    check!(name = "segments")
        .with_iterations(RANDOM)
        .for_each(|bytes: &[u8]| {
            if let Ok(credit) = Credit::decode(bytes) {
                let mut again = Vec::new();
                credit.encode(&mut again);
                assert_eq!(Credit::decode(&again[SEGMENT_HEAD..]), Ok(credit));
            }
            for is_later in [false, true] {
                let whole = receive(bytes, bytes.len().max(1), is_later);
                assert_eq!(whole, receive(bytes, 1, is_later));
            }
        });
}

/// Returns the result of an inbox for a stream that arrives in pieces of this length.
fn receive(bytes: &[u8], piece: usize, is_later: bool) -> (Vec<Arrival>, Result<(), WireError>) {
    let mut inbox = Inbox::new(Default::default(), is_later);
    let (mut buffer, mut arrived) = (BytesMut::new(), Vec::new());
    let mut received = 0;
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        received += piece.len();
        if let Err(error) = inbox.advance(&mut buffer, &mut arrived) {
            return (arrived, Err(error));
        }
        let Credit { small, large } = inbox.credit();
        assert!(
            small + large <= received as u64,
            "credit for what was not received"
        );
        assert!(
            inbox.assembled() <= 2 * received,
            "memory for what was not received"
        );
    }
    (arrived, Ok(()))
}

/// S-02. Messages with sessions in them and a few wrong bytes.
#[test]
fn damaged_messages() {
    check!(name = "damaged_messages")
        .with_iterations(DAMAGED)
        .with_type()
        .for_each(|(which, damage, cut): &(u8, Vec<(u16, u8)>, u16)| {
            let mut bytes = SAMPLES[usize::from(*which) % SAMPLES.len()].to_vec();
            for (at, xor) in damage.iter().take(DAMAGE_MAX) {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= xor;
            }
            if cut.is_multiple_of(4) {
                bytes.truncate(usize::from(*cut) % bytes.len());
            }
            reads_back(&bytes);
        });
}

/// A decoded message is the same after encoding and decoding it again.
fn reads_back(bytes: &[u8]) {
    if let Ok(message) = decode(bytes) {
        let mut again = Vec::new();
        encode(&message, ProtocolVersion::V2, &mut again).expect("what has arrived can be sent");
        assert_eq!(decode(&again).as_ref(), Ok(&message));
    }
}

const RANDOM: usize = 20_000;
const DAMAGED: usize = 20_000;
const DAMAGE_MAX: usize = 8;

/// One of each kind that carries sessions.
const SAMPLES: [&[u8]; 6] = [
    include_bytes!("__fuzz__/messages/corpus/view"),
    include_bytes!("__fuzz__/messages/corpus/write"),
    include_bytes!("__fuzz__/messages/corpus/slot_entries"),
    include_bytes!("__fuzz__/messages/corpus/get_reply"),
    include_bytes!("__fuzz__/messages/corpus/update"),
    include_bytes!("__fuzz__/messages/corpus/page"),
];
