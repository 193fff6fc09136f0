//! Pages of the list of sessions, for callers of the store.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::error::{StoreError, StoreErrorKind};
use crate::session::{ListPart, Root, Scope, SessionCursor, SessionPage};

use crate::cluster::handle::{ClusterHandle, out_of_reach, refused};
use crate::cluster::replica::event::{Progress, Reply};

impl ClusterHandle {
    /// Returns a page of the sessions that this node owns, or of all.
    pub(crate) async fn list(
        &self,
        scope: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        let mut after = match after.map(SessionCursor::root) {
            Some(None) => return Err(StoreError::invalid_cursor()),
            Some(after) => after,
            None => None,
        };
        let limit = limit.clamp(1, SessionPage::LIMIT_MAX);
        let mut page = ListPart::default();
        let began = Instant::now();
        // Owners look at some of their slots only for one response.
        for round in 1..=ROUNDS_MAX {
            let rest = limit - page.sessions.len();
            let part = match self.list_part(scope, after, rest).await {
                // The page has what was found so far, and the next one begins with the error.
                Err(_) if page.through.is_some() => break,
                part => part?,
            };
            page.sessions.extend(part.sessions);
            page.through = part.through;
            after = part.through;
            let is_full = page.sessions.len() >= limit;
            if is_full || after.is_none() || round == ROUNDS_MAX || began.elapsed() > ROUNDS_FOR {
                break;
            }
        }
        Ok(page.into())
    }

    async fn list_part(
        &self,
        scope: Scope,
        after: Option<Root>,
        limit: usize,
    ) -> Result<ListPart, StoreError> {
        let op = self.driver.next_op();
        let step = self
            .driver
            .replica
            .list(self.driver.now_checked(), op, scope, after, limit);
        match step {
            Progress::Ready(part) => return Ok(part),
            Progress::Rejected(kind) => return Err(refused(kind)),
            Progress::Pending(_) => self.driver.flush_outputs(),
        }
        match self.driver.reply(op).await {
            Some(Reply::Listed(view, others)) => {
                let replica = &self.driver.replica;
                let part = replica.list_owned(clock::now(), after, limit, view, others);
                part.map_err(refused)
            }
            Some(Reply::Unsupported) => Err(refused(StoreErrorKind::Unsupported)),
            Some(_) | None => Err(out_of_reach()),
        }
    }
}

/// Requests to the other nodes for one page: enough to look at all slots.
const ROUNDS_MAX: usize = 8;

/// How long a page that has sessions is extended.
const ROUNDS_FOR: Duration = Duration::from_secs(1);
