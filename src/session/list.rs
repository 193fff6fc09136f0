//! Pages of the list of sessions.

use std::fmt;
#[cfg(any(feature = "memory", feature = "replicated"))]
use std::sync::Arc;

use super::SessionInfo;
#[cfg(any(feature = "memory", feature = "replicated"))]
use super::{Record, Root};

/// Which sessions a [list](crate::SessionStore::list) has.
///
/// A memory store and a Redis store have one list, with both scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListScope {
    /// Those that this node owns: the lists of all nodes together have each session once.
    Node,
    /// Those of the whole cluster.
    Cluster,
}

/// A part of the list of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions, without [labels](SessionInfo::label): these are in the lists of users only.
    /// There may be fewer than requested, even none, before the list ends.
    pub sessions: Vec<SessionInfo>,
    /// Where the next page begins; `None` at the end of the list.
    pub next: Option<SessionCursor>,
}

impl SessionPage {
    /// The largest number of sessions in a page; a larger limit counts as this.
    pub const LIMIT_MAX: usize = 1_000;

    /// Creates a page, for a store of your own.
    #[must_use]
    pub const fn new(sessions: Vec<SessionInfo>, next: Option<SessionCursor>) -> Self {
        Self { sessions, next }
    }
}

/// A place in the list of sessions, between two pages.
///
/// As text it can be passed to a client, in a link to the next page, and back. It has no secrets,
/// and means something to the store only that has returned it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionCursor(Box<str>);

impl SessionCursor {
    /// The maximum length of the text.
    pub const TEXT_MAX: usize = 512;

    /// Parses the text that `Display` shows: at most [`TEXT_MAX`](Self::TEXT_MAX) visible ASCII
    /// characters. The store rejects a text that it has not made.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = (1..=Self::TEXT_MAX).contains(&text.len());
        (is_plain && fits).then(|| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A page in progress, of a list in the order of slots and, within a slot, of keys.
#[cfg(any(feature = "memory", feature = "replicated"))]
#[derive(Debug)]
pub(crate) struct PageBuilder {
    after: Option<Root>,
    limit: usize,
    sessions: Vec<SessionInfo>,
}

#[cfg(any(feature = "memory", feature = "replicated"))]
impl PageBuilder {
    /// Begins a page after this session.
    pub(crate) fn new(after: Option<Root>, limit: usize) -> Self {
        Self {
            after,
            limit: limit.clamp(1, SessionPage::LIMIT_MAX),
            sessions: Vec::new(),
        }
    }

    /// The first slot of the page.
    pub(crate) fn first_slot(&self) -> usize {
        self.after.map_or(0, |after| after.slot())
    }

    /// Returns `true` if the key is not on an earlier page.
    pub(crate) fn is_due(&self, key: &Root) -> bool {
        self.after
            .is_none_or(|after| (key.slot(), *key) > (after.slot(), after))
    }

    /// Adds the sessions of the next slot, in any order. Returns `false` when the page is full.
    pub(crate) fn add(&mut self, mut sessions: Vec<(Root, Arc<Record>)>) -> bool {
        sessions.sort_unstable_by_key(|(key, _)| *key);
        let room = self.limit - self.sessions.len();
        let added = sessions.iter().take(room);
        self.sessions
            .extend(added.map(|(key, record)| SessionInfo::new(*key, record, None)));
        self.sessions.len() < self.limit
    }

    /// The page, when it is full or there are no more slots.
    pub(crate) fn finish(self) -> SessionPage {
        let is_full = self.sessions.len() >= self.limit;
        let last = self.sessions.last().filter(|_| is_full);
        let next = last.map(|last| SessionCursor(last.key.to_string().into()));
        SessionPage {
            sessions: self.sessions,
            next,
        }
    }
}

#[cfg(any(feature = "memory", feature = "replicated"))]
impl SessionCursor {
    /// The last session of the earlier pages; `None` if this is the cursor of another store.
    pub(crate) fn root(&self) -> Option<Root> {
        Root::parse(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_its_text_and_no_other_text_is_one() {
        let cursor = SessionCursor::parse("3f.7:127.0.0.1:6379").expect("it is plain");
        assert_eq!(SessionCursor::parse(&cursor.to_string()), Some(cursor));
        let long = "x".repeat(SessionCursor::TEXT_MAX + 1);
        for bad in ["", "a b", "\0", "é", &long] {
            assert_eq!(SessionCursor::parse(bad), None, "{bad:?}");
        }
    }
}
