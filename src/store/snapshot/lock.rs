//! The lock that reserves a snapshot's files for one process.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::store::snapshot::error::{SnapshotError, SnapshotErrorKind};
use crate::store::snapshot::paths::{SnapshotPaths, open_lock};

/// The exclusive right to use a snapshot's files. The system releases it when the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Lock {
    /// Takes the lock without waiting. Fails if another process holds it.
    pub(super) fn take(paths: &SnapshotPaths) -> Result<Self, SnapshotError> {
        let path = paths.lock.display();
        let unusable = |error: std::io::Error| {
            let message =
                format!("cannot use {path}: does its directory exist, and may it be written?");
            SnapshotError::new(SnapshotErrorKind::Unusable, message).with_source(error)
        };
        let file = open_lock(&paths.lock).map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(SnapshotError::new(
                SnapshotErrorKind::Locked,
                format!(
                    "{} is used by another process: stop it, or choose another path",
                    paths.file.display()
                ),
            )),
            Err(error) => Err(unusable(error.into())),
        }
    }
}
