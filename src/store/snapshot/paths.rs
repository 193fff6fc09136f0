//! Paths of a snapshot's files, and safe, atomic operations on them (no symlinks, rename and
//! fsync).
//!
//! Beside `PATH`, the file itself, there are `PATH.lock` (held while a process uses the others),
//! `PATH.tmp` (a file that is being written), `PATH.journal` (ids that have ended since the file
//! was written) and `PATH.bad-1` and so on (unreadable files, kept for inspection). No other name
//! in the directory is ever opened.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// The paths of a snapshot's files.
#[derive(Clone, Debug)]
pub(super) struct SnapshotPaths {
    pub(super) directory: PathBuf,
    pub(super) file: PathBuf,
    pub(super) temporary: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) journal_temporary: PathBuf,
}

/// The reason why an existing file cannot be trusted, or cannot be read.
#[derive(Debug)]
pub(super) enum FileError {
    Link,
    NotAFile,
    /// Its owner.
    Foreign(u32),
    /// Its mode.
    Writable(u32),
    Disk(io::Error),
}

impl SnapshotPaths {
    /// `None`: the path names no file.
    pub(super) fn new(path: &Path) -> Option<Self> {
        let name = path.file_name()?;
        let beside = |suffix: &str| {
            let mut name = OsString::from(name);
            name.push(suffix);
            path.with_file_name(name)
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Some(Self {
            directory,
            file: path.to_owned(),
            temporary: beside(".tmp"),
            lock: beside(".lock"),
            journal: beside(".journal"),
            journal_temporary: beside(".journal.tmp"),
        })
    }

    /// Creates a file at a temporary path. A leftover of an earlier process is removed; anything
    /// that our processes do not create is quarantined.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        match path.symlink_metadata() {
            Ok(there) if there.is_file() => fs::remove_file(path)?,
            Ok(_) => self.quarantine(path, "it is not a plain file")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        options.mode(PRIVATE).custom_flags(CAREFUL).open(path)
    }

    /// Replaces `to` by a temporary file whose content is already on the disk: after a crash there
    /// is the old one or the new one.
    pub(super) fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            self.quarantine(to, "it is not a plain file")?;
        }
        fs::rename(from, to)?;
        self.sync_directory()
    }

    /// Removes a file durably, if it exists.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            // Synced even if it does not exist: an earlier removal may not be on the disk, and a
            // crash would restore the file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync_directory(),
        }
    }

    /// Moves an unreadable file out of the way for inspection, and logs it.
    pub(super) fn quarantine(&self, path: &Path, reason: &str) -> io::Result<()> {
        let bad = |number: u32| {
            let mut name = self.file.clone().into_os_string();
            name.push(format!(".bad-{number}"));
            PathBuf::from(name)
        };
        let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
        let free = (1..BAD_MAX).map(bad).find(is_free);
        // The last one is replaced: the first ones show how it began.
        let to = free.unwrap_or_else(|| bad(BAD_MAX));
        fs::rename(path, &to)?;
        tracing::error!(
            file = %path.display(),
            quarantined = %to.display(),
            cause = reason,
            "a snapshot cannot be used and was quarantined"
        );
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Opens one of our files for reading. `None`: it does not exist.
pub(super) fn open(path: &Path) -> Result<Option<File>, FileError> {
    let mut options = OpenOptions::new();
    let file = match options.read(true).custom_flags(CAREFUL).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(FileError::Link);
        }
        Err(error) => return Err(FileError::Disk(error)),
    };
    let there = file.metadata().map_err(FileError::Disk)?;
    if !there.is_file() {
        return Err(FileError::NotAFile);
    }
    // A user who can write the file can make up sessions.
    if there.uid() != rustix::process::geteuid().as_raw() {
        return Err(FileError::Foreign(there.uid()));
    }
    if there.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(FileError::Writable(there.mode() & 0o7777));
    }
    Ok(Some(file))
}

/// Opens the lock file. It stays when it is not held: removing it could remove another process's
/// lock.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(PRIVATE).custom_flags(CAREFUL).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    Ok(file)
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link => f.write_str("it is a symbolic link"),
            Self::NotAFile => f.write_str("it is not a plain file"),
            Self::Foreign(uid) => write!(f, "it belongs to another user ({uid})"),
            Self::Writable(mode) => write!(f, "others may write it (mode {mode:o})"),
            Self::Disk(error) => write!(f, "it cannot be opened: {error}"),
        }
    }
}

/// Follows no links, and does not wait for the other end of a pipe.
const CAREFUL: i32 = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .bits() as i32;
/// Accessible to this user alone: the file holds users' data.
const PRIVATE: u32 = 0o600;
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// How many bad files are kept: enough to find a recurring cause without filling the disk.
const BAD_MAX: u32 = 8;
