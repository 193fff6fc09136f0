//! A directory for the files of one test, which is removed after it.

use std::fs;
use std::path::PathBuf;

use crate::store::snapshot::paths::SnapshotPaths;
use crate::store::snapshot::{SnapshotStore, SnapshotStoreBuilder};

/// A directory of one test.
pub(super) struct TestDirectory(PathBuf);

impl TestDirectory {
    /// The name must differ from those of other tests.
    pub(super) fn new(name: &str) -> Self {
        let name = format!("snapshot-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A process with this number may have been killed before.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("it can be written");
        Self(path)
    }

    pub(super) fn paths(&self) -> SnapshotPaths {
        SnapshotPaths::new(&self.0.join("sessions")).expect("it names a file")
    }

    pub(super) fn builder(&self) -> SnapshotStoreBuilder {
        SnapshotStore::builder(self.0.join("sessions"))
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
