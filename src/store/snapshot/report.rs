//! The reports of loading and saving.

use std::time::Duration;

/// The result of opening a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Number of restored sessions.
    pub sessions: usize,
    /// Sessions, and tombstones of ended ones, that expired between writing and reading.
    pub expired: usize,
    /// Sessions that had ended after they were written, and do not come back.
    pub ended: usize,
    /// Sessions whose id was rotated after they were written, and that have the new one.
    pub rotated: usize,
    /// Sessions in a file that was written while other members [remained](Self::stayed). They are
    /// used only if one of those is contacted.
    pub withheld: usize,
    /// The members of the cluster that remained when the file was written.
    pub stayed: Vec<String>,
    /// Sessions for which the store has no room.
    pub refused: usize,
    /// The reason why the file, or a part of it, was not read. The unchanged file is kept beside
    /// its path.
    pub quarantined: Option<String>,
    /// The duration of the operation.
    pub elapsed: Duration,
}

/// The result of writing a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveReport {
    /// Number of sessions in the file.
    pub sessions: u64,
    /// Number of tombstones of ended sessions.
    pub tombstones: u64,
    /// Approximate number of sessions that are not in the file because the time was exceeded.
    pub unwritten: u64,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// The duration of the operation.
    pub elapsed: Duration,
}
