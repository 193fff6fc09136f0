//! What a handler holds.
#![allow(clippy::todo, unused_variables, clippy::unused_async, clippy::needless_pass_by_value)]

use std::time::Duration;

use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::SessionError;
use super::{AttributeName, AttributeOf, Persistence, Storable};
use crate::session::{SessionId, SessionKey, Timestamp};

/// A visitor's session, as one request sees it.
#[derive(Clone, Debug)]
pub struct Session {}

impl Session {
    /// The session of the request with this head: what the axum extractor calls, for everybody
    /// else.
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        todo!()
    }

    /// A session without layer and store, to call a handler with in its unit tests.
    #[must_use]
    pub fn for_test() -> Self {
        todo!()
    }

    /// Reads an attribute; `None` when there is none of that name.
    pub fn get<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        todo!()
    }

    /// Writes an attribute; the first write creates the session.
    pub fn insert<T: Storable + ?Sized>(
        &self,
        name: impl AttributeOf<T>,
        value: &T,
    ) -> Result<(), SessionError> {
        todo!()
    }

    /// Removes an attribute; says whether there was one.
    pub fn remove(&self, name: impl AttributeName) -> Result<bool, SessionError> {
        todo!()
    }

    /// Whether there is such an attribute.
    #[must_use]
    pub fn contains(&self, name: impl AttributeName) -> bool {
        todo!()
    }

    /// The names of all attributes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        todo!()
    }

    /// Removes all attributes.
    pub fn clear(&self) -> Result<(), SessionError> {
        todo!()
    }

    /// Reads an attribute, changes it and writes it, as one step among all nodes.
    pub async fn update<T>(
        &self,
        name: impl AttributeOf<T>,
        f: impl FnMut(Option<T>) -> T + Send,
    ) -> Result<T, SessionError>
    where
        T: Storable + DeserializeOwned + Send,
    {
        todo!()
    }

    /// Gives the session a new id.
    pub fn cycle_id(&self) -> Result<(), SessionError> {
        todo!()
    }

    /// Ends the session at once; says whether there was one.
    pub async fn invalidate(&self) -> Result<bool, SessionError> {
        todo!()
    }

    /// Stores what was changed so far.
    pub async fn save(&self) -> Result<(), SessionError> {
        todo!()
    }

    /// Loads the session again; changes that are not stored yet stay.
    pub async fn reload(&self) -> Result<(), SessionError> {
        todo!()
    }

    /// The session's id, without route. **A secret.**
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        todo!()
    }

    /// The id with this node's route, as the cookie has it. **A secret.**
    #[must_use]
    pub fn routed_id(&self) -> Option<String> {
        todo!()
    }

    /// The name under which logs and stores know the session.
    #[must_use]
    pub fn key(&self) -> Option<SessionKey> {
        todo!()
    }

    /// Whether there is a session, or will be once this request's changes are stored.
    #[must_use]
    pub fn exists(&self) -> bool {
        todo!()
    }

    /// Whether the browser has not come back with this session yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        todo!()
    }

    /// When the session was created; `None` while it is not stored.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        todo!()
    }

    /// The last access that was recorded before this request.
    #[must_use]
    pub fn last_accessed_at(&self) -> Option<Timestamp> {
        todo!()
    }

    /// How long the session may pause between two requests; `None`: no limit.
    #[must_use]
    pub fn max_inactive_interval(&self) -> Option<Duration> {
        todo!()
    }

    /// Sets how long the session may pause between two requests; `None`: no limit.
    pub fn set_max_inactive_interval(&self, idle: Option<Duration>) -> Result<(), SessionError> {
        todo!()
    }

    /// Sets how long the browser keeps the cookie.
    pub fn set_persistence(&self, persistence: Persistence) -> Result<(), SessionError> {
        todo!()
    }

    /// A handle whose writes after the response count, once its own `save` has stored them.
    #[must_use]
    pub fn detached(&self) -> Self {
        todo!()
    }
}
