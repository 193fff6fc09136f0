//! The limit of a user's sessions.

use tracing::info;

use crate::clock;
use crate::error::StoreError;
use crate::session::{EndReason, Record, Root, UserKey, index_root};
use crate::store::erased::ErasedStore;
use crate::store::users::forget::{forget, forget_moved};
use crate::store::users::look_up::{BATCH, ListedState, delete_all, listed_states};

/// Returns `true` if a user may log in to the session `key` without having more than `max` live
/// sessions.
pub(crate) async fn has_room(
    store: &dyn ErasedStore,
    user: &UserKey,
    key: &Root,
    max: usize,
) -> Result<bool, StoreError> {
    let Some(index) = store.load(&index_root(user), None).await?.into_live() else {
        return Ok(true);
    };
    if index.listed_count() < max {
        return Ok(true);
    }
    let mut others = index.listed();
    others.retain(|listed| listed.key != *key && !listed.is_ended);
    // Those that have to turn out to have ended: more often the ones with the oldest logins.
    let mut excess = (others.len() + 1).saturating_sub(max);
    others.reverse();
    let (mut gone, mut moved) = (Vec::new(), Vec::new());
    for batch in others.chunks(BATCH) {
        if excess == 0 {
            break;
        }
        for (listed, found) in batch.iter().zip(listed_states(store, user, batch).await?) {
            match found {
                ListedState::Live(_) => continue,
                // The list is full. With entries of sessions that are not found, it would be too
                // long after the login, which would end the oldest sessions.
                ListedState::Absent | ListedState::Expired => gone.push(listed.key),
                ListedState::Moved => moved.push(listed.key),
            }
            excess = excess.saturating_sub(1);
        }
    }
    forget(store, user, &gone).await;
    forget_moved(store, user, &moved).await;
    Ok(excess == 0)
}

/// Ends the sessions above the limit, those with the oldest logins first. Sessions that have ended
/// by themselves do not count, as far as they are found among the [`OLDEST_MAX`] oldest logins.
pub(super) async fn end_oldest(
    store: &dyn ErasedStore,
    user: &UserKey,
    index: &Record,
    max: usize,
) -> Result<(), StoreError> {
    let now = clock::now().as_millis();
    let mut listed = index.listed();
    let mut excess = listed.len().saturating_sub(max);
    listed.reverse();
    let (mut live, mut over, mut late) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gone, mut moved) = (Vec::new(), Vec::new());
    for (number, batch) in listed.chunks(BATCH).enumerate() {
        let is_enough = number * BATCH >= OLDEST_MAX && live.len() >= excess;
        if excess == 0 || is_enough {
            break;
        }
        for (listed, found) in batch.iter().zip(listed_states(store, user, batch).await?) {
            match found {
                ListedState::Live(_) if listed.is_ended => late.push(listed.key),
                ListedState::Live(_) if listed.entry.until < now => over.push(listed.key),
                ListedState::Live(_) => {
                    live.push(listed.key);
                    continue;
                }
                // The list is too long: entries of sessions that are not found would keep it so
                // until their deadlines.
                ListedState::Absent | ListedState::Expired => gone.push(listed.key),
                ListedState::Moved => moved.push(listed.key),
            }
            excess = excess.saturating_sub(1);
        }
    }
    live.truncate(excess);
    over.extend(live);
    if !over.is_empty() {
        info!(
            limit = max,
            sessions = over.len(),
            "a user has too many sessions: the oldest are deleted"
        );
    }
    delete_all(store, &late, EndReason::User).await?;
    delete_all(store, &over, EndReason::Limit).await?;
    gone.extend([late, over].concat());
    forget(store, user, &gone).await;
    forget_moved(store, user, &moved).await;
    Ok(())
}

/// How many of the oldest logins are looked at for sessions that have ended by themselves, when a
/// user has too many: a login takes this many loads at most, for any limit.
pub(super) const OLDEST_MAX: usize = 64;
