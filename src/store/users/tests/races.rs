//! Logins and deletions that overtake each other.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{HOUR, keys, log_in};
use crate::error::StoreError;
use crate::session::{
    Changes, Loaded, Login, Outcome, Record, Root, SecretHash, SessionId, UserKey, index_root,
};
use crate::store::users::{NewLogin, forget_moved, has_room, register};
use crate::{MemoryStore, SessionStore};

/// A store that does not find one of its sessions for a while.
struct Parted {
    store: MemoryStore,
    hidden: Mutex<Option<Root>>,
    is_divided: bool,
}

impl SessionStore for Parted {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
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
        let hidden = *self.hidden.lock().expect("no panic");
        match hidden {
            Some(hidden) if hidden == *key => Ok(false),
            _ => SessionStore::delete(&self.store, key).await,
        }
    }

    fn is_divided(&self) -> bool {
        self.is_divided
    }
}

#[tokio::test]
async fn a_session_that_comes_to_light_again_is_in_the_list() {
    let store = Parted {
        store: MemoryStore::new(),
        hidden: Mutex::default(),
        is_divided: false,
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

/// The user may have logged in on the other side of a partition only. The list of this side says
/// so, and the next login here is in it, and not ended.
#[tokio::test]
async fn the_end_of_an_unknown_users_sessions_is_noted_while_nodes_are_missing() {
    for is_divided in [false, true] {
        let store = Parted {
            store: MemoryStore::new(),
            hidden: Mutex::default(),
            is_divided,
        };
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
        let index = store.load(&index_root(&UserKey::of("ada")), None).await;
        let index = index.expect("the store answers").into_live();
        assert_eq!(index.is_some(), is_divided);
        let one = log_in(&store.store, "ada", 9).await;
        assert_eq!(keys(&store, "ada").await, [one]);
        assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
    }
}

/// What is ended when it comes to light takes no place until then.
#[tokio::test]
async fn a_session_that_is_to_be_ended_does_not_count_toward_the_limit() {
    let store = Parted {
        store: MemoryStore::new(),
        hidden: Mutex::default(),
        is_divided: false,
    };
    let one = log_in(&store.store, "ada", 9).await;
    *store.hidden.lock().expect("no panic") = Some(one);
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
    *store.hidden.lock().expect("no panic") = None;
    let next = store.new_id().key();
    let room = has_room(&store, &UserKey::of("ada"), &next, 1).await;
    assert_eq!(room.ok(), Some(true));
}

/// A store that looks for sessions while the end of a user's sessions is under way.
#[derive(Default)]
struct Changing {
    store: MemoryStore,
    /// It is not found by loads: another deletion of it is under way.
    fading: Mutex<Option<Root>>,
    /// It gets its former credential back when the list is written next: a login is rolled back.
    returning: Mutex<Option<(Root, Arc<Record>)>>,
}

impl SessionStore for Changing {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        if *self.fading.lock().expect("no panic") == Some(*key) {
            return Ok(Loaded::Absent);
        }
        SessionStore::load(&self.store, key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let returning = self.returning.lock().expect("no panic").take();
        if let Some((session, before)) = returning {
            roll_back(&self.store, session, &before).await;
        }
        SessionStore::commit(&self.store, key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        SessionStore::touch(&self.store, key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        SessionStore::delete(&self.store, key).await
    }
}

/// Gives a session the secret and the user that it had `before`.
async fn roll_back(store: &MemoryStore, key: Root, before: &Record) {
    let loaded = SessionStore::load(store, &key, None).await;
    let current = loaded.expect("the store answers").into_live();
    let current = current.expect("it is live");
    let mut changes = Changes::default();
    changes.rotate(current.credential.hash, before.credential.hash);
    changes.log_in(Login {
        user: before.user(),
        absolute_timeout: 24 * HOUR,
    });
    let outcome = SessionStore::commit(store, &key, Some(&current), changes).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))));
}

/// The session is another user's when it is looked at first, and Ada's before the end is noted.
#[tokio::test]
async fn a_session_whose_login_as_another_user_is_taken_back_is_ended() {
    let store = Changing::default();
    let key = log_in(&store.store, "ada", 9).await;
    let before = store.peek(&key).await.expect("the store answers");
    let before = before.expect("it is live");
    log_in_again(&store.store, "bob", key).await;
    *store.returning.lock().expect("no panic") = Some((key, before));
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
    let found = store.peek(&key).await.expect("the store answers");
    assert!(found.is_none());
}

/// Another call deletes it, and not all nodes have acknowledged that.
#[tokio::test]
async fn a_session_that_is_being_deleted_is_deleted_by_the_end_as_well() {
    let store = Changing::default();
    let key = log_in(&store.store, "ada", 9).await;
    *store.fading.lock().expect("no panic") = Some(key);
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
    *store.fading.lock().expect("no panic") = None;
    let found = store.peek(&key).await.expect("the store answers");
    assert!(found.is_none());
}

/// A store to which a user logs in twice more whenever one of the sessions is ended.
struct Busy(MemoryStore);

impl SessionStore for Busy {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
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

/// Logs a user in to a session that exists.
async fn log_in_again(store: &MemoryStore, user: &str, key: Root) {
    let user = UserKey::of(user);
    let loaded = SessionStore::load(store, &key, None).await;
    let before = loaded
        .expect("the store answers")
        .into_live()
        .expect("it is live");
    let mut changes = Changes::default();
    changes.rotate(before.credential.hash, SessionId::with_root(key).hash());
    changes.log_in(Login {
        user: Some(user),
        absolute_timeout: 24 * HOUR,
    });
    let outcome = SessionStore::commit(store, &key, Some(&before), changes).await;
    let Outcome::Committed(record) = outcome.expect("the store answers") else {
        panic!("it was not rotated")
    };
    let login = NewLogin {
        user,
        key,
        label: None,
        absolute_timeout: 24 * HOUR,
        record,
        max_sessions: 9,
    };
    register(store, login).await.expect("the store answers");
}

/// A store in which a user logs in to a session right after it was loaded, once.
pub(super) struct Overtaken {
    pub(super) store: MemoryStore,
    next: Mutex<Option<(Root, &'static str)>>,
    pub(super) loads: AtomicUsize,
}

impl Overtaken {
    pub(super) fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            next: Mutex::default(),
            loads: AtomicUsize::new(0),
        }
    }
}

impl SessionStore for Overtaken {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.loads.fetch_add(1, Relaxed);
        let found = SessionStore::load(&self.store, key, secret).await;
        let next = self
            .next
            .lock()
            .expect("no panic")
            .take_if(|next| next.0 == *key);
        if let Some((key, user)) = next {
            log_in_again(&self.store, user, key).await;
        }
        found
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
async fn a_late_removal_leaves_the_entry_of_a_newer_login() {
    let ada = UserKey::of("ada");
    // The session is Ada's again when the removal begins.
    let store = Overtaken::new();
    let key = log_in(&store.store, "ada", 9).await;
    log_in_again(&store.store, "bob", key).await;
    log_in_again(&store.store, "ada", key).await;
    forget_moved(&store, &ada, &[key]).await;
    assert_eq!(keys(&store, "ada").await, [key]);
    // It becomes hers between the look at the session and the removal of its entry.
    log_in_again(&store.store, "bob", key).await;
    *store.next.lock().expect("no panic") = Some((key, "ada"));
    forget_moved(&store, &ada, &[key]).await;
    assert_eq!(keys(&store, "ada").await, [key]);
    // Without a newer login the entry goes.
    log_in_again(&store.store, "bob", key).await;
    forget_moved(&store, &ada, &[key]).await;
    let loaded = store.store.load(&index_root(&ada), None).await;
    let index = loaded
        .expect("the store answers")
        .into_live()
        .expect("it stays");
    assert!(!index.is_listed(&key));
    assert_eq!(keys(&store, "bob").await, [key]);
}
