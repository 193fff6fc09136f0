//! Files that no store has written: many changes at once, and bytes that are no file at all.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::store::snapshot::format::block::BlockLabel;

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Cut(Index),
    Remove(Index, Index),
    Repeat(Index, Index, Index),
    Insert(Index, Vec<u8>),
    Zero(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        6 => (index(), 1..=u8::MAX).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => index().prop_map(Change::Cut),
        2 => (index(), index()).prop_map(|(from, to)| Change::Remove(from, to)),
        2 => (index(), index(), index()).prop_map(|(from, to, at)| Change::Repeat(from, to, at)),
        2 => (index(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (index(), index()).prop_map(|(from, to)| Change::Zero(from, to)),
    ]
}

fn apply(change: Change, bytes: &mut Vec<u8>) {
    let length = bytes.len() + 1;
    let range = |a: Index, b: Index| {
        let (a, b) = (a.index(length), b.index(length));
        a.min(b)..a.max(b)
    };
    match change {
        Change::Flip(at, bits) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Change::Flip(..) => {}
        Change::Cut(at) => bytes.truncate(at.index(length)),
        Change::Remove(a, b) => drop(bytes.drain(range(a, b))),
        Change::Repeat(a, b, at) => {
            let copy = bytes[range(a, b)].to_vec();
            let at = at.index(length);
            bytes.splice(at..at, copy);
        }
        Change::Insert(at, new) => {
            let at = at.index(length);
            bytes.splice(at..at, new);
        }
        Change::Zero(a, b) => bytes[range(a, b)].fill(0),
    }
}

/// A file with arbitrary content whose checksums are correct: the worst content of a block.
fn file_with_right_checksums(contents: &[Vec<u8>]) -> Vec<u8> {
    let (mut bytes, _) = header(None).encode(None).expect("it fits");
    let salt = header(None).salt;
    for (number, content) in contents.iter().enumerate() {
        let (number, length) = (number as u32, content.len() as u32);
        let head = BlockHead { number, length };
        bytes.extend_from_slice(&head.to_bytes(salt));
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&head.check(content, salt));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12_000, ..ProptestConfig::default() })]

    /// F-03: after any changes of a file, the entries that are read are the written ones.
    #[test]
    fn a_changed_file_never_gives_wrong_content(
        encrypted in prop::bool::weighted(0.2),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        static SAMPLES: LazyLock<Samples> = LazyLock::new(samples);
        let (original, key) = &SAMPLES[usize::from(encrypted)];
        let mut bytes = original.clone();
        for change in changes {
            apply(change, &mut bytes);
        }
        if let Ok(contents) = read(&bytes, *key) {
            prop_assert!(bytes == *original || contents.damage.is_some());
            let known = written();
            prop_assert!(contents.entries.iter().all(|entry| known.contains(entry)));
            prop_assert!(contents.entries.len() <= known.len(), "nothing is read twice");
        }
    }

    /// F-05: nor do bytes that pass as a block: no panic, and no more memory than they justify.
    #[test]
    fn blocks_of_anything_are_judged_by_what_is_in_them(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
        slot in any::<u16>(),
        at in any::<u64>(),
        tail in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut contents = contents;
        let label = BlockLabel::Slot { slot, at };
        contents.push(postcard::to_extend(&label, Vec::new()).expect("memory takes all"));
        contents.last_mut().expect("it is there").extend(tail);
        let read = read(&file_with_right_checksums(&contents), None);
        prop_assert!(read.expect("its header is sound").damage.is_some());
    }

    /// F-05, A-13.
    #[test]
    fn bytes_that_are_no_file_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        prop_assert!(read(&bytes, None).is_err());
        let (start, _) = header(None).encode(None).expect("it fits");
        bytes.splice(..0, start);
        let contents = read(&bytes, None).expect("its header is sound");
        prop_assert!(contents.entries.is_empty() && contents.damage.is_some());
    }
}

/// F-05: a declared length of four gigabytes reserves only the memory of the existing bytes.
#[test]
fn a_length_that_lies_costs_nothing() {
    let salt = header(None).salt;
    let (mut bytes, _) = header(None).encode(None).expect("it fits");
    let head = BlockHead {
        number: 0,
        length: u32::MAX,
    };
    bytes.extend_from_slice(&head.to_bytes(salt));
    bytes.extend_from_slice(&[0; 100]);
    let contents = read(&bytes, None).expect("its header is sound");
    assert_eq!(contents.damage.expect("it is found").first, Flaw::Truncated);
}
