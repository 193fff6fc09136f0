//! The end of all sessions of a user.
//!
//! The end is noted in the user's list first. From then on every login that the list has at that
//! moment counts as ended, also in the list of the other side when a partition heals.
//! Then the listed sessions are deleted, and the list is read again for those that were added
//! before the note. A full store may have no room for the note: then the sessions are deleted
//! first, and the note follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{StoreError, StoreErrorKind};
use crate::session::{
    Changes, EndReason, Listed, Outcome, Record, Root, UserKey, index_root, new_index, note_end,
    put,
};
use crate::store::erased::ErasedStore;
use crate::store::users::forget::{forget, forget_moved};
use crate::store::users::look_up::{BATCH, ListedState, delete_all, listed_states};
use crate::store::users::{TRIES, contended};

/// Ends all sessions of a user except `kept`. Returns their number.
pub(crate) async fn end_user(
    store: &dyn ErasedStore,
    user: UserKey,
    kept: Option<Root>,
) -> Result<usize, StoreError> {
    let root = index_root(&user);
    let mut ended = 0;
    // Their entries stay, and are older than the note: sessions that appear later are ended.
    let mut absent = BTreeSet::new();
    let mut is_noted = false;
    for _ in 0..TRIES {
        let Some(index) = store.load(&root, None).await?.into_live() else {
            if !is_noted && store.is_divided() && !note_in_new_list(store, &root).await? {
                continue;
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
        let (live, others) = divide(store, &user, listed).await?;
        if !is_noted {
            match note(store, &root, &index, kept).await {
                Ok(()) => is_noted = true,
                // A full store has room for the note when the sessions have ended.
                Err(error) if error.kind() == StoreErrorKind::Full && !live.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        ended += end_listed(store, &user, live, others, &mut absent).await?;
    }
    if is_noted {
        Ok(ended)
    } else {
        Err(contended())
    }
}

/// Notes the end in a list that is created for it: the user may have logged in on the other side of
/// a partition, and only there. Returns `false` if a login has created the list meanwhile.
async fn note_in_new_list(store: &dyn ErasedStore, root: &Root) -> Result<bool, StoreError> {
    let mut changes = new_index(NOTE_LIFETIME);
    note_end(&mut changes);
    let outcome = store.commit(root, None, changes).await?;
    Ok(matches!(outcome, Outcome::Committed(_)))
}

/// Notes the end in the list, for every login in it and in any copy of it that is merged later. The
/// session to keep is listed again, after the note.
async fn note(
    store: &dyn ErasedStore,
    root: &Root,
    index: &Arc<Record>,
    kept: Option<Root>,
) -> Result<(), StoreError> {
    let mut changes = Changes::default();
    note_end(&mut changes);
    // In one commit, both get one version, and only entries with an earlier one than the note are
    // ended. In a second commit, the session could be deleted in between.
    let kept = index.listed().into_iter().find(|it| Some(it.key) == kept);
    if let Some(kept) = kept {
        put(&mut changes, &kept.key, &kept.entry);
    }
    store.commit(root, Some(index), changes).await?;
    Ok(())
}

/// Divides the listed sessions into those that are live and the user's, and the others.
async fn divide(
    store: &dyn ErasedStore,
    user: &UserKey,
    listed: Vec<Listed>,
) -> Result<(Vec<Root>, Vec<Listed>), StoreError> {
    let (mut live, mut others) = (Vec::new(), Vec::new());
    for batch in listed.chunks(BATCH) {
        for (listed, found) in batch.iter().zip(listed_states(store, user, batch).await?) {
            match found {
                ListedState::Live(_) => live.push(listed.key),
                ListedState::Absent | ListedState::Expired | ListedState::Moved => {
                    others.push(listed.clone());
                }
            }
        }
    }
    Ok((live, others))
}

/// Deletes listed sessions: those that are `live`, and of the others what was not before the note.
/// Their entries leave the list; those of sessions that are not found stay, and are added to
/// `absent`. Returns the number of sessions that existed.
async fn end_listed(
    store: &dyn ErasedStore,
    user: &UserKey,
    mut live: Vec<Root>,
    others: Vec<Listed>,
    absent: &mut BTreeSet<Root>,
) -> Result<usize, StoreError> {
    let (mut gone, mut moved, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    for batch in others.chunks(BATCH) {
        for (listed, found) in batch.iter().zip(listed_states(store, user, batch).await?) {
            match found {
                // A login as another user may have been rolled back before the note.
                ListedState::Live(_) => live.push(listed.key),
                ListedState::Absent => unseen.push(listed.key),
                ListedState::Expired => gone.push(listed.key),
                ListedState::Moved => moved.push(listed.key),
            }
        }
    }
    delete_all(store, &live, EndReason::User).await?;
    // A concurrent call may have deleted them, and not on all nodes yet.
    let found = delete_all(store, &unseen, EndReason::User).await?;
    let ended = live.len() + found.len();
    gone.extend(live);
    gone.extend(found);
    absent.extend(unseen);
    forget(store, user, &gone).await;
    forget_moved(store, user, &moved).await;
    Ok(ended)
}

/// How long the end of all sessions is recorded for a user without any: longer than a partition
/// lasts.
const NOTE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3_600);
