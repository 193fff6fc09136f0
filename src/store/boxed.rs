//! [`ErasedStore`] for every [`SessionStore`]: the same methods, their futures boxed.
//!
//! No other file imports this one. The provided methods of [`SessionStore`] call functions that
//! take an erased store, so [`erased`](super::erased) must not need [`SessionStore`] in turn.

use std::sync::Arc;

use crate::session::{Changes, EndReason, Loaded, Outcome, Record, Root, SecretHash, SessionId};
use crate::store::SessionStore;
use crate::store::erased::{ErasedStore, StoreFuture};
use crate::watch::SessionWatch;

impl<S: SessionStore> ErasedStore for S {
    fn new_id(&self) -> SessionId {
        SessionStore::new_id(self)
    }

    fn load<'a>(
        &'a self,
        key: &'a Root,
        secret: Option<&'a SecretHash>,
    ) -> StoreFuture<'a, Loaded> {
        Box::pin(SessionStore::load(self, key, secret))
    }

    fn commit<'a>(
        &'a self,
        key: &'a Root,
        base: Option<&'a Arc<Record>>,
        changes: Changes,
    ) -> StoreFuture<'a, Outcome> {
        Box::pin(SessionStore::commit(self, key, base, changes))
    }

    fn touch<'a>(&'a self, key: &'a Root) -> StoreFuture<'a, ()> {
        Box::pin(SessionStore::touch(self, key))
    }

    fn delete<'a>(&'a self, key: &'a Root, reason: EndReason) -> StoreFuture<'a, bool> {
        Box::pin(SessionStore::delete_because(self, key, reason))
    }

    fn watch(&self, key: &Root) -> Option<SessionWatch> {
        SessionStore::watch(self, key)
    }

    fn route(&self, key: &Root) -> Option<String> {
        SessionStore::route(self, key)
    }

    fn is_divided(&self) -> bool {
        SessionStore::is_divided(self)
    }
}
