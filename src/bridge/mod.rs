//! Stores of this crate as stores of tower-sessions.
//!
//! [`TowerSessions`] wraps any store. tower-sessions writes whole records; the bridge compares each
//! with the one that the same request has loaded ([`bases`]) and commits what differs, attribute by
//! attribute ([`changes`]). An id of tower-sessions is hashed before it reaches the store, and the
//! expiry date becomes an idle timeout, so that nodes whose clocks differ agree about it
//! ([`conversion`]).
//!
//! It does not extend what tower-sessions does: a new id is a new session, and nothing but a save
//! counts as a use.

mod bases;
mod changes;
mod conversion;
mod versions;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::panic;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value as Json;
use tokio::runtime::Handle;
use tracing::warn;

use self::bases::{Base, Bases, MapFingerprint};
use self::conversion::{EncodedRecord, StoreKey, idle_until};
use crate::clock;
use crate::error::StoreError;
use crate::middleware::limits::Limits;
use crate::session::{Changes, EndReason, Loaded, Outcome, Record};
use crate::store::SessionStore;
use crate::store::erased::ErasedStore;

/// A store of this crate as a store of [tower-sessions](https://docs.rs/tower-sessions): for
/// applications that use tower-sessions, axum-login or axum-messages. They change the line that
/// makes their store, and nothing else.
///
/// It implements `SessionStore` and `ExpiredDeletion` of tower-sessions 0.14 (feature
/// `tower-sessions`) and 0.15 (feature `tower-sessions-0-15`).
///
/// ```
/// # #[cfg(all(feature = "memory", feature = "tower-sessions-0-15"))] {
/// use distributable::{MemoryStore, TowerSessions};
/// use tower_sessions::SessionManagerLayer;
///
/// let layer = SessionManagerLayer::new(TowerSessions::new(MemoryStore::new()));
/// # }
/// ```
///
/// Promises:
///
/// - A save writes the attributes that the request has changed, inserted or removed since it loaded
///   the session, and no others. Requests that run at the same time and write different attributes
///   lose nothing. Of two writes of one attribute the later one stays.
/// - A session that has ended stays ended: the save of a slower request is an error.
/// - The store, its files, its peers and the logs have hashes of the ids, and no ids.
/// - A store that fails is an error, never a session that is not there.
///
/// tower-sessions gives a session another id by deleting it and saving a new one, which the bridge
/// cannot distinguish from a logout and a new visit. [Events](crate::SessionStore::events) of the
/// store therefore report `cycle_id` as [`Deleted`](crate::SessionEventKind::Deleted) with
/// [`EndReason::Logout`], followed by [`Created`](crate::SessionEventKind::Created), and never as
/// [`Rotated`](crate::SessionEventKind::Rotated).
///
/// What differs from this crate's own layer is in the guide:
/// [`guide::tower_sessions`](crate::guide::tower_sessions).
#[derive(Clone)]
pub struct TowerSessions {
    store: Arc<dyn ErasedStore>,
    bases: Arc<Bases>,
    limits: Limits,
}

/// The error of an operation, by the kinds of tower-sessions. The text quotes no data.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BridgeError {
    Encode(String),
    Decode(String),
    Backend(String),
}

/// The attributes and the expiry date of a record of tower-sessions.
type RecordParts = (HashMap<String, Json>, SystemTime);

impl TowerSessions {
    /// Sessions live in `store`.
    pub fn new<S: SessionStore>(store: S) -> Self {
        Self {
            store: Arc::new(store),
            bases: Arc::default(),
            limits: Limits::default(),
        }
    }

    /// How large a session may become: saving a larger one is an error, and changes nothing.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Stores a new session. Returns `false` if there is one with this id.
    async fn create(
        &self,
        id: i128,
        data: &HashMap<String, Json>,
        expires_at: SystemTime,
    ) -> Result<bool, BridgeError> {
        let (key, print) = (StoreKey::of(id), MapFingerprint::of(data));
        let content = EncodedRecord::encode(data, expires_at, &self.limits)?;
        let this = self.clone();
        finish(async move { this.create_with(key, print, &content).await }).await
    }

    /// Stores what the request has changed.
    async fn save(
        &self,
        id: i128,
        data: &HashMap<String, Json>,
        expires_at: SystemTime,
    ) -> Result<(), BridgeError> {
        let (key, print) = (StoreKey::of(id), MapFingerprint::of(data));
        let content = EncodedRecord::encode(data, expires_at, &self.limits)?;
        let this = self.clone();
        finish(async move { this.save_with(key, print, content).await }).await
    }

    /// The session, if it is live.
    async fn load(&self, id: i128) -> Result<Option<RecordParts>, BridgeError> {
        let key = StoreKey::of(id);
        let Some(record) = self.fetch(&key).await? else {
            return Ok(None);
        };
        if conversion::has_expired(&record, clock::now()) {
            return Ok(None);
        }
        let loose = conversion::decode(&record)?;
        let print = MapFingerprint::of(&loose.0);
        self.bases.put(key.root, print, Base::loaded(record));
        Ok(Some(loose))
    }

    async fn delete(&self, id: i128) -> Result<(), BridgeError> {
        let (this, key) = (self.clone(), StoreKey::of(id));
        finish(async move { this.end(&key).await }).await
    }

    async fn create_with(
        &self,
        key: StoreKey,
        print: MapFingerprint,
        content: &EncodedRecord,
    ) -> Result<bool, BridgeError> {
        let Some(idle) = idle_until(content.expires_at(), SystemTime::now()) else {
            // It has expired before it was stored.
            return Ok(true);
        };
        let changes = content.creation(&key, idle);
        let outcome = self.commit(&key, None, changes).await?;
        let Outcome::Committed(record) = outcome else {
            return Ok(false);
        };
        let base = Base::saved(record, content.clone());
        self.bases.put(key.root, print, base);
        Ok(true)
    }

    async fn save_with(
        &self,
        key: StoreKey,
        print: MapFingerprint,
        content: EncodedRecord,
    ) -> Result<(), BridgeError> {
        let Some(idle) = idle_until(content.expires_at(), SystemTime::now()) else {
            return self.end(&key).await;
        };
        if let Some(base) = self.bases.get(key.root, print) {
            let changes = content.changes(&key, &base, idle, clock::now());
            let record = match self.commit(&key, Some(base.record()), changes).await? {
                Outcome::Committed(record) => record,
                Outcome::Gone | Outcome::Superseded | Outcome::Conflict(_) => {
                    return Err(BridgeError::Backend(ENDED.to_owned()));
                }
            };
            self.bases
                .put(key.root, print, Base::saved(record, content));
            return Ok(());
        }
        // Not what this node has loaded: the record replaces the one that is there.
        for _ in 0..REPLACE_TRIES_MAX {
            let current = self.fetch(&key).await?.map(Base::loaded);
            let changes = match &current {
                Some(current) => content.changes(&key, current, idle, clock::now()),
                // The request has had the session, which has ended meanwhile.
                None if self.bases.was_dropped(key.root, print) => {
                    return Err(BridgeError::Backend(ENDED.to_owned()));
                }
                None => content.creation(&key, idle),
            };
            let base = current.as_ref().map(Base::record);
            if let Outcome::Committed(record) = self.commit(&key, base, changes).await? {
                self.bases
                    .put(key.root, print, Base::saved(record, content));
                return Ok(());
            }
            // It was created, or has ended, between the two calls.
        }
        Err(BridgeError::Backend(BUSY.to_owned()))
    }

    async fn fetch(&self, key: &StoreKey) -> Result<Option<Arc<Record>>, BridgeError> {
        let loaded = self.store.load(&key.root, Some(&key.hash)).await;
        match loaded.map_err(|error| failed(key, &error))? {
            Loaded::Live(record) => Ok(Some(record)),
            Loaded::Superseded | Loaded::Absent => Ok(None),
        }
    }

    async fn commit(
        &self,
        key: &StoreKey,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, BridgeError> {
        let outcome = self.store.commit(&key.root, base, changes).await;
        outcome.map_err(|error| failed(key, &error))
    }

    async fn end(&self, key: &StoreKey) -> Result<(), BridgeError> {
        let ended = self.store.delete(&key.root, EndReason::Logout).await;
        ended.map(drop).map_err(|error| failed(key, &error))
    }
}

impl fmt::Debug for TowerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessions")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Lets a write run to its end also when the request that has begun it goes away.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, BridgeError>> + Send + 'static,
) -> Result<T, BridgeError> {
    let Ok(runtime) = Handle::try_current() else {
        return work.await;
    };
    match runtime.spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // The runtime is shutting down; how far the store has come is not known.
            Err(error) => Err(BridgeError::Backend(
                StoreError::indeterminate(error).to_string(),
            )),
        },
    }
}

/// Logs the error of a store, whose cause is not for clients, and gives its words.
fn failed(key: &StoreKey, error: &StoreError) -> BridgeError {
    warn!(key = %key.root, cause = error as &dyn Error, "the session store has failed");
    BridgeError::Backend(error.to_string())
}

const ENDED: &str = "the session has ended or expired; what was written is dropped";
const BUSY: &str = "the session was created and ended again and again while it was saved";

/// How often a record that was not loaded here is compared with the stored one, which other
/// requests create and end meanwhile.
const REPLACE_TRIES_MAX: usize = 8;

#[cfg(all(test, feature = "memory"))]
mod tests;
