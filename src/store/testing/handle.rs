//! [`Handle`]: a store under test without its type, so that the rules are compiled once, with this
//! crate, and not again for every store in every program of tests.

use std::pin::Pin;
use std::sync::Arc;

use crate::error::SessionError;
use crate::session::attribute::Attribute;
use crate::session::{Record, Root, Scope, SessionCursor, SessionInfo, SessionPage, UserKey};
use crate::store::SessionStore;
use crate::store::erased::{ErasedStore, StoreFuture};

/// A store under test.
pub(super) type Handle = Arc<dyn Tested>;

/// The methods of a [`SessionStore`] that the rules call and [`ErasedStore`] does not have.
pub(super) trait Tested: ErasedStore {
    /// [`SessionStore::delete`]; the method of that name in [`ErasedStore`] is
    /// [`SessionStore::delete_because`].
    fn end<'a>(&'a self, key: &'a Root) -> StoreFuture<'a, bool>;
    fn list<'a>(
        &'a self,
        scope: Scope,
        after: Option<&'a SessionCursor>,
        limit: usize,
    ) -> StoreFuture<'a, SessionPage>;
    fn peek<'a>(&'a self, key: &'a Root) -> StoreFuture<'a, Option<Arc<Record>>>;
    fn sessions_of(&self, user: UserKey) -> StoreFuture<'_, Vec<SessionInfo>>;
    fn end_user(&self, user: UserKey) -> StoreFuture<'_, usize>;
    fn end_user_except(&self, user: UserKey, kept: Root) -> StoreFuture<'_, usize>;
    fn update<'a>(
        &'a self,
        key: &'a Root,
        name: Attribute<u32>,
        f: fn(Option<u32>) -> u32,
    ) -> Updated<'a, Option<u32>>;
    fn try_update<'a>(
        &'a self,
        key: &'a Root,
        name: Attribute<u32>,
        f: fn(Option<u32>) -> Result<u32, &'static str>,
    ) -> Updated<'a, Result<Option<u32>, &'static str>>;
}

/// The pending answer to an update.
pub(super) type Updated<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionError>> + Send + 'a>>;

impl<S: SessionStore> Tested for S {
    fn end<'a>(&'a self, key: &'a Root) -> StoreFuture<'a, bool> {
        Box::pin(SessionStore::delete(self, key))
    }

    fn list<'a>(
        &'a self,
        scope: Scope,
        after: Option<&'a SessionCursor>,
        limit: usize,
    ) -> StoreFuture<'a, SessionPage> {
        Box::pin(SessionStore::list(self, scope, after, limit))
    }

    fn peek<'a>(&'a self, key: &'a Root) -> StoreFuture<'a, Option<Arc<Record>>> {
        Box::pin(SessionStore::peek(self, key))
    }

    fn sessions_of(&self, user: UserKey) -> StoreFuture<'_, Vec<SessionInfo>> {
        Box::pin(SessionStore::sessions_of(self, user))
    }

    fn end_user(&self, user: UserKey) -> StoreFuture<'_, usize> {
        Box::pin(SessionStore::end_user(self, user))
    }

    fn end_user_except(&self, user: UserKey, kept: Root) -> StoreFuture<'_, usize> {
        Box::pin(SessionStore::end_user_except(self, user, kept))
    }

    fn update<'a>(
        &'a self,
        key: &'a Root,
        name: Attribute<u32>,
        f: fn(Option<u32>) -> u32,
    ) -> Updated<'a, Option<u32>> {
        Box::pin(SessionStore::update(self, key, name, f))
    }

    fn try_update<'a>(
        &'a self,
        key: &'a Root,
        name: Attribute<u32>,
        f: fn(Option<u32>) -> Result<u32, &'static str>,
    ) -> Updated<'a, Result<Option<u32>, &'static str>> {
        Box::pin(SessionStore::try_update(self, key, name, f))
    }
}
