use super::*;
use crate::store::export::EntryState;
use crate::store::snapshot::format::fixtures::{KEY, NOW, file, header, key, live, slots};
use crate::store::snapshot::format::header::HeaderError;

const NONCE: [u8; 16] = [9; 16];

fn read_as(
    bytes: &[u8],
    application: &str,
    key: Option<[u8; 32]>,
) -> Result<SnapshotContents, HeaderError> {
    let key = key.map(FileKey::new);
    let options = DecodeOptions {
        application,
        key: key.as_ref(),
        now: NOW,
        wall: NOW,
    };
    decode(bytes, options).expect("memory does not fail")
}

fn read(bytes: &[u8], key: Option<[u8; 32]>) -> Result<SnapshotContents, HeaderError> {
    read_as(bytes, "shop", key)
}

/// Files with their keys.
type Samples = [(Vec<u8>, Option<[u8; 32]>); 2];

fn samples() -> Samples {
    [
        (file(&header(None), None, &slots()), None),
        (file(&header(Some(NONCE)), Some(KEY), &slots()), Some(KEY)),
    ]
}

fn written() -> Vec<StoredEntry> {
    slots()
        .into_iter()
        .flat_map(|(_, entries)| entries)
        .collect()
}

#[test]
fn what_is_written_is_read() {
    for (bytes, key) in samples() {
        let contents = read(&bytes, key).expect("it is sound");
        assert_eq!(contents.damage, None);
        assert_eq!(contents.entries, written());
        assert_eq!((contents.sessions, contents.expired), (4, 0));
    }
}

/// S-04: these files were written by the first release with this version of the format, and must
/// stay readable.
#[test]
fn the_format_of_version_2_stands_still() {
    let golden = [
        &include_bytes!("../../../../../../tests/golden/snapshot-2")[..],
        &include_bytes!("../../../../../../tests/golden/snapshot-2-encrypted")[..],
    ];
    for ((bytes, key), golden) in samples().into_iter().zip(golden) {
        let contents = read(golden, key).expect("it is sound");
        assert_eq!((contents.damage, contents.entries), (None, written()));
        assert_eq!(bytes, golden, "it is written as it always was");
    }
}

#[test]
fn a_slot_with_many_sessions_is_several_blocks() {
    let many: Vec<_> = (0..2_000).map(|n| live(5, (n % 251) as u8)).collect();
    let bytes = file(&header(None), None, &[(5, many.clone())]);
    let contents = read(&bytes, None).expect("it is sound");
    assert_eq!((contents.damage, contents.entries), (None, many));
}

/// F-04.
#[test]
fn what_is_not_ours_is_refused() {
    let [(plain, _), (encrypted, _)] = samples();
    assert_eq!(
        read_as(&plain, "bank", None).unwrap_err(),
        HeaderError::Application("shop".to_owned())
    );
    assert_eq!(read(&[], None).unwrap_err(), HeaderError::NotASnapshot);
    assert_eq!(
        read(b"#!/bin/sh\n", None).unwrap_err(),
        HeaderError::NotASnapshot
    );
    let mut newer = plain.clone();
    newer[8] = 3;
    assert_eq!(read(&newer, None).unwrap_err(), HeaderError::Version(3));
    let older = include_bytes!("../../../../../../tests/golden/snapshot-1");
    assert_eq!(read(older, None).unwrap_err(), HeaderError::Version(1));
    assert_eq!(read(&encrypted, None).unwrap_err(), HeaderError::KeyMissing);
    assert_eq!(
        read(&plain, Some(KEY)).unwrap_err(),
        HeaderError::NotEncrypted
    );
    assert_eq!(
        read(&encrypted, Some([1; 32])).unwrap_err(),
        HeaderError::WrongKey
    );
}

#[test]
fn an_encrypted_file_does_not_show_what_is_in_it() {
    let [(plain, _), (encrypted, _)] = samples();
    let shows = |bytes: &[u8]| bytes.windows(7).any(|window| window == b"value 1");
    assert!(shows(&plain) && !shows(&encrypted));
}

/// F-09: without the key, no valid block can be made, not even with correct checksums.
#[test]
fn an_altered_encrypted_block_with_a_right_checksum_is_rejected() {
    let [_, (mut bytes, key)] = samples();
    let (salt, start) = (header(None).salt, first_block(&bytes));
    let head = BlockHead::from_bytes(&head_at(&bytes, start), salt).expect("a block begins there");
    let content = start + HEAD_BYTES..start + HEAD_BYTES + head.length as usize;
    bytes[content.start] ^= 1;
    let check = head.check(&bytes[content.clone()], salt);
    bytes[content.end..content.end + CHECK_BYTES].copy_from_slice(&check);
    let contents = read(&bytes, key).expect("its header is sound");
    assert_eq!(contents.damage.expect("it is found").first, Flaw::Block(0));
    assert_eq!(contents.entries, written()[3..]);
}

/// 60 (b), F-03. A block of one file is not valid in another, or a second time.
#[test]
fn blocks_cannot_be_moved_or_repeated() {
    let [(plain, _), _] = samples();
    let mut other = header(None);
    other.salt += 1;
    let (start, block) = (first_block(&plain), block_at(&plain, first_block(&plain)));
    let mut moved = file(&other, None, &[]);
    moved.splice(start..start, block.iter().copied());
    let contents = read(&moved, None).expect("its header is sound");
    assert!(contents.entries.is_empty() && contents.damage.is_some());

    let mut twice = plain;
    twice.splice(start..start, block);
    let contents = read(&twice, None).expect("its header is sound");
    assert_eq!(contents.entries, written());
    assert!(contents.damage.is_some());
}

/// 60 (b), F-03.
///
/// Users' data cannot become sessions of the file, however much of it is damaged.
#[test]
fn a_file_within_a_file_is_never_read() {
    let mut inner = header(None);
    inner.salt = 1;
    let inside = file(&inner, None, &[(9, vec![live(9, 9)])]);
    let mut outside = live(5, 1);
    if let EntryState::Live(record) = &mut outside.state {
        let mut register = record.entries()[1].clone();
        register.version.clock += 1;
        register.value = Some(crate::session::Value::from_bytes(inside));
        std::sync::Arc::make_mut(record).merge_write(&register);
    }
    let bytes = file(&header(None), None, &[(5, vec![outside])]);
    let start = first_block(&bytes);
    for at in start..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xFF;
        let contents = read(&bytes, None).expect("its header is sound");
        assert!(contents.entries.iter().all(|entry| entry.key != key(9, 9)));
    }
}

/// F-03: wherever a file is cut, the cut is found, and the blocks before it are read.
#[test]
fn a_cut_is_found_wherever_it_is() {
    for (bytes, key) in samples() {
        for length in 0..bytes.len() {
            match read(&bytes[..length], key) {
                Err(_) => {}
                Ok(contents) => {
                    assert!(contents.damage.is_some(), "cut at {length}");
                    assert!(written().starts_with(&contents.entries));
                }
            }
        }
    }
}

/// F-03: every single bit of a file.
#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    for (bytes, key) in samples() {
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(contents) = read(&bytes, key) {
                assert!(contents.damage.is_some(), "bit {bit}");
                let known = written();
                assert!(contents.entries.iter().all(|entry| known.contains(entry)));
            }
        }
    }
}

/// F-03: damage loses the content of the damaged block, and nothing else.
#[test]
fn damage_costs_one_block() {
    for (bytes, key) in samples() {
        let start = first_block(&bytes);
        for at in start..start + block_at(&bytes, start).len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let contents = read(&bytes, key).expect("its header is sound");
            assert_eq!(contents.entries, written()[3..], "byte {at}");
        }
    }
}

fn first_block(bytes: &[u8]) -> usize {
    let salt = header(None).salt;
    let is_head = |at: &usize| BlockHead::from_bytes(&head_at(bytes, *at), salt).is_some();
    (0..bytes.len()).find(is_head).expect("there is a block")
}

fn head_at(bytes: &[u8], at: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let there = bytes.len().min(at + HEAD_BYTES);
    head[..there - at].copy_from_slice(&bytes[at..there]);
    head
}

fn block_at(bytes: &[u8], at: usize) -> Vec<u8> {
    let head = BlockHead::from_bytes(&head_at(bytes, at), header(None).salt);
    let length = head.expect("a block begins there").length as usize;
    bytes[at..at + HEAD_BYTES + length + CHECK_BYTES].to_vec()
}

mod fuzz;
