//! Pages of the list of sessions.

use std::fmt;
#[cfg(any(feature = "memory", feature = "replicated"))]
use std::sync::Arc;

use serde::Serialize;

use crate::session::SessionInfo;
#[cfg(any(feature = "memory", feature = "replicated"))]
use crate::session::{Record, Root};

/// A part of the list of sessions. A handler can answer with it as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions, without [labels](SessionInfo::label): these are in the lists of users only.
    /// There may be fewer than requested, even none, before the list ends, and some more with
    /// `RedisStore`.
    pub sessions: Vec<SessionInfo>,
    /// Where the next page begins; `None` at the end of the list.
    pub next: Option<SessionCursor>,
}

impl SessionPage {
    /// The largest number of sessions to request for a page; a larger limit counts as this.
    pub const LIMIT_MAX: usize = 1_000;

    /// Creates a page, for a store of your own.
    #[must_use]
    pub const fn new(sessions: Vec<SessionInfo>, next: Option<SessionCursor>) -> Self {
        Self { sessions, next }
    }
}

/// A place in the list of sessions, between two pages.
///
/// As text, also when serialized, it can be passed to a client, in a link to the next page, and
/// back. It has no secrets, and means something to the store only that has returned it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
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

/// A part of a list in the order of slots and, within a slot, of keys: the sessions up to a place.
#[cfg(any(feature = "memory", feature = "replicated"))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListPart {
    pub(crate) sessions: Vec<SessionInfo>,
    /// The last place that it covers; `None`: everything to the end of the list.
    pub(crate) through: Option<Root>,
}

#[cfg(feature = "replicated")]
impl ListPart {
    /// Returns the part that has everything up to the nearest of the places of these parts, with at
    /// most `limit` sessions.
    pub(crate) fn merged(parts: impl IntoIterator<Item = Self>, limit: usize) -> Self {
        let mut all = Self::default();
        for part in parts {
            let places = [all.through, part.through].into_iter().flatten();
            all.through = places.min_by_key(Root::place);
            all.sessions.extend(part.sessions);
        }
        let through = all.through;
        let is_covered = |key: Root| through.is_none_or(|place| key.place() <= place.place());
        all.sessions.retain(|info| is_covered(info.key));
        all.sessions.sort_unstable_by_key(|info| info.key.place());
        all.sessions.dedup_by_key(|info| info.key);
        if all.sessions.len() > limit {
            all.sessions.truncate(limit);
            all.through = all.sessions.last().map(|last| last.key);
        }
        all
    }
}

#[cfg(any(feature = "memory", feature = "replicated"))]
impl From<ListPart> for SessionPage {
    fn from(part: ListPart) -> Self {
        let through = part.through.map(|place| place.to_string());
        Self::new(
            part.sessions,
            through.map(|text| SessionCursor(text.into())),
        )
    }
}

/// A part in progress.
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
        self.after.map_or(0, |after| {
            let is_end = after == Root::last_of(after.slot());
            after.slot() + usize::from(is_end)
        })
    }

    /// Returns `true` if the key is not on an earlier page.
    pub(crate) fn is_due(&self, key: &Root) -> bool {
        self.after.is_none_or(|after| key.place() > after.place())
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

    /// The part, when it is full or all slots up to the end of the list, or to this place, have
    /// been added.
    pub(crate) fn finish(self, end: Option<Root>) -> ListPart {
        let is_full = self.sessions.len() >= self.limit;
        let last = self.sessions.last().filter(|_| is_full);
        ListPart {
            through: last.map(|last| last.key).or(end),
            sessions: self.sessions,
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
