//! The sessions whose ids a request presents.

use tracing::{debug, warn};

use crate::error::SessionError;
use crate::middleware::cookie::route::Affinity;
use crate::middleware::cookie::{IdCandidate, IdCandidates};
use crate::middleware::request::RequestSession;
use crate::middleware::state::{LoadedSession, PresentedId, PresentedSessions};
use crate::session::{Loaded, Timestamp};

impl RequestSession {
    /// The live sessions that the request presents, and the time of the store's last answer.
    pub(super) async fn look_up(
        &self,
        candidates: &IdCandidates<'_>,
    ) -> Result<(PresentedSessions, Option<Timestamp>), SessionError> {
        if candidates.malformed() > 0 {
            debug!(
                count = candidates.malformed(),
                "session cookies that hold no id"
            );
        }
        if candidates.iter().next().is_some() {
            self.config.hint.returned();
        }
        if candidates.is_crowded() {
            warn!(target: SECURITY, "too many session cookies in one request: none is used");
            return Ok((PresentedSessions::Several(Vec::new()), None));
        }
        let (mut found, mut found_at) = (PresentedSessions::None, None);
        for candidate in candidates.iter() {
            let presented = self.presented(candidate);
            // The list of a user's sessions: neither the response nor its timing may show a client
            // whether the user has logged in.
            if presented.key.is_index() {
                continue;
            }
            let (loaded, at) = self
                .fetch_timed(&presented.key, Some(&presented.id.hash()))
                .await?;
            found_at = Some(at);
            found = match loaded {
                Loaded::Live(record) => found.with(LoadedSession { presented, record }),
                Loaded::Superseded if matches!(found, PresentedSessions::None) => {
                    PresentedSessions::Superseded
                }
                Loaded::Superseded | Loaded::Absent => found,
            };
        }
        if let PresentedSessions::Several(keys) = &found {
            // One of them may have been planted.
            let count = keys.len();
            warn!(target: SECURITY, ?keys, count, "several live sessions in one request: none is used");
        }
        Ok((found, found_at))
    }

    fn presented(&self, candidate: &IdCandidate<'_>) -> PresentedId {
        let key = candidate.id().key();
        let settled = self.config.affinity == Affinity::Off;
        let is_route_stale = !settled
            && self
                .route(&key)
                .is_some_and(|route| !candidate.carries(Some(&route)));
        let here = self.config.route.as_ref();
        let requested_route = candidate.route(here);
        let elsewhere = |here| requested_route.is_some_and(|route| !route.names(here));
        PresentedId {
            id: *candidate.id(),
            key,
            is_route_stale,
            requested_route,
            is_misrouted: here.is_some_and(elsewhere),
        }
    }
}

/// The target of events that may indicate an attack.
const SECURITY: &str = "distributable::security";
