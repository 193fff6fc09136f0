//! The list of sessions in some of the slots.

use crate::session::{PageBuilder, Root, SLOTS, SessionPage, Timestamp};

use super::Table;

impl Table {
    /// The page after this session, of the slots for which `is_wanted` returns `true`. One slot is
    /// locked at a time.
    pub(crate) fn list(
        &self,
        now: Timestamp,
        after: Option<Root>,
        limit: usize,
        is_wanted: impl Fn(usize) -> bool,
    ) -> SessionPage {
        let mut page = PageBuilder::new(after, limit);
        for at in (page.first_slot()..SLOTS).filter(|slot| is_wanted(*slot)) {
            let slot = self.lock(at);
            let due = slot.entries.iter();
            let due = due.filter(|(key, _)| page.is_due(key) && !key.is_index());
            let live = due.filter_map(|(key, entry)| Some((*key, entry.live(now)?.clone())));
            let found: Vec<_> = live.collect();
            drop(slot);
            if !page.add(found) {
                break;
            }
        }
        page.finish()
    }
}
