//! The task that writes a file periodically.

use std::sync::{Arc, Weak};

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use crate::store::snapshot::SnapshotShared;
use crate::store::snapshot::save::save;

/// A task of a store, which stops when this is dropped.
#[derive(Debug)]
pub(super) struct BackgroundTask(AbortHandle);

impl BackgroundTask {
    pub(super) fn new(task: &JoinHandle<()>) -> Self {
        Self(task.abort_handle())
    }
}

/// Starts the task, if an interval is configured.
pub(super) fn start(shared: &Arc<SnapshotShared>) -> Option<BackgroundTask> {
    let interval = shared.config.interval?;
    let (journal, store) = (shared.journal.clone(), Arc::downgrade(shared));
    let task = tokio::spawn(async move {
        loop {
            // Whichever comes first.
            let _ = timeout(interval, journal.is_long()).await;
            if !save_once(&store).await {
                return;
            }
        }
    });
    Some(BackgroundTask::new(&task))
}

/// Saves once. Returns `false` if the store no longer exists.
async fn save_once(store: &Weak<SnapshotShared>) -> bool {
    match store.upgrade() {
        // An error is logged, and the next save may succeed.
        Some(store) => drop(save(&store).await),
        None => return false,
    }
    true
}

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
