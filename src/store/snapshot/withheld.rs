//! The task that waits until a withheld file may be used or removed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::store::export::Withheld;
use crate::store::snapshot::SnapshotShared;
use crate::store::snapshot::load::consume;
use crate::store::snapshot::periodic::BackgroundTask;

/// Starts the task, if a file is withheld.
pub(super) fn start(shared: &Arc<SnapshotShared>) -> Option<BackgroundTask> {
    if !shared.withheld.load(Relaxed) || shared.source.withheld() == Withheld::Ignored {
        return None;
    }
    let store = Arc::downgrade(shared);
    let task = tokio::spawn(async move {
        let mut poll = interval(POLL);
        let mut is_logged = false;
        loop {
            poll.tick().await;
            let Some(shared) = store.upgrade() else {
                return;
            };
            match shared.source.withheld() {
                Withheld::Waiting { serves } => {
                    if serves && !is_logged {
                        is_logged = true;
                        shared.warn_ignored();
                    }
                }
                Withheld::Ignored => {
                    if !is_logged {
                        shared.warn_ignored();
                    }
                    return;
                }
                Withheld::Settled => return remove(shared).await,
            }
        }
    });
    Some(BackgroundTask::new(&task))
}

/// Removes a file that is no longer needed.
async fn remove(shared: Arc<SnapshotShared>) {
    let turn = shared.saving.clone().lock_owned().await;
    let removed = spawn_blocking(move || {
        let _turn = turn;
        // If a new file was written since, it must stay.
        if shared.withheld.swap(false, Relaxed) {
            consume(&shared.paths)
        } else {
            Ok(())
        }
    });
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(cause = %error, "a snapshot that is no longer needed cannot be removed");
    }
}

impl SnapshotShared {
    /// Logs that the node serves without the sessions of its file.
    pub(super) fn warn_ignored(&self) {
        tracing::warn!(
            file = %self.paths.file.display(),
            sessions = self.load_report.withheld,
            stayed = ?self.load_report.stayed,
            "a snapshot was written while other members remained, and this node has not compared \
             its sessions with theirs: it is not used"
        );
    }
}

/// The interval between checks of the file's state.
const POLL: Duration = Duration::from_millis(250);
