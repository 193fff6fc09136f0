//! [`Ack`]: when a write is acknowledged.

use std::num::NonZeroU8;

/// The condition under which a write is acknowledged and the response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "all holders, some of them, or this node alone: no other case is possible"
)]
pub enum Ack {
    /// Every live holder of the session has it: a read through any node returns it, and it survives
    /// as long as one of them does.
    #[default]
    All,
    /// This many nodes have it, including the writing one (fewer if fewer are alive); the other
    /// holders follow.
    Copies(NonZeroU8),
    /// The writing node has it; the other holders follow, and may serve the previous value for a
    /// moment. If the node fails suddenly, writes that had not been sent are lost.
    Local,
}
