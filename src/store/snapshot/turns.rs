//! The turns of concurrent calls with the same session.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::session::Root;
use crate::sync::lock;

/// Lets calls with the same session run one after the other. Clones refer to the same calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<std::sync::Mutex<HashMap<Root, Arc<Mutex<()>>>>>);

/// A call's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    key: Root,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until no other call with this session has its turn.
    pub(super) async fn wait(&self, key: &Root) -> Turn {
        let own = lock(&self.0).entry(*key).or_default().clone();
        // Exists before this waits, so that the entry is removed as well if this is canceled.
        let mut turn = Turn {
            turns: self.clone(),
            key: *key,
            guard: None,
        };
        turn.guard = Some(own.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        // The other calls with this session hold references of their own.
        self.guard = None;
        if turns
            .get(&self.key)
            .is_some_and(|own| Arc::strong_count(own) == 1)
        {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_call_waits_for_the_one_before_and_nothing_remains() {
        let turns = Turns::default();
        let [key, other] = [Root::from_bytes([1; 12]), Root::from_bytes([2; 12])];
        let first = turns.wait(&key).await;
        drop(turns.wait(&other).await);
        let canceled = timeout(Duration::from_millis(20), turns.wait(&key)).await;
        assert!(canceled.is_err());
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.wait(&key).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.expect("no panic");
        assert!(lock(&turns.0).is_empty());
    }
}
