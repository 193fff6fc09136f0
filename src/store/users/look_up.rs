//! Listed sessions, several of them at the same time.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::clock;
use crate::error::StoreError;
use crate::session::{EndReason, Listed, Loaded, Record, Root, UserKey};
use crate::store::erased::{ErasedStore, StoreFuture};

/// The state of a listed session.
pub(super) enum ListedState {
    /// It is live, and the user's.
    Live(Arc<Record>),
    /// It is not found here; another node may have it.
    Absent,
    /// Its absolute deadline has passed.
    Expired,
    /// It belongs to another user.
    Moved,
}

/// The states of listed sessions, at most [`BATCH`], loaded at the same time.
pub(super) async fn listed_states(
    store: &dyn ErasedStore,
    user: &UserKey,
    batch: &[Listed],
) -> Result<Vec<ListedState>, StoreError> {
    let loads = batch.iter().map(|listed| store.load(&listed.key, None));
    let found = together(loads.collect()).await?;
    let now = clock::now().as_millis();
    let of = |(listed, found): (&Listed, Loaded)| match found.into_live() {
        Some(record) if record.user() == Some(*user) => ListedState::Live(record),
        None if now < listed.entry.until => ListedState::Absent,
        None => ListedState::Expired,
        Some(_) => ListedState::Moved,
    };
    Ok(batch.iter().zip(found).map(of).collect())
}

/// Deletes sessions, [`BATCH`] at the same time. Returns those that existed.
pub(super) async fn delete_all(
    store: &dyn ErasedStore,
    keys: &[Root],
    reason: EndReason,
) -> Result<Vec<Root>, StoreError> {
    let mut ended = Vec::new();
    for batch in keys.chunks(BATCH) {
        let deletions = batch.iter().map(|key| store.delete(key, reason));
        let existed = together(deletions.collect()).await?;
        let deleted = batch.iter().zip(existed).filter(|(_, existed)| *existed);
        ended.extend(deleted.map(|(key, _)| *key));
    }
    Ok(ended)
}

/// Waits for all answers, and returns them in order, or the first error.
async fn together<T>(mut answers: Vec<StoreFuture<'_, T>>) -> Result<Vec<T>, StoreError> {
    let mut done: Vec<Option<Result<T, StoreError>>> = answers.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut is_ready = true;
        for (answer, done) in answers.iter_mut().zip(&mut done) {
            if done.is_none() {
                match answer.as_mut().poll(cx) {
                    Poll::Ready(result) => *done = Some(result),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Sessions of a user that are loaded or deleted at the same time.
pub(super) const BATCH: usize = 32;
