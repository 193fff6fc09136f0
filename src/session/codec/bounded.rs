//! A byte buffer with a maximum length.

use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Collects bytes up to a limit, and never allocates more than that.
#[derive(Debug)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Bounded {
    pub(super) fn new(max: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(INITIAL_BYTES.min(max)),
            max,
        }
    }

    /// The bytes written so far.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes written so far.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes still fit.
    pub(super) fn room(&self) -> usize {
        self.max - self.bytes.len()
    }

    /// Reserves space for `more` bytes, which fit, and for some that may follow: at least doubles
    /// the capacity, but only up to the limit.
    #[cold]
    fn grow(&mut self, more: usize) {
        let ample = self.bytes.len().max(more + INITIAL_BYTES);
        self.bytes.reserve_exact(ample.min(self.room()));
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            if bytes.len() > self.room() {
                return Err(ErrorKind::FileTooLarge.into());
            }
            self.grow(bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Text of a `Display`, up to a limit.
#[derive(Debug)]
pub(super) struct BoundedText {
    text: String,
    max: usize,
    pub(super) is_full: bool,
}

impl BoundedText {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            text: String::new(),
            max,
            is_full: false,
        }
    }

    /// The text written so far.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.max - self.text.len() {
            self.is_full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// Enough for a number, a short text, a small struct: most attributes need one allocation.
const INITIAL_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_up_to_the_limit_and_allocates_no_more() {
        let mut buffer = Bounded::new(1000);
        for _ in 0..100 {
            buffer.write_all(&[0; 10]).unwrap();
            assert!(buffer.bytes.capacity() <= 1000);
        }
        assert_eq!(buffer.room(), 0);
        assert!(buffer.write_all(&[0]).is_err());
        assert_eq!(buffer.into_bytes().len(), 1000);
    }

    #[test]
    fn one_write_over_the_limit_leaves_it_as_it_was() {
        let mut buffer = Bounded::new(10);
        buffer.write_all(b"abc").unwrap();
        assert!(buffer.write_all(&[0; 8]).is_err());
        assert_eq!(buffer.as_bytes(), b"abc");
    }
}
