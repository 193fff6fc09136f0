//! The smallest store: for unit tests that need a session without an application.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock;
use crate::error::StoreError;
use crate::middleware::carrier::IdPlacement;
use crate::middleware::layer::SessionLayer;
use crate::middleware::request::RequestSession;
use crate::middleware::session::Session;
use crate::middleware::state::PresentedSessions;
use crate::session::{Changes, Loaded, Outcome, Record, Root, SecretHash};
use crate::store::SessionStore;
use crate::sync::lock;

/// A map and a lock. It never removes expired sessions, because it is short-lived.
#[derive(Debug, Default)]
struct TestStore(Mutex<TestSessions>);

type TestSessions = BTreeMap<Root, Arc<Record>>;

impl TestStore {
    fn sessions(&self) -> MutexGuard<'_, TestSessions> {
        lock(&self.0)
    }
}

impl SessionStore for TestStore {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let record = self.sessions().get(key).cloned();
        Ok(record.map_or(Loaded::Absent, |record| record.loaded(secret, clock::now())))
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let mut sessions = self.sessions();
        let base = base.map(Arc::as_ref);
        let outcome = changes.apply(sessions.get(key), base, clock::now());
        if let Outcome::Committed(record) = &outcome {
            sessions.insert(*key, record.clone());
        }
        Ok(outcome)
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        if let Some(record) = self.sessions().get_mut(key) {
            Arc::make_mut(record).touch(clock::now());
        }
        Ok(())
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        let record = self.sessions().remove(key);
        Ok(record.is_some_and(|record| record.is_live(clock::now())))
    }
}

impl Session {
    /// Creates a new session in a store of its own, for unit tests of handlers. Needs the feature
    /// `testing`.
    #[must_use]
    pub fn for_test() -> Self {
        let session =
            RequestSession::new(SessionLayer::new(TestStore::default()).into_config(), None);
        let placement = IdPlacement::default();
        session.state().load(PresentedSessions::None, placement);
        Self::of(session)
    }
}
