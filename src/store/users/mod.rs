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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::erased::ErasedStore;
use crate::clock;
use crate::error::StoreError;
use crate::session::{
    Changes, EndReason, IndexEntry, Listed, Outcome, Record, Root, SessionInfo, UserKey,
    index_root, new_index, note_end, prolong, put, remove,
};

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
                changes
            }
        };
        put(&mut changes, &login.key, &entry);
        if let Outcome::Committed(index) = store.commit(&root, index.as_ref(), changes).await? {
            let listed = index.listed();
            if listed.len() > login.max_sessions {
                end_oldest(store, &login.user, listed, login.max_sessions).await?;
            }
            return Ok(());
        }
    }
    Err(StoreError::indeterminate(
        "too many concurrent changes of the user's list of sessions",
    ))
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

/// Takes a session that has ended from the list. What fails is made up for when the entry is met.
pub(crate) async fn forget(store: &dyn ErasedStore, user: &UserKey, keys: &[Root]) {
    let forgotten = async {
        let root = index_root(user);
        let Some(index) = store.load(&root, None).await?.into_live() else {
            return Ok(());
        };
        let mut changes = Changes::default();
        for key in keys {
            remove(&mut changes, key);
        }
        store.commit(&root, Some(&index), changes).await?;
        Ok::<_, StoreError>(())
    };
    if let Err(error) = forgotten.await {
        debug!(
            error = &error as &dyn std::error::Error,
            "ended sessions stay in a user's list"
        );
    }
}

/// The live sessions of a user, the latest login first.
pub(crate) async fn sessions_of(
    store: &dyn ErasedStore,
    user: UserKey,
) -> Result<Vec<SessionInfo>, StoreError> {
    let Some(index) = store.load(&index_root(&user), None).await?.into_live() else {
        return Ok(Vec::new());
    };
    let (mut live, mut gone) = (Vec::new(), Vec::new());
    for listed in index.listed() {
        match belonging(store, &user, &listed).await? {
            Belonging::Live(record) if !listed.is_ended => {
                live.push(SessionInfo::new(listed.key, &record, listed.entry.label));
            }
            Belonging::Live(_) => {
                store.delete(&listed.key, EndReason::User).await?;
                gone.push(listed.key);
            }
            Belonging::Absent => {}
            Belonging::Never => gone.push(listed.key),
        }
    }
    if !gone.is_empty() {
        forget(store, &user, &gone).await;
    }
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
    for round in 0..TRIES {
        let Some(index) = store.load(&root, None).await?.into_live() else {
            return Ok(ended);
        };
        // After the first round only those count that were listed while it was under way, and
        // before its note: sessions of later logins could be more each time.
        let mut listed = index.listed();
        listed.retain(|listed| {
            let is_known = absent.contains(&listed.key);
            Some(listed.key) != kept && !is_known && (round == 0 || listed.is_ended)
        });
        // An end is noted in an empty list as well: the other side of a partition may have a login.
        if listed.is_empty() && round > 0 {
            return Ok(ended);
        }
        let (mut live, mut others) = (Vec::new(), Vec::new());
        for listed in &listed {
            match belonging(store, &user, listed).await? {
                Belonging::Live(_) => live.push(listed.key),
                Belonging::Absent | Belonging::Never => others.push(listed),
            }
        }
        if round == 0 {
            // From here on a copy of the list that comes to light ends what is in it.
            let mut changes = Changes::default();
            note_end(&mut changes);
            let kept = index.listed().into_iter().find(|it| Some(it.key) == kept);
            if let Some(kept) = kept {
                put(&mut changes, &kept.key, &kept.entry);
            }
            store.commit(&root, Some(&index), changes).await?;
        }
        let mut gone = Vec::new();
        for listed in others {
            // A login as another user may have been taken back before the note.
            match belonging(store, &user, listed).await? {
                Belonging::Live(_) => live.push(listed.key),
                Belonging::Absent => _ = absent.insert(listed.key),
                Belonging::Never => gone.push(listed.key),
            }
        }
        for key in &live {
            store.delete(key, EndReason::User).await?;
        }
        ended += live.len();
        gone.extend(live);
        forget(store, &user, &gone).await;
    }
    Ok(ended)
}

/// Ends the sessions above the limit, those with the oldest logins first.
async fn end_oldest(
    store: &dyn ErasedStore,
    user: &UserKey,
    listed: Vec<Listed>,
    max: usize,
) -> Result<(), StoreError> {
    let now = clock::now().as_millis();
    let (mut live, mut gone) = (0, Vec::new());
    for listed in listed {
        let is_over = listed.is_ended || listed.entry.until < now;
        match belonging(store, user, &listed).await? {
            Belonging::Live(_) if !is_over && live < max => live += 1,
            Belonging::Live(_) => {
                let reason = match listed.is_ended {
                    true => EndReason::User,
                    false => EndReason::Limit,
                };
                store.delete(&listed.key, reason).await?;
                gone.push(listed.key);
            }
            Belonging::Absent | Belonging::Never => gone.push(listed.key),
        }
    }
    if !gone.is_empty() {
        forget(store, user, &gone).await;
    }
    Ok(())
}

/// The state of a listed session.
enum Belonging {
    /// It is live, and the user's.
    Live(Arc<Record>),
    /// It is not found here; another node may have it.
    Absent,
    /// It belongs to another user, or its absolute deadline has passed.
    Never,
}

/// A listed session, if it is live and still belongs to the user.
async fn belonging(
    store: &dyn ErasedStore,
    user: &UserKey,
    listed: &Listed,
) -> Result<Belonging, StoreError> {
    Ok(match store.load(&listed.key, None).await?.into_live() {
        Some(record) if record.user() == Some(*user) => Belonging::Live(record),
        None if clock::now().as_millis() < listed.entry.until => Belonging::Absent,
        Some(_) | None => Belonging::Never,
    })
}

/// How much longer an index lives than the sessions in it.
const MARGIN: Duration = Duration::from_secs(3_600);

/// How many times a change of an index is retried when others change it, and how many times the
/// index of an ended user is checked for sessions that were added meanwhile.
const TRIES: usize = 8;

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::{NewLogin, register};
    use crate::error::StoreError;
    use crate::session::{
        Changes, Loaded, Login, Outcome, Record, Root, SecretHash, UserKey, index_root,
    };
    use crate::{MemoryStore, SessionStore};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3_600);

    async fn log_in(store: &MemoryStore, user: &str, max_sessions: usize) -> Root {
        let id = store.new_id();
        let user = UserKey::of(user);
        let mut changes = Changes::create(id.hash(), Some(HOUR), 24 * HOUR);
        changes.log_in(Login {
            user: Some(user),
            absolute_timeout: 24 * HOUR,
        });
        let outcome = store
            .commit(&id.key(), None, changes)
            .await
            .expect("the store answers");
        let Outcome::Committed(record) = outcome else {
            panic!("{outcome:?}")
        };
        let login = NewLogin {
            user,
            key: id.key(),
            label: Some("phone".to_owned()),
            absolute_timeout: 24 * HOUR,
            record,
            max_sessions,
        };
        register(store, login).await.expect("the store answers");
        id.key()
    }

    async fn keys(store: &impl SessionStore, user: &str) -> Vec<Root> {
        let sessions = store.sessions_of(user).await.expect("the store answers");
        sessions.iter().map(|session| session.key).collect()
    }

    #[tokio::test]
    async fn a_users_sessions_are_listed_and_ended_together() {
        let store = MemoryStore::new();
        let ada = [
            log_in(&store, "ada", 9).await,
            log_in(&store, "ada", 9).await,
        ];
        let bob = log_in(&store, "bob", 9).await;
        assert_eq!(store.status().sessions, 3);
        let mut listed = keys(&store, "ada").await;
        listed.sort_unstable();
        let mut expected = ada;
        expected.sort_unstable();
        assert_eq!(listed, expected);
        assert_eq!(
            store
                .end_user_except("ada", ada[1])
                .await
                .expect("the store answers"),
            1
        );
        assert_eq!(keys(&store, "ada").await, [ada[1]]);
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
        assert_eq!(keys(&store, "ada").await, []);
        assert!(
            store
                .peek(&ada[0])
                .await
                .expect("the store answers")
                .is_none()
        );
        assert_eq!(keys(&store, "bob").await, [bob]);
        // A login after that counts.
        let again = log_in(&store, "ada", 9).await;
        assert_eq!(keys(&store, "ada").await, [again]);
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_is_ended_and_what_has_ended_does_not_count() {
        let store = MemoryStore::new();
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(log_in(&store, "ada", 3).await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // One has ended without a change of its index.
        store.delete(&all[1]).await.expect("the store answers");
        all.push(log_in(&store, "ada", 3).await);
        assert_eq!(keys(&store, "ada").await, [all[3], all[2], all[0]]);
        tokio::time::sleep(Duration::from_millis(2)).await;
        all.push(log_in(&store, "ada", 3).await);
        assert_eq!(keys(&store, "ada").await, [all[4], all[3], all[2]]);
        assert!(
            store
                .peek(&all[0])
                .await
                .expect("the store answers")
                .is_none()
        );
    }

    /// A store that does not find one of its sessions for a while.
    struct Parted {
        store: MemoryStore,
        hidden: Mutex<Option<Root>>,
    }

    impl SessionStore for Parted {
        async fn load(
            &self,
            key: &Root,
            secret: Option<&SecretHash>,
        ) -> Result<Loaded, StoreError> {
            let hidden = *self.hidden.lock().expect("no panic");
            match hidden {
                Some(hidden) if hidden == *key => Ok(Loaded::Absent),
                _ => SessionStore::load(&self.store, key, secret).await,
            }
        }

        async fn commit(
            &self,
            key: &Root,
            base: Option<&Arc<Record>>,
            changes: Changes,
        ) -> Result<Outcome, StoreError> {
            SessionStore::commit(&self.store, key, base, changes).await
        }

        async fn touch(&self, key: &Root) -> Result<(), StoreError> {
            SessionStore::touch(&self.store, key).await
        }

        async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
            SessionStore::delete(&self.store, key).await
        }
    }

    #[tokio::test]
    async fn a_session_that_comes_to_light_again_is_in_the_list() {
        let store = Parted {
            store: MemoryStore::new(),
            hidden: Mutex::default(),
        };
        let one = log_in(&store.store, "ada", 9).await;
        *store.hidden.lock().expect("no panic") = Some(one);
        assert_eq!(keys(&store, "ada").await, []);
        *store.hidden.lock().expect("no panic") = None;
        assert_eq!(keys(&store, "ada").await, [one]);
        // All are ended meanwhile: it is ended when it comes to light.
        *store.hidden.lock().expect("no panic") = Some(one);
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
        *store.hidden.lock().expect("no panic") = None;
        assert_eq!(keys(&store, "ada").await, []);
        let found = store.peek(&one).await.expect("the store answers");
        assert!(found.is_none());
    }

    /// On the other side of a partition the user may have logged in meanwhile.
    #[tokio::test]
    async fn the_end_of_a_users_sessions_is_noted_in_an_empty_list_too() {
        let store = MemoryStore::new();
        log_in(&store, "ada", 9).await;
        let ada = UserKey::of("ada");
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
        let read = async || {
            let index = store.load(&index_root(&ada), None).await;
            index
                .expect("the store answers")
                .into_live()
                .expect("the list stays")
        };
        let before = read().await;
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
        assert!(read().await.clock() > before.clock());
    }

    /// A store to which a user logs in twice more whenever one of the sessions is ended.
    struct Busy(MemoryStore);

    impl SessionStore for Busy {
        async fn load(
            &self,
            key: &Root,
            secret: Option<&SecretHash>,
        ) -> Result<Loaded, StoreError> {
            SessionStore::load(&self.0, key, secret).await
        }

        async fn commit(
            &self,
            key: &Root,
            base: Option<&Arc<Record>>,
            changes: Changes,
        ) -> Result<Outcome, StoreError> {
            SessionStore::commit(&self.0, key, base, changes).await
        }

        async fn touch(&self, key: &Root) -> Result<(), StoreError> {
            SessionStore::touch(&self.0, key).await
        }

        async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
            log_in(&self.0, "ada", 999).await;
            log_in(&self.0, "ada", 999).await;
            SessionStore::delete(&self.0, key).await
        }
    }

    #[tokio::test]
    async fn logins_that_come_faster_than_sessions_are_ended_do_not_hold_up_the_end() {
        let store = Busy(MemoryStore::new());
        log_in(&store.0, "ada", 999).await;
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
        assert_eq!(keys(&store.0, "ada").await.len(), 2);
    }

    #[tokio::test]
    async fn the_list_is_no_session() {
        let store = MemoryStore::new();
        log_in(&store, "ada", 9).await;
        let root = index_root(&UserKey::of("ada"));
        for secret in [SecretHash::NONE, SecretHash::from_bytes([1; 16])] {
            let found = store
                .load(&root, Some(&secret))
                .await
                .expect("the store answers");
            assert!(found.into_live().is_none());
        }
        assert!(
            store
                .peek(&root)
                .await
                .expect("the store answers")
                .is_none()
        );
    }
}
