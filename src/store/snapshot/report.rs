//! What loading and saving have come to.

use std::time::Duration;

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Sessions that live on.
    pub sessions: usize,
    /// Sessions and marks of ended ones whose time ran out while they lay in the file.
    pub expired: usize,
    /// Sessions that had ended after they were written, and stay dead.
    pub ended: usize,
    /// Sessions whose id was changed after they were written, and that have the new one.
    pub rotated: usize,
    /// Sessions in a file that was written while other members [stayed](Self::stayed). They are
    /// used only if one of those is met.
    pub withheld: usize,
    /// The members of the cluster that stayed when the file was written.
    pub stayed: Vec<String>,
    /// Sessions for which the store has no room.
    pub refused: usize,
    /// Why the file, or a part of it, was not read. It lies beside its place, unchanged.
    pub set_aside: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveReport {
    /// Sessions in the file.
    pub sessions: u64,
    /// Ended ones that must be remembered.
    pub tombstones: u64,
    /// Sessions, about, that are not in the file because time was up.
    pub unwritten: u64,
    /// The size of the file.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}
