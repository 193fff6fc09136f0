//! Settings of a snapshot, as its builder has them.

use std::time::Duration;

use crate::store::snapshot::format::encryption::FileKey;

/// The settings for writing and reading a file.
#[derive(Clone, Debug)]
pub(super) struct SnapshotConfig {
    pub(super) application: String,
    pub(super) key: Option<FileKey>,
    pub(super) save_timeout: Duration,
    pub(super) interval: Option<Duration>,
}
