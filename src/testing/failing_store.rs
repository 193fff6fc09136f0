//! A store that fails when a test wants it to.

use std::sync::{Arc, Mutex};

use crate::error::{StoreError, StoreErrorKind};
use crate::events::SessionEvents;
use crate::session::{
    Changes, EndReason, Loaded, Outcome, Record, Root, Scope, SecretHash, SessionCursor, SessionId,
    SessionPage,
};
use crate::store::SessionStore;
use crate::sync::lock;
use crate::watch::SessionWatch;

/// Another store, and errors in its place when a test wants them. Clones fail together.
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
/// use distributable::testing::FailingStore;
/// use distributable::{MemoryStore, Session, SessionError, SessionLayer, StoreErrorKind};
/// use tower::ServiceExt;
///
/// async fn visit(session: Session) -> Result<(), SessionError> {
///     session.insert("visited", &true)
/// }
///
/// let store = FailingStore::new(MemoryStore::new());
/// let app: Router = Router::new()
///     .route("/", get(visit))
///     .layer(SessionLayer::new(store.clone()));
/// let request = || Request::get("/").body(Body::empty());
///
/// store.fail_writes(StoreErrorKind::Unavailable);
/// let response = app.clone().oneshot(request()?).await?;
/// assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
///
/// store.repair();
/// assert_eq!(app.oneshot(request()?).await?.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FailingStore<S> {
    inner: S,
    fault: Arc<Mutex<Option<InjectedFault>>>,
}

#[derive(Clone, Copy, Debug)]
struct InjectedFault {
    kind: StoreErrorKind,
    reads: bool,
}

impl<S: SessionStore> FailingStore<S> {
    /// A store that does what `inner` does, until it is to fail.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            fault: Arc::default(),
        }
    }

    /// From now on every call fails, and changes nothing.
    pub fn fail(&self, kind: StoreErrorKind) {
        self.set(Some(InjectedFault { kind, reads: true }));
    }

    /// From now on calls that change something fail, and change nothing; loads do not.
    pub fn fail_writes(&self, kind: StoreErrorKind) {
        self.set(Some(InjectedFault { kind, reads: false }));
    }

    /// No call fails any more.
    pub fn repair(&self) {
        self.set(None);
    }

    fn set(&self, fault: Option<InjectedFault>) {
        *lock(&self.fault) = fault;
    }

    fn check(&self, is_read: bool) -> Result<(), StoreError> {
        let fault = lock(&self.fault).filter(|fault| fault.reads || !is_read);
        let wanted = "the test wants it to fail";
        match fault.map(|fault| fault.kind) {
            None => Ok(()),
            Some(StoreErrorKind::Unavailable) => Err(StoreError::unavailable(wanted)),
            Some(StoreErrorKind::NotReady) => Err(StoreError::not_ready()),
            Some(StoreErrorKind::Full) => Err(StoreError::full()),
            Some(StoreErrorKind::TooLarge) => Err(StoreError::too_large()),
            Some(StoreErrorKind::Indeterminate) => Err(StoreError::indeterminate(wanted)),
            Some(StoreErrorKind::Corrupt) => Err(StoreError::corrupt(wanted)),
            Some(StoreErrorKind::Unsupported) => Err(StoreError::unsupported()),
            Some(StoreErrorKind::InvalidCursor) => Err(StoreError::invalid_cursor()),
        }
    }
}

impl<S: SessionStore> SessionStore for FailingStore<S> {
    fn new_id(&self) -> SessionId {
        self.inner.new_id()
    }

    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.check(true)?;
        self.inner.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.check(false)?;
        self.inner.commit(key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.check(false)?;
        self.inner.touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.check(false)?;
        self.inner.delete(key).await
    }

    async fn delete_because(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        self.check(false)?;
        self.inner.delete_because(key, reason).await
    }

    fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        self.inner.events(scope)
    }

    async fn list(
        &self,
        scope: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        self.check(true)?;
        self.inner.list(scope, after, limit).await
    }

    fn watch(&self, key: &Root) -> Option<SessionWatch> {
        self.inner.watch(key)
    }

    fn route(&self, key: &Root) -> Option<String> {
        self.inner.route(key)
    }

    fn is_divided(&self) -> bool {
        self.inner.is_divided()
    }
}
