//! The object-safe counterpart of [`SessionStore`](crate::SessionStore), so that layers and
//! sessions are not generic.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::StoreError;
use crate::session::{Changes, EndReason, Loaded, Outcome, Record, Root, SecretHash, SessionId};
use crate::watch::SessionWatch;

/// The methods of a [`SessionStore`](crate::SessionStore) with boxed futures. Implemented for every
/// store, in [`boxed`](super::boxed).
pub(crate) trait ErasedStore: Send + Sync + 'static {
    fn new_id(&self) -> SessionId;
    fn load<'a>(&'a self, key: &'a Root, secret: Option<&'a SecretHash>)
    -> StoreFuture<'a, Loaded>;
    fn commit<'a>(
        &'a self,
        key: &'a Root,
        base: Option<&'a Arc<Record>>,
        changes: Changes,
    ) -> StoreFuture<'a, Outcome>;
    fn touch<'a>(&'a self, key: &'a Root) -> StoreFuture<'a, ()>;
    fn delete<'a>(&'a self, key: &'a Root, reason: EndReason) -> StoreFuture<'a, bool>;
    fn watch(&self, key: &Root) -> Option<SessionWatch>;
    fn route(&self, key: &Root) -> Option<String>;
    fn is_divided(&self) -> bool;
}

/// The pending answer of a store.
pub(crate) type StoreFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl fmt::Debug for dyn ErasedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionStore")
    }
}
