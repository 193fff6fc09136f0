//! Directories that do not outlive their test, and nodes that keep a file in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::Start;

/// A directory of this test's own.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("snapshot-test-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the sessions are kept.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("sessions")
    }

    /// The names of everything in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it can be listed");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("so can its entries").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// A node that keeps its sessions here while it is down.
    pub(crate) fn node(&self) -> Start {
        let file = self.file();
        let file = file.to_str().expect("paths of tests are text");
        Start::default().args(&["--store", "file", "--file", file, "--route", "node1"])
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
