//! Fuzzing of the loader with arbitrary files. A module of `store::snapshot::format::decoder`,
//! whose private functions it calls.
//!
//! `cargo test` runs the inputs in `__fuzz__/files/corpus` and a few thousand more; to continue,
//! run `cargo bolero test -p distributable --all-features
//! store::snapshot::format::decoder::fuzz::files`.

use bolero::check;

use super::*;
use crate::store::snapshot::format::fixtures::{NOW, slots};

fn read(bytes: &[u8]) -> Result<SnapshotContents, HeaderError> {
    let options = DecodeOptions {
        application: "shop",
        key: None,
        now: NOW,
        wall: NOW,
    };
    decode(bytes, options).expect("memory does not fail")
}

/// S-02.
#[test]
fn files() {
    check!(name = "files")
        .with_iterations(5_000)
        .for_each(|bytes: &[u8]| {
            // A correct checksum does not occur by chance.
            if let Ok(contents) = read(bytes) {
                let known: Vec<_> = slots()
                    .into_iter()
                    .flat_map(|(_, entries)| entries)
                    .collect();
                assert!(contents.entries.iter().all(|entry| known.contains(entry)));
            }
        });
}

/// S-02. A valid file with a few wrong bytes yields the written entries, or fewer.
#[test]
fn damaged_files() {
    check!(name = "damaged_files")
        .with_iterations(5_000)
        .with_type()
        .for_each(|damage: &Vec<(u16, u8)>| {
            let mut bytes = include_bytes!("__fuzz__/files/corpus/plain").to_vec();
            for (at, xor) in damage.iter().take(8) {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= xor;
            }
            if let Ok(contents) = read(&bytes) {
                let known: Vec<_> = slots()
                    .into_iter()
                    .flat_map(|(_, entries)| entries)
                    .collect();
                assert!(contents.entries.iter().all(|entry| known.contains(entry)));
            }
        });
}
