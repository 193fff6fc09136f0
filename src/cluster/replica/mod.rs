//! The protocol of replicated sessions, without any IO.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod message;
pub(crate) mod node;
