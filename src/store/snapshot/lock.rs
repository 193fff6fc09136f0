//! The lock that reserves a snapshot's files for one process.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::store::snapshot::error::{SnapshotError, SnapshotErrorKind};
use crate::store::snapshot::paths::{SnapshotPaths, open_lock};

/// The exclusive right to use a snapshot's files. The system releases it when the process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

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

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that another thread has just started
        // shares it, and with it the lock, until it executes its own program.
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(cause = %error, "the lock of a snapshot cannot be released");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::snapshot::test_directory::TestDirectory;

    /// F-07: a child process shares the files of its parent until it executes its own program.
    #[test]
    fn a_lock_is_released_although_a_child_process_still_shares_its_file() {
        let directory = TestDirectory::new("lock");
        let paths = directory.paths();
        let lock = Lock::take(&paths).expect("it is free");
        let shared = lock.0.try_clone().expect("a file can be shared");
        let refused = Lock::take(&paths).expect_err("it is held");
        assert_eq!(refused.kind(), SnapshotErrorKind::Locked);
        drop(lock);
        Lock::take(&paths).expect("it was released");
        drop(shared);
    }
}
