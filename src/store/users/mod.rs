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
//! [`end_user`] is ended, or it is in the list afterwards.

mod excess;
mod forget;
mod look_up;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::erased::ErasedStore;
use crate::clock;
use crate::error::StoreError;
use crate::session::{
    Changes, EndReason, IndexEntry, Outcome, Record, Root, SessionInfo, UserKey, expect_entry,
    index_root, new_index, note_end, prolong, put,
};

use excess::end_oldest;
use look_up::{BATCH, Belonging, belonging, delete_all};

pub(crate) use excess::has_room;
pub(crate) use forget::{forget, forget_moved};

/// A login that is to be added to the index.
#[derive(Clone, Debug)]
pub(crate) struct NewLogin {
    pub(crate) user: UserKey,
    pub(crate) key: Root,
    pub(crate) label: Option<String>,
    /// The absolute lifetime of the session.
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

/// Adds sessions whose logins are known to indexes that may be older.
#[cfg(all(feature = "snapshot", unix))]
pub(crate) async fn list_again(
    store: &dyn ErasedStore,
    keys: impl IntoIterator<Item = Root>,
) -> Result<(), StoreError> {
    for key in keys {
        let Some(record) = store.load(&key, None).await?.into_live() else {
            continue;
        };
        let Some(user) = record.user().filter(|_| !record.is_index()) else {
            continue;
        };
        if is_listed(store, &user, &key).await? {
            continue;
        }
        let login = NewLogin {
            user,
            key,
            label: None,
            absolute_timeout: record.absolute_deadline().since(record.began_at()),
            record,
            max_sessions: usize::MAX,
        };
        register(store, login).await?;
    }
    Ok(())
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
        for (listed, found) in batch.iter().zip(belonging(store, &user, batch).await?) {
            match found {
                Belonging::Live(_) if listed.is_ended => late.push(listed.key),
                Belonging::Live(record) => {
                    let label = listed.entry.label.clone();
                    live.push(SessionInfo::new(listed.key, &record, label));
                }
                Belonging::Absent => {}
                Belonging::Over => gone.push(listed.key),
                Belonging::Moved => moved.push(listed.key),
            }
        }
        delete_all(store, &late, EndReason::User).await?;
        gone.extend(late);
    }
    forget(store, &user, &gone).await;
    forget_moved(store, &user, &moved).await;
    Ok(live)
}

/// Ends all sessions of a user except `kept`. Returns their number.
pub(crate) async fn end_user(
    store: &dyn ErasedStore,
    user: UserKey,
    kept: Option<Root>,
) -> Result<usize, StoreError> {
    let root = index_root(&user);
    let mut ended = 0;
    // Their entries stay, and are older than the note: sessions that come to light are ended.
    let mut absent = BTreeSet::new();
    let mut is_noted = false;
    for _ in 0..TRIES {
        let Some(index) = store.load(&root, None).await?.into_live() else {
            if !is_noted && store.is_divided() {
                // The user may have logged in on the other side of a partition, and only there.
                let mut changes = new_index(NOTE_LIFETIME);
                note_end(&mut changes);
                match store.commit(&root, None, changes).await? {
                    Outcome::Committed(_) => return Ok(ended),
                    // A login has created it.
                    Outcome::Conflict(_) | Outcome::Gone | Outcome::Superseded => continue,
                }
            }
            return Ok(ended);
        };
        // After the note only those count that were listed meanwhile, and before it: sessions of
        // later logins could be more each time.
        let mut listed = index.listed();
        listed.retain(|listed| {
            let is_known = absent.contains(&listed.key);
            Some(listed.key) != kept && !is_known && (!is_noted || listed.is_ended)
        });
        // An end is noted in an empty list as well: the other side of a partition may have a login.
        if listed.is_empty() && is_noted {
            return Ok(ended);
        }
        let (mut live, mut others) = (Vec::new(), Vec::new());
        for batch in listed.chunks(BATCH) {
            for (listed, found) in batch.iter().zip(belonging(store, &user, batch).await?) {
                match found {
                    Belonging::Live(_) => live.push(listed.key),
                    Belonging::Absent | Belonging::Over | Belonging::Moved => {
                        others.push(listed.clone());
                    }
                }
            }
        }
        if !is_noted {
            // From here on a copy of the list that comes to light ends what is in it.
            let mut changes = Changes::default();
            note_end(&mut changes);
            let kept = index.listed().into_iter().find(|it| Some(it.key) == kept);
            if let Some(kept) = kept {
                put(&mut changes, &kept.key, &kept.entry);
            }
            store.commit(&root, Some(&index), changes).await?;
            is_noted = true;
        }
        let (mut gone, mut moved, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
        for batch in others.chunks(BATCH) {
            for (listed, found) in batch.iter().zip(belonging(store, &user, batch).await?) {
                match found {
                    // A login as another user may have been taken back before the note.
                    Belonging::Live(_) => live.push(listed.key),
                    Belonging::Absent => unseen.push(listed.key),
                    Belonging::Over => gone.push(listed.key),
                    Belonging::Moved => moved.push(listed.key),
                }
            }
        }
        delete_all(store, &live, EndReason::User).await?;
        ended += live.len();
        gone.extend(live);
        // A concurrent call may have deleted it, and not on all nodes yet.
        let found = delete_all(store, &unseen, EndReason::User).await?;
        ended += found.len();
        gone.extend(found);
        absent.extend(unseen);
        forget(store, &user, &gone).await;
        forget_moved(store, &user, &moved).await;
    }
    if is_noted {
        Ok(ended)
    } else {
        Err(contended())
    }
}

fn contended() -> StoreError {
    StoreError::indeterminate("too many concurrent changes of the user's list of sessions")
}

/// How much longer an index lives than the sessions in it.
const MARGIN: Duration = Duration::from_secs(3_600);

/// How long the end of all sessions is recorded for a user without any: longer than a partition
/// lasts.
const NOTE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How many times a change of an index is retried when others change it, and how many times the
/// index of an ended user is checked for sessions that were added meanwhile.
const TRIES: usize = 8;

#[cfg(all(test, feature = "memory"))]
mod tests;
