//! The JSON that is being written, and what is open in it.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde::Serializer;

use crate::session::codec::EncodeError;
use crate::session::codec::bounded::{Bounded, BoundedText};

/// JSON being written.
#[derive(Debug)]
pub(super) struct Json {
    out: Bounded,
    /// Open brackets.
    depth: usize,
    /// Open options and newtypes: they write no bracket, but use the stack.
    wrappers: usize,
}

pub(super) type EncodeResult<T = ()> = Result<T, EncodeError>;

impl Json {
    pub(super) fn new(tag: u8, max_bytes: usize) -> EncodeResult<Self> {
        let mut json = Self {
            out: Bounded::new(max_bytes),
            depth: 0,
            wrappers: 0,
        };
        json.put(&[tag])?;
        Ok(json)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> EncodeResult {
        self.out.write_all(bytes).map_err(too_large)
    }

    /// What is written so far.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.out.as_bytes()
    }

    /// Writes a text between quotation marks.
    pub(super) fn put_str(&mut self, text: &str) -> EncodeResult {
        if !stands_for_itself(text) {
            return self.plain().serialize_str(text).map_err(too_large);
        }
        self.put(b"\"")?;
        self.put(text.as_bytes())?;
        self.put(b"\"")
    }

    /// Writes the text of a `Display` between quotation marks.
    pub(super) fn put_display<T: fmt::Display + ?Sized>(&mut self, value: &T) -> EncodeResult {
        let mut text = BoundedText::new(self.out.room());
        match write!(text, "{value}") {
            Ok(()) => self.put_str(text.as_str()),
            Err(fmt::Error) if text.is_full => Err(EncodeError::TooLarge),
            Err(fmt::Error) => Err(EncodeError::Refused),
        }
    }

    /// The serializer for values without parts.
    pub(super) fn plain(&mut self) -> serde_json::Serializer<&mut Bounded> {
        serde_json::Serializer::new(&mut self.out)
    }

    /// Counts `brackets` more open brackets.
    pub(super) fn descend(&mut self, brackets: usize) -> EncodeResult {
        self.depth += brackets;
        if self.depth > DEPTH_MAX {
            return Err(EncodeError::TooDeep);
        }
        Ok(())
    }

    /// Counts `brackets` fewer open brackets.
    pub(super) fn ascend(&mut self, brackets: usize) {
        self.depth -= brackets;
    }

    /// Counts one more open option or newtype.
    pub(super) fn enter_wrapper(&mut self) -> EncodeResult {
        self.wrappers += 1;
        if self.wrappers > WRAPPERS_MAX {
            return Err(EncodeError::TooDeep);
        }
        Ok(())
    }

    /// Counts one open option or newtype fewer.
    pub(super) fn leave_wrapper(&mut self) {
        self.wrappers -= 1;
    }
}

/// Returns `true` if JSON writes the text without escapes. It looks at every byte without an early
/// exit: the compiler turns that into a few instructions for 16 bytes, where `serde_json` takes ten
/// for each.
fn stands_for_itself(text: &str) -> bool {
    let escaped = |b: u8| b < b' ' || b == b'"' || b == b'\\';
    !text.bytes().fold(false, |found, b| found | escaped(b))
}

/// A plain value fails for one reason only: the buffer is full.
pub(super) fn too_large<E>(_: E) -> EncodeError {
    EncodeError::TooLarge
}

/// The maximum number of open brackets: one below the limit at which `serde_json` stops reading.
pub(super) const DEPTH_MAX: usize = 127;
/// The maximum number of open options and newtypes: with [`DEPTH_MAX`] it bounds the stack, and
/// leaves four of them to each bracket.
pub(super) const WRAPPERS_MAX: usize = 4 * DEPTH_MAX;
