//! Directories that do not outlive their test, nodes that keep a file in them, and stores without a
//! node around them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use distributable::session::{Changes, Loaded, Outcome, Value};
use distributable::store::{SnapshotError, SnapshotErrorKind, SnapshotStoreBuilder};
use distributable::{MemoryStore, Root, SessionId, SessionStore, SnapshotStore, StoreError};

use crate::common::{Scratch, Start};

/// A directory of this test's own.
pub(crate) struct Directory {
    scratch: Scratch,
    is_mounted: bool,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            is_mounted: false,
        }
    }

    /// A file system of its own, in memory, of 64 KiB.
    pub(crate) fn small() -> Self {
        let mut directory = Self::new();
        directory.mount("size=64k");
        directory.is_mounted = true;
        directory
    }

    /// Remounts a small file system read-only.
    pub(crate) fn make_read_only(&self) {
        self.mount("remount,size=64k,ro");
    }

    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        run(mount.arg(self.path()));
    }

    /// Writes until nothing fits any more.
    pub(crate) fn fill(&self) {
        for number in 0.. {
            let ballast = self.path().join(format!("ballast{number}"));
            if fs::write(ballast, [0; 4096]).is_err() {
                return;
            }
        }
    }

    /// Takes away what that has written.
    pub(crate) fn make_room(&self) {
        let names = self.names();
        for name in names.iter().filter(|name| name.starts_with("ballast")) {
            fs::remove_file(self.path().join(name)).expect("it is ours");
        }
    }

    /// Makes the sessions' file one that cannot be removed, or one that can.
    pub(crate) fn pin(&self, pinned: bool) {
        let file = self.file();
        if pinned {
            run(Command::new("mount").arg("--bind").args([&file, &file]))
        } else {
            run(Command::new("umount").arg(&file))
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Where the sessions are kept.
    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("sessions")
    }

    /// A file beside that.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        self.path().join(format!("sessions.{suffix}"))
    }

    /// The names of everything in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("it can be listed");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("so can its entries").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// A node that keeps its sessions here while it is down.
    pub(crate) fn node(&self) -> Start {
        Start::file("node1", &self.file())
    }

    pub(crate) fn builder(&self) -> SnapshotStoreBuilder {
        SnapshotStore::builder(self.file()).application("shop")
    }

    pub(crate) async fn open(&self) -> SnapshotStore<MemoryStore> {
        open(self.builder()).await.expect("it can be opened")
    }

    /// Leaves a file with so many sessions of a kilobyte behind; gives their keys.
    pub(crate) async fn saved(&self, sessions: usize) -> Vec<Root> {
        let store = self.open().await;
        let keys = fill(&store, sessions).await;
        store.save().await.expect("it can be written");
        keys
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("there is a `mount` command");
    assert!(
        output.status.success(),
        "a full disk needs a small file system, and mounting one needs root; run:\n    \
         sudo -E env PATH=\"$PATH\" cargo test --all-features --test snapshot\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Opens a store. A thread that is still writing for the last one holds the lock for a moment.
pub(crate) async fn open(
    builder: SnapshotStoreBuilder,
) -> Result<SnapshotStore<MemoryStore>, SnapshotError> {
    for _ in 0..PATIENCE {
        match builder.clone().open(MemoryStore::new()).await {
            Err(error) if error.kind() == SnapshotErrorKind::Locked => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened,
        }
    }
    panic!("the lock is held for ever");
}

/// Creates sessions of a kilobyte; gives their keys.
pub(crate) async fn fill(store: &impl SessionStore, sessions: usize) -> Vec<Root> {
    let mut keys = Vec::with_capacity(sessions);
    for number in 0..sessions {
        keys.push(create(store, &format!("{number:>1000}")).await);
    }
    keys
}

/// Creates a session with an attribute `a`.
pub(crate) async fn create(store: &impl SessionStore, value: &str) -> Root {
    let (key, outcome) = commit(store, value).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    key
}

/// Creates a session, unless the store is full.
pub(crate) async fn create_if_room(store: &impl SessionStore) -> Option<Root> {
    let (key, outcome) = commit(store, "one more").await;
    outcome.ok().map(|_| key)
}

async fn commit(store: &impl SessionStore, value: &str) -> (Root, Result<Outcome, StoreError>) {
    let id = SessionId::generate();
    (id.key(), birth(store, &id, value).await)
}

async fn birth(
    store: &impl SessionStore,
    id: &SessionId,
    value: &str,
) -> Result<Outcome, StoreError> {
    let mut changes = Changes::create(id.hash(), Some(Duration::from_secs(1_800)), DAY);
    changes.insert("a".into(), Value::from_bytes(value.as_bytes()));
    store.commit(&id.key(), None, changes).await
}

/// Creates a session with an attribute `a` and returns its id.
pub(crate) async fn log_in(store: &impl SessionStore, value: &str) -> SessionId {
    let id = SessionId::generate();
    let outcome = birth(store, &id, value).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    id
}

/// Replaces the secret of a session and returns its new id.
pub(crate) async fn rotate(store: &impl SessionStore, id: &SessionId) -> SessionId {
    let next = SessionId::with_root(id.key());
    let mut changes = Changes::default();
    changes.rotate(id.hash(), next.hash());
    let base = load(store, id).await.into_live();
    let outcome = store.commit(&id.key(), base.as_ref(), changes).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    next
}

/// What a store has for an id.
pub(crate) async fn load(store: &impl SessionStore, id: &SessionId) -> Loaded {
    let loaded = store.load(&id.key(), Some(&id.hash())).await;
    loaded.expect("memory does not fail")
}

/// The attribute `a` of a session, if that is alive.
pub(crate) async fn value(store: &impl SessionStore, key: &Root) -> Option<Value> {
    let loaded = store.load(key, None).await;
    let record = loaded.expect("memory does not fail").into_live()?;
    record.get("a").cloned()
}

/// How many of these sessions are alive.
pub(crate) async fn alive(store: &impl SessionStore, keys: &[Root]) -> usize {
    let mut alive = 0;
    for key in keys {
        alive += usize::from(value(store, key).await.is_some());
    }
    alive
}

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: u32 = 1_000;
