//! How an attribute becomes bytes.
