//! Handle of a running node: the calls that the store makes.

mod drain;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;

use crate::clock;
use crate::error::{StoreError, StoreErrorKind};
use crate::events::SessionEvents;
use crate::session::{
    Changes, EndReason, Loaded, Name, Outcome, Record, Root, Scope, SecretHash, SessionEventKind,
    SessionId,
};
use crate::watch::SessionWatch;

use crate::cluster::copies::Copies;
use crate::cluster::driver::Driver;
use crate::cluster::large_writes::LargeWrites;
use crate::cluster::replica::event::{Progress, Reply};
use crate::cluster::replica::events::Happening;
use crate::cluster::replica::message::UpdateStatus;
use crate::cluster::runtime::{Endpoints, run};
use crate::cluster::status::DrainReport;
use crate::cluster::wire::{ATTRIBUTE_NAME_MAX, ATTRIBUTES_MAX};

/// A running node. Dropping it stops the node immediately, unless it has been drained.
#[derive(Debug)]
pub(crate) struct ClusterHandle {
    pub(super) driver: Arc<Driver>,
    task: AbortHandle,
    stop: watch::Sender<bool>,
    address: SocketAddr,
    copies: Copies,
    drain_timeout: Duration,
    large_writes: LargeWrites,
    /// The number of live sessions when draining began.
    had: AtomicUsize,
    /// The result of draining; locked while it is in progress.
    drained: Mutex<Option<DrainReport>>,
}

impl ClusterHandle {
    /// Spawns a node on the current tokio runtime.
    pub(super) fn run(
        driver: Driver,
        endpoints: Endpoints,
        address: SocketAddr,
        copies: Copies,
        drain_timeout: Duration,
    ) -> Self {
        let driver = Arc::new(driver);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(driver.clone(), endpoints, stopped)).abort_handle();
        Self {
            driver,
            task,
            stop,
            address,
            copies,
            drain_timeout,
            large_writes: LargeWrites::default(),
            had: AtomicUsize::new(0),
            drained: Mutex::default(),
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.driver.is_ready()
    }

    pub(crate) async fn ready(&self) {
        self.driver.ready().await;
    }

    pub(crate) fn new_id(&self) -> SessionId {
        self.driver.new_id()
    }

    pub(crate) async fn load(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Result<Loaded, StoreError> {
        let op = self.driver.next_op();
        let now = self.driver.now_checked();
        match self.driver.replica.load(now, op, key, secret) {
            Progress::Ready(loaded) => Ok(loaded),
            Progress::Rejected(kind) => Err(refused(kind)),
            Progress::Pending(_) => {
                self.driver.flush_outputs();
                match self.driver.reply(op).await {
                    Some(Reply::Found(loaded)) => Ok(loaded),
                    Some(Reply::Uncertain) => Err(StoreError::unavailable(
                        "no node has the session, but nodes that may have had it failed recently",
                    )),
                    Some(_) | None => Err(out_of_reach()),
                }
            }
        }
    }

    pub(crate) async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Result<Outcome, StoreError> {
        let outcome = self.try_commit(key, base, changes).await?;
        // On a node that does not hold the session, nothing else wakes the tasks that watch it.
        self.driver.replica.watched().changed(key);
        if let Outcome::Committed(record) = &outcome
            && !record.is_index()
        {
            if changes.is_create() {
                self.driver.created.fetch_add(1, Relaxed);
                self.report(key, SessionEventKind::Created, record);
            } else if changes.rotation().is_some() {
                self.report(key, SessionEventKind::Rotated, record);
            }
        }
        Ok(outcome)
    }

    async fn try_commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Result<Outcome, StoreError> {
        check_attributes(base.map(Arc::as_ref), changes)?;
        let _turn = self.large_writes.turn(changes.payload_bytes()).await?;
        let op = self.driver.next_op();
        let now = self.driver.now_checked();
        let step = self.driver.replica.commit(now, op, key, base, changes);
        self.driver.flush_outputs();
        let outcome = match step {
            Progress::Ready(outcome) => return Ok(self.acknowledged(outcome)),
            Progress::Rejected(kind) => return Err(refused(kind)),
            Progress::Pending(outcome) => outcome,
        };
        match self.driver.reply(op).await {
            Some(Reply::Written) => Ok(self.acknowledged(outcome)),
            Some(Reply::Updated(verdict, record)) => self.updated(key, verdict, record),
            Some(Reply::Unavailable) => Err(out_of_reach()),
            // Among them replies that calls of this kind do not get.
            Some(_) | None => Err(unproved()),
        }
    }

    fn acknowledged(&self, outcome: Outcome) -> Outcome {
        if matches!(outcome, Outcome::Committed(_)) {
            self.driver.count_if_degraded();
        }
        outcome
    }

    /// Converts the verdict of the session's owner.
    fn updated(
        &self,
        key: &Root,
        verdict: UpdateStatus,
        record: Option<Arc<Record>>,
    ) -> Result<Outcome, StoreError> {
        let record = match verdict {
            // A retry should start from the latest state, or it would always lose against many
            // writers.
            UpdateStatus::Conflict => self
                .driver
                .replica
                .get_if_holder(clock::now(), key)
                .or(record),
            _ => record,
        };
        Ok(match (verdict, record) {
            (UpdateStatus::Applied, Some(record)) => self.acknowledged(Outcome::Committed(record)),
            (UpdateStatus::Conflict, Some(record)) => Outcome::Conflict(record),
            (UpdateStatus::Superseded, _) => Outcome::Superseded,
            // Deleted since, which cannot be distinguished from deleted before.
            (UpdateStatus::Applied | UpdateStatus::Conflict, None) | (UpdateStatus::Gone, _) => {
                Outcome::Gone
            }
            (UpdateStatus::Retry | UpdateStatus::Indeterminate, _) => return Err(unproved()),
            (UpdateStatus::Full, _) => return Err(StoreError::full()),
            (UpdateStatus::TooLarge, _) => return Err(StoreError::too_large()),
        })
    }

    pub(crate) fn touch(&self, key: &Root) {
        self.driver.replica.touch(self.driver.now_checked(), key);
        self.driver.flush_outputs();
    }

    pub(crate) async fn delete(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        let record = if self.driver.reports() {
            self.driver.replica.peek(clock::now(), key)
        } else {
            None
        };
        self.driver.announce_reason(key, reason);
        let ended = self.try_end(key).await?;
        self.driver.replica.watched().changed(key);
        self.driver.deleted.fetch_add(u64::from(ended), Relaxed);
        if ended {
            self.driver.report(Happening {
                kind: SessionEventKind::Deleted(reason),
                key: *key,
                user: record.and_then(|record| record.user()),
                rotation: 0,
            });
        }
        Ok(ended)
    }

    pub(crate) fn events(&self, scope: Scope) -> SessionEvents {
        self.driver.events(scope)
    }

    pub(crate) fn watch(&self, key: &Root) -> Option<SessionWatch> {
        self.driver.replica.watched().watch(key)
    }

    fn report(&self, key: &Root, kind: SessionEventKind, record: &Record) {
        self.driver.report(Happening::of(*key, kind, record));
    }

    async fn try_end(&self, key: &Root) -> Result<bool, StoreError> {
        let op = self.driver.next_op();
        let step = self
            .driver
            .replica
            .delete(self.driver.now_checked(), op, key);
        self.driver.flush_outputs();
        let ended = match step {
            Progress::Ready(ended) => return Ok(ended),
            Progress::Rejected(kind) => return Err(refused(kind)),
            Progress::Pending(ended) => ended,
        };
        match self.driver.reply(op).await {
            Some(Reply::Written) => Ok(ended),
            Some(Reply::Updated(UpdateStatus::Applied, _)) => Ok(true),
            Some(Reply::Updated(UpdateStatus::Gone, _)) => Ok(false),
            Some(Reply::Unavailable) => Err(out_of_reach()),
            Some(_) | None => Err(unproved()),
        }
    }

    /// Returns `true` while members are missing.
    pub(crate) fn is_divided(&self) -> bool {
        self.driver.replica.is_divided()
    }

    /// Returns the name of the node that owns the session.
    pub(crate) fn owner(&self, key: &Root) -> Option<String> {
        self.driver.replica.owner(key)
    }

    /// Returns the entries of a slot, even after the node has left.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn export(&self, slot: usize) -> Vec<crate::cluster::KeyedEntry> {
        self.driver.replica.export(clock::now(), slot)
    }

    /// Returns the members that stay if this node leaves now, or stayed when it left.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn survivors(&self) -> Vec<crate::cluster::SurvivingMember> {
        self.driver.replica.survivors()
    }

    /// Returns the state of sessions that this node may not use before it meets a member.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn withheld_state(&self) -> crate::cluster::WithheldState {
        self.driver.replica.withheld_state()
    }
}

impl Drop for ClusterHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rejects names and numbers of attributes that other nodes would not accept, before anything is
/// changed.
fn check_attributes(base: Option<&Record>, changes: &Changes) -> Result<(), StoreError> {
    let names = || changes.writes().iter().map(|(name, _)| name);
    let is_long = |name: &Name| name.len() > ATTRIBUTE_NAME_MAX;
    let stored = base.map_or(0, |base| base.entries().len());
    let is_new = |name: &&Name| base.is_none_or(|base| base.entry(name).is_none());
    let adds_too_many = || {
        let added = names().filter(is_new).count();
        added > 0 && stored + added > WRITTEN_ATTRIBUTES_MAX
    };
    // New names are counted only if they decide.
    let is_near = stored + changes.writes().len() > WRITTEN_ATTRIBUTES_MAX;
    if names().any(is_long) || is_near && adds_too_many() {
        return Err(StoreError::too_large());
    }
    Ok(())
}

/// The number of attributes that a write may leave in a session, marks of removed ones included.
/// Two requests that write at the same time may leave twice as many, which every node accepts; it
/// takes three that each add so many to exceed that.
const WRITTEN_ATTRIBUTES_MAX: usize = ATTRIBUTES_MAX / 2;

pub(super) fn refused(kind: StoreErrorKind) -> StoreError {
    match kind {
        StoreErrorKind::NotReady => StoreError::not_ready(),
        StoreErrorKind::Full => StoreError::full(),
        StoreErrorKind::TooLarge => StoreError::too_large(),
        StoreErrorKind::Indeterminate => unproved(),
        StoreErrorKind::Unavailable => StoreError::unavailable(
            "too few nodes hold the session, or too many changes are unacknowledged",
        ),
        StoreErrorKind::Corrupt => StoreError::corrupt("the stored session is invalid"),
        StoreErrorKind::Unsupported => StoreError::unsupported(),
        StoreErrorKind::InvalidCursor => StoreError::invalid_cursor(),
    }
}

pub(super) fn out_of_reach() -> StoreError {
    StoreError::unavailable("the other nodes did not answer in time")
}

fn unproved() -> StoreError {
    StoreError::indeterminate("the other nodes did not acknowledge in time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Timestamp, Value};

    fn inserts(range: std::ops::Range<usize>) -> Changes {
        let mut changes = Changes::create(SecretHash::NONE, None, Duration::from_secs(60));
        for number in range {
            let name = format!("a{number}");
            changes.insert(name.as_str().into(), Value::from_bytes(*b"1"));
        }
        changes
    }

    /// Two nodes that write at the same time, or the sides of a partition, may exceed the limit.
    #[test]
    fn a_session_with_too_many_attributes_may_change_and_shrink() {
        let outcome = inserts(0..40_000).apply(None, None, Timestamp::from_millis(1));
        let Outcome::Committed(record) = outcome else {
            panic!("{outcome:?}")
        };
        let mut removal = Changes::default();
        removal.remove("a1".into());
        for (changes, is_accepted) in [
            (removal, true),
            (inserts(0..9), true),
            (inserts(40_000..40_001), false),
        ] {
            let accepted = check_attributes(Some(&record), &changes).is_ok();
            assert_eq!(accepted, is_accepted, "{:?}", changes.writes().first());
        }
    }
}
