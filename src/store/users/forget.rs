//! Removal of entries from the list of a user's sessions.

use tracing::debug;

use crate::error::StoreError;
use crate::session::{Changes, Outcome, Root, UserKey, expect_entry, index_root, remove};
use crate::store::erased::ErasedStore;

/// Removes sessions that were deleted or have expired from the list. What fails is made up for when
/// the entry is met.
pub(crate) async fn forget(store: &dyn ErasedStore, user: &UserKey, gone: &[Root]) {
    if gone.is_empty() {
        return;
    }
    let forgotten = async {
        let root = index_root(user);
        let Some(index) = store.load(&root, None).await?.into_live() else {
            return Ok(());
        };
        let mut changes = Changes::default();
        // Without a condition: a session that has ended has no later login, whose entry this could
        // remove.
        for key in gone.iter().filter(|key| index.is_listed(key)) {
            remove(&mut changes, key);
        }
        if !changes.is_empty() {
            store.commit(&root, Some(&index), changes).await?;
        }
        Ok(())
    };
    note_failure(forgotten.await);
}

/// Removes sessions that belong to another user now from the list. What fails is made up for when
/// the entry is met.
///
/// The user may log in to such a session again at the same time. Its entry is then another one,
/// which stays: an entry is removed only as it was when the session was found not to be the user's.
pub(crate) async fn forget_moved(store: &dyn ErasedStore, user: &UserKey, moved: &[Root]) {
    if moved.is_empty() {
        return;
    }
    let forgotten = async {
        let root = index_root(user);
        let Some(mut index) = store.load(&root, None).await?.into_live() else {
            return Ok(());
        };
        for key in moved.iter().take(MOVED_MAX) {
            if !index.is_listed(key) {
                continue;
            }
            let session = store.load(key, None).await?.into_live();
            if session.is_some_and(|session| session.user() == Some(*user)) {
                continue;
            }
            let mut changes = Changes::default();
            remove(&mut changes, key);
            expect_entry(&mut changes, key, &index);
            match store.commit(&root, Some(&index), changes).await? {
                Outcome::Committed(newer) | Outcome::Conflict(newer) => index = newer,
                Outcome::Gone | Outcome::Superseded => return Ok(()),
            }
        }
        Ok(())
    };
    note_failure(forgotten.await);
}

fn note_failure(forgotten: Result<(), StoreError>) {
    if let Err(error) = forgotten {
        debug!(
            cause = &error as &dyn std::error::Error,
            "ended sessions stay in a user's list"
        );
    }
}

/// How many entries are removed one by one. The rest is removed by later calls.
const MOVED_MAX: usize = 64;
