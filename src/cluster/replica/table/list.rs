//! The list of sessions in some of the slots.

use crate::session::{ListPart, PageBuilder, Root, SLOTS, Timestamp};

use crate::cluster::replica::table::EntryTable;

impl EntryTable {
    /// Returns the part after this place, from at most `slots` slots of those for which `is_wanted`
    /// returns `true`. One slot is locked at a time.
    pub(crate) fn list(
        &self,
        now: Timestamp,
        after: Option<Root>,
        slots: usize,
        limit: usize,
        is_wanted: impl Fn(usize) -> bool,
    ) -> ListPart {
        let mut page = PageBuilder::new(after, limit);
        let end = page.first_slot().saturating_add(slots.max(1)).min(SLOTS);
        for at in (page.first_slot()..end).filter(|slot| is_wanted(*slot)) {
            let slot = self.lock(at);
            let found: Vec<_> = slot
                .entries
                .iter()
                .filter(|(key, _)| page.is_due(key) && !key.is_index())
                .filter_map(|(key, entry)| Some((*key, entry.live(now)?.clone())))
                .collect();
            drop(slot);
            if !page.add(found) {
                break;
            }
        }
        page.finish((end < SLOTS).then(|| Root::last_of(end - 1)))
    }
}
