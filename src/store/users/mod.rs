//! Sessions by user, for every store: the index of a user's sessions, and the deletion of all of
//! them.
//!
//! The list is an index in the store itself, as described in [`session`](crate::session). A login
//! is answered when the session and its entry are both stored, so [`end_user`] finds every session
//! whose login was answered before it was called. The entry of a session that is not found stays
//! until the session's absolute deadline, unless the list is too long: the other side of a
//! partition may have it, or it may be on its way from another node. Each entry is checked against
//! its session every time: a session to which another user has logged in since is neither listed
//! nor ended.
//!
//! Two concurrent calls are safe in any order: a session whose login is concurrent with
//! [`end_user`] is ended, or it is in the list afterward.

mod end;
mod excess;
mod forget;
mod look_up;

#[cfg(all(feature = "snapshot", unix))]
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::error::StoreError;
use crate::session::{
    Changes, EndReason, IndexEntry, Outcome, Record, Root, SessionInfo, UserKey, expect_entry,
    index_root, new_index, prolong, put,
};
use crate::store::erased::ErasedStore;

use excess::end_oldest;
use look_up::{BATCH, ListedState, delete_all, listed_states};

pub(crate) use end::end_user;
pub(crate) use excess::has_room;
pub(crate) use forget::{forget, forget_moved};

/// A login that is to be added to the index.
#[derive(Clone, Debug)]
pub(crate) struct NewLogin {
    pub(crate) user: UserKey,
    pub(crate) key: Root,
    pub(crate) label: Option<String>,
    /// The absolute timeout of the session.
    pub(crate) absolute_timeout: Duration,
    /// The session, with its absolute deadline.
    pub(crate) record: Arc<Record>,
    /// The maximum number of sessions of a user.
    pub(crate) max_sessions: usize,
}

/// Adds a session to its user's index, and ends the user's oldest ones if there are too many.
pub(crate) async fn register(store: &dyn ErasedStore, login: NewLogin) -> Result<(), StoreError> {
    let now = clock::now();
    let entry = IndexEntry {
        label: login.label,
        logged_in_at: now.as_millis(),
        until: login.record.absolute_deadline().as_millis(),
    };
    // The index outlives every session in it.
    let lifetime = login
        .absolute_timeout
        .saturating_mul(2)
        .saturating_add(MARGIN);
    let root = index_root(&login.user);
    for _ in 0..TRIES {
        let index = store.load(&root, None).await?.into_live();
        let mut changes = match &index {
            None => new_index(lifetime),
            Some(index) => {
                let mut changes = Changes::default();
                // Not at each login: it is a rotation, for which the owner of the index has to wait
                // for all holders.
                if index.absolute_deadline().since(now) < lifetime - lifetime / 4 {
                    prolong(&mut changes, lifetime);
                }
                // An older entry of the session may be about to be removed.
                if index.was_listed(&login.key) {
                    expect_entry(&mut changes, &login.key, index);
                }
                changes
            }
        };
        put(&mut changes, &login.key, &entry);
        if let Outcome::Committed(index) = store.commit(&root, index.as_ref(), changes).await? {
            if index.listed_count() > login.max_sessions {
                end_oldest(store, &login.user, &index, login.max_sessions).await?;
            }
            return Ok(());
        }
    }
    Err(contended())
}

/// Adds restored sessions to the indexes that lack them. An index may have been saved before its
/// sessions, or not at all. Sessions in `later` have logged in after their index was saved, and
/// after an end in it. Returns the number of sessions that were deleted because there is no room to
/// list them: `end_user` would not find them.
#[cfg(all(feature = "snapshot", unix))]
pub(crate) async fn list_again(
    store: &dyn ErasedStore,
    mut sessions: Vec<(UserKey, Root)>,
    later: &HashSet<Root>,
) -> Result<usize, StoreError> {
    let mut deleted = 0;
    sessions.sort_unstable();
    for sessions in sessions.chunk_by(|(one, _), (other, _)| one == other) {
        let mut index = None;
        for (user, key) in sessions {
            if index.is_none() {
                index = store.load(&index_root(user), None).await?.into_live();
            }
            let is_listed = if later.contains(key) {
                is_listed(store, user, key).await?
            } else {
                // The end of a listed session stays.
                index.as_ref().is_some_and(|index| index.is_listed(key))
            };
            if !is_listed && !list_restored(store, user, key).await? {
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}

/// Returns `false` if there is no room to list the session; it is deleted then.
#[cfg(all(feature = "snapshot", unix))]
async fn list_restored(
    store: &dyn ErasedStore,
    user: &UserKey,
    key: &Root,
) -> Result<bool, StoreError> {
    let found = store.load(key, None).await?.into_live();
    let Some(record) = found.filter(|record| record.user() == Some(*user)) else {
        return Ok(true);
    };
    let login = NewLogin {
        user: *user,
        key: *key,
        label: None,
        absolute_timeout: record.absolute_deadline().since(record.began_at()),
        record,
        max_sessions: usize::MAX,
    };
    if register(store, login).await.is_ok() {
        return Ok(true);
    }
    Ok(!store.delete(key, EndReason::Limit).await?)
}

/// Returns `true` if a session is in the list of a user, and not among those that were ended.
pub(crate) async fn is_listed(
    store: &dyn ErasedStore,
    user: &UserKey,
    key: &Root,
) -> Result<bool, StoreError> {
    let index = store.load(&index_root(user), None).await?.into_live();
    let mut listed = index.iter().flat_map(|index| index.listed());
    Ok(listed.any(|listed| listed.key == *key && !listed.is_ended))
}

/// Ends a session of a user that is not in the list, because all of them were ended.
pub(crate) async fn end_unlisted(
    store: &dyn ErasedStore,
    user: &UserKey,
    key: &Root,
) -> Result<(), StoreError> {
    let record = store.load(key, None).await?.into_live();
    let is_theirs = record.is_some_and(|record| record.user() == Some(*user));
    if is_theirs && !is_listed(store, user, key).await? {
        store.delete(key, EndReason::User).await?;
    }
    Ok(())
}

/// The live sessions of a user, the latest login first.
pub(crate) async fn sessions_of(
    store: &dyn ErasedStore,
    user: UserKey,
) -> Result<Vec<SessionInfo>, StoreError> {
    let Some(index) = store.load(&index_root(&user), None).await?.into_live() else {
        return Ok(Vec::new());
    };
    let (mut live, mut gone, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for batch in index.listed().chunks(BATCH) {
        let mut late = Vec::new();
        for (listed, found) in batch.iter().zip(listed_states(store, &user, batch).await?) {
            match found {
                // All sessions of the user were ended after this login, and this one was not found
                // then: it was on the other side of a partition, for example.
                ListedState::Live(_) if listed.is_ended => late.push(listed.key),
                ListedState::Live(record) => {
                    let label = listed.entry.label.clone();
                    live.push(SessionInfo::new(listed.key, &record, label));
                }
                ListedState::Absent => {}
                ListedState::Expired => gone.push(listed.key),
                ListedState::Moved => moved.push(listed.key),
            }
        }
        delete_all(store, &late, EndReason::User).await?;
        gone.extend(late);
    }
    forget(store, &user, &gone).await;
    forget_moved(store, &user, &moved).await;
    Ok(live)
}

fn contended() -> StoreError {
    StoreError::indeterminate("too many concurrent changes of the user's list of sessions")
}

/// How much longer an index lives than the sessions in it.
const MARGIN: Duration = Duration::from_secs(3_600);

/// How many times a change of an index is retried when others change it, and how many times the
/// index of an ended user is checked for sessions that were added meanwhile.
const TRIES: usize = 8;

#[cfg(all(test, feature = "memory"))]
mod tests;
