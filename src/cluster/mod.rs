//! Sessions in the memory of several nodes.

#![allow(dead_code)]

pub(crate) mod replica;
