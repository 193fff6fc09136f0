//! The list of sessions.

use crate::clock;
use crate::session::{PageBuilder, Root, SLOTS, SessionPage};
use crate::store::memory::MemoryShared;

impl MemoryShared {
    /// The page after this session. One slot is locked at a time.
    pub(super) fn list(&self, after: Option<Root>, limit: usize) -> SessionPage {
        let now = clock::now();
        let mut page = PageBuilder::new(after, limit);
        for at in page.first_slot()..SLOTS {
            let slot = self.lock(at);
            let wanted = slot
                .sessions
                .iter()
                .filter(|(key, record)| page.is_due(key) && !key.is_index() && record.is_live(now));
            let found: Vec<_> = wanted.map(|(key, record)| (*key, record.clone())).collect();
            drop(slot);
            if !page.add(found) {
                break;
            }
        }
        page.finish(None).into()
    }
}
