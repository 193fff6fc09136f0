//! The format of a snapshot's file: a header, then blocks of entries, encrypted if there is a key.

pub(crate) mod block;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod encryption;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod header;
pub(crate) mod record;
