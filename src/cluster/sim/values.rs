//! Values that clients write. Large ones are shared buffers, so that a run copies no megabytes.

use std::sync::OnceLock;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::session::Value;

/// Draws a value of a few bytes.
pub(super) fn draw_tiny(rng: &mut StdRng) -> Value {
    let text = rng.random::<u32>().to_string();
    Value::from_bytes(text.as_bytes())
}

/// Draws a value of 100 bytes to 18 KB.
pub(super) fn draw_small(rng: &mut StdRng) -> Value {
    let middle = 100 << rng.random_range(0..8);
    let len = rng
        .random_range(middle / 2..middle * 2)
        .min(SMALL_VALUE_MAX);
    let mut bytes = vec![0; len];
    bytes[..8].copy_from_slice(&rng.random::<u64>().to_be_bytes());
    Value::from_bytes(bytes)
}

/// Returns a value of at most `most` bytes that differs from those of the calls just before.
pub(super) fn draw_large(rng: &mut StdRng, number: usize, most: usize) -> Option<Value> {
    let fit = LARGE_SIZES.iter().filter(|size| **size <= most).count();
    let size = (fit > 0).then(|| rng.random_range(0..fit))?;
    static VALUES: [[OnceLock<Value>; VARIANTS]; LARGE_SIZES.len()] =
        [const { [const { OnceLock::new() }; VARIANTS] }; LARGE_SIZES.len()];
    let variant = number % VARIANTS;
    let make = || Value::from_bytes(vec![variant as u8; LARGE_SIZES[size]]);
    Some(VALUES[size][variant].get_or_init(make).clone())
}

/// A record of three such values still fits into a small message.
const SMALL_VALUE_MAX: usize = 18_000;

/// The number of buffers of each size.
const VARIANTS: usize = 3;

const LARGE_SIZES: [usize; 7] = [
    30_000, 100_000, 300_000, 1_000_000, 3_000_000, 8_000_000, 15_000_000,
];
