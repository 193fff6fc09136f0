//! Directories that do not outlive their test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory for one test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::in_directory(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// A directory in memory, where the system has one (Linux): for tests that write often and do
    /// not test the disk.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::in_directory(memory)
        } else {
            Self::new()
        }
    }

    fn in_directory(directory: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("distributable-test-{}-{number}", std::process::id());
        let path = directory.join(name);
        // What an earlier process with this number has left, which was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the directory can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
