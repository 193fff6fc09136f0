//! Handle of a running node: the calls that the store makes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval};

use crate::clock;
use crate::error::{StoreError, StoreErrorKind};
use crate::events::SessionEvents;
use crate::session::{
    Changes, EndReason, EventScope, Loaded, Name, Outcome, Record, Root, SecretHash,
    SessionEventKind, SessionId,
};
use crate::watch::SessionWatch;

use super::Copies;
use super::driver::{Driver, Endpoints, run};
use super::large_writes::LargeWrites;
use super::replica::event::{Exclusion, Input, Reply, Step};
use super::replica::events::Happening;
use super::replica::message::UpdateStatus;
use super::replica::{MemberStatus, ReplicaStatus};
use super::status::{ClusterStatus, DrainReport, Member, MemberState, RefusedNode};
use super::wire::{ATTRIBUTE_NAME_MAX, Refusal};

/// A running node. Dropping it stops the node immediately, unless it has been drained.
#[derive(Debug)]
pub(crate) struct Cluster {
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

impl Cluster {
    /// Spawns a node on the current tokio runtime.
    pub(super) fn run(
        driver: Driver,
        surroundings: Endpoints,
        address: SocketAddr,
        (copies, drain_timeout): (Copies, Duration),
    ) -> Self {
        let driver = Arc::new(driver);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(driver.clone(), surroundings, stopped)).abort_handle();
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
        let now = self.driver.enter();
        match self.driver.replica.load(now, op, key, secret) {
            Step::Done(loaded) => Ok(loaded),
            Step::Refused(kind) => Err(refused(kind)),
            Step::Wait(_) => {
                self.driver.settle();
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
        check_names(changes)?;
        let _turn = self.large_writes.turn(changes.payload_bytes()).await?;
        let op = self.driver.next_op();
        let now = self.driver.enter();
        let step = self.driver.replica.commit(now, op, key, base, changes);
        self.driver.settle();
        let outcome = match step {
            Step::Done(outcome) => return Ok(self.acknowledged(outcome)),
            Step::Refused(kind) => return Err(refused(kind)),
            Step::Wait(outcome) => outcome,
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
            UpdateStatus::Conflict => self.driver.replica.kept(clock::now(), key).or(record),
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
        self.driver.replica.touch(self.driver.enter(), key);
        self.driver.settle();
    }

    pub(crate) async fn delete(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        let record = match self.driver.reports() {
            true => self.driver.replica.look(clock::now(), key),
            false => None,
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

    pub(crate) fn events(&self, scope: EventScope) -> SessionEvents {
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
        let step = self.driver.replica.delete(self.driver.enter(), op, key);
        self.driver.settle();
        let ended = match step {
            Step::Done(ended) => return Ok(ended),
            Step::Refused(kind) => return Err(refused(kind)),
            Step::Wait(ended) => ended,
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

    pub(crate) fn status(&self) -> ClusterStatus {
        let status = self.driver.replica.status();
        let ready = self.is_ready();
        let me = Member {
            route: status.me.name.to_string(),
            address: status.me.address,
            state: match ready {
                _ if self.driver.draining.load(Relaxed) => MemberState::Leaving,
                true => MemberState::Ready,
                false => MemberState::Joining,
            },
            age: clock::now().since(self.driver.started_at),
            lag: 0,
        };
        let refused = self.refused(&status);
        let others = status.members.iter().map(|member| self.member(member));
        ClusterStatus {
            ready,
            complete: status.complete,
            stable: status.members.iter().all(|member| member.agrees),
            members: [me].into_iter().chain(others).collect(),
            copies: self.copies,
            sessions: status.sessions,
            tombstones: status.tombstones,
            bytes: status.bytes,
            over_limit: status.over_limit,
            oversized_merges: status.oversized,
            under_replicated: self.driver.replica.under_replicated(),
            degraded_acks: self.driver.degraded_acks.load(Relaxed),
            indeterminate: status.indeterminate,
            discarded_writes: status.discarded,
            rejected_connections: self.driver.door.rejected(),
            created: self.driver.created.load(Relaxed),
            deleted: self.driver.deleted.load(Relaxed),
            expired: status.expired,
            refused,
        }
    }

    /// Returns the nodes that reject this one or that it rejects, one row each.
    fn refused(&self, status: &ReplicaStatus) -> Vec<RefusedNode> {
        let mut rows = self.driver.addresses.refused();
        if let Some(Exclusion::Name(node)) = &status.excluded {
            rows.push(RefusedNode {
                address: node.address.to_string(),
                reason: Refusal::Name.reason().to_owned(),
            });
        }
        rows.extend(self.driver.door.rejections.list(clock::now()));
        let mut known: Vec<RefusedNode> = Vec::new();
        for row in rows {
            // A machine alone says less than the address of a node on it.
            let same = |other: &RefusedNode| {
                let rest = other.address.strip_prefix(&row.address);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            };
            if !known.iter().any(same) {
                known.push(row);
            }
        }
        known
    }

    /// Starts draining: this node holds no sessions any more and hands its sessions over, while
    /// requests continue to be served.
    pub(crate) fn start_draining(&self) {
        if !self.driver.draining.swap(true, Relaxed) {
            self.had
                .store(self.driver.replica.status().sessions, Relaxed);
        }
        self.driver.input(Input::Drain(true));
    }

    pub(crate) async fn drain(&self) -> DrainReport {
        let mut drained = self.drained.lock().await;
        if let Some(report) = *drained {
            return report;
        }
        let began = Instant::now();
        self.start_draining();
        let draining = Draining(Some(&self.driver));
        let status = self.handed_over(began + self.drain_timeout).await;
        self.driver.input(Input::Leave);
        // From here on draining cannot be canceled.
        draining.stays();
        let deadline = (began + self.drain_timeout).max(Instant::now() + FLUSH_MAX);
        let flush = self.until(deadline, |driver| driver.links.is_flushed().then_some(()));
        flush.await;
        self.stop.send_replace(true);
        // The task holds the only receiver.
        self.stop.closed().await;
        let report = DrainReport {
            handed_over: is_handed_over(&status) && status.succeeded
                || status.sessions + status.tombstones == 0,
            sessions: self.had.load(Relaxed).max(status.sessions),
            unacknowledged: status.unacknowledged,
            remaining: status.members.len(),
            last: !status.succeeded,
            took: began.elapsed(),
        };
        *drained = Some(report);
        report
    }

    /// Waits until the remaining members are complete, there are none, or `deadline` has passed.
    async fn handed_over(&self, deadline: Instant) -> ReplicaStatus {
        self.until(deadline, |driver| {
            let status = driver.replica.status();
            let alone = status.members.is_empty();
            (alone || is_handed_over(&status)).then_some(status)
        })
        .await
        .unwrap_or_else(|| self.driver.replica.status())
    }

    /// PendingCalls `ask` repeatedly until it returns a value or `deadline` has passed.
    async fn until<T>(&self, deadline: Instant, ask: impl Fn(&Driver) -> Option<T>) -> Option<T> {
        let mut poll = interval(DRAIN_POLL);
        while Instant::now() < deadline {
            let answer = ask(&self.driver);
            if answer.is_some() {
                return answer;
            }
            poll.tick().await;
        }
        ask(&self.driver)
    }

    /// Returns the entries of a slot, even after the node has left.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn export(&self, slot: usize) -> Vec<super::KeyedEntry> {
        self.driver.replica.export(clock::now(), slot)
    }

    /// Returns the members that stay if this node leaves now, or stayed when it left.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn survivors(&self) -> Vec<super::Survivor> {
        self.driver.replica.survivors()
    }

    /// Returns the state of sessions that this node may not use before it meets a member.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn held(&self) -> super::HeldState {
        self.driver.replica.held()
    }

    fn member(&self, member: &MemberStatus) -> Member {
        let since = self.driver.member_since(&member.node);
        Member {
            route: member.node.name.to_string(),
            address: member.node.address,
            state: match member.ready {
                _ if member.leaving => MemberState::Leaving,
                true => MemberState::Ready,
                false => MemberState::Joining,
            },
            age: since.map_or(Duration::ZERO, |since| clock::now().since(since)),
            lag: member.lag,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Cancels draining when dropped before the node has left.
struct Draining<'a>(Option<&'a Driver>);

impl Draining<'_> {
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.0 {
            driver.draining.store(false, Relaxed);
            driver.input(Input::Drain(false));
        }
    }
}

/// Returns `true` if all members are complete in a view in which this node is leaving.
fn is_handed_over(status: &ReplicaStatus) -> bool {
    status.unacknowledged == 0 && status.settled
}

/// Rejects names that other nodes would not accept, before anything is changed.
fn check_names(changes: &Changes) -> Result<(), StoreError> {
    let is_long = |name: &Name| name.len() > ATTRIBUTE_NAME_MAX;
    if changes.writes().iter().any(|(name, _)| is_long(name)) {
        return Err(StoreError::too_large());
    }
    Ok(())
}

pub(super) fn refused(kind: StoreErrorKind) -> StoreError {
    match kind {
        StoreErrorKind::NotReady => StoreError::not_ready(),
        StoreErrorKind::Full => StoreError::full(),
        StoreErrorKind::TooLarge => StoreError::too_large(),
        StoreErrorKind::Indeterminate => unproved(),
        StoreErrorKind::Unavailable => {
            StoreError::unavailable("too few nodes, or too many unacknowledged changes")
        }
        StoreErrorKind::Corrupt => StoreError::corrupt("an invalid session"),
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

/// Longest time for sending the last messages, even after `drain_timeout`.
const FLUSH_MAX: Duration = Duration::from_secs(1);
const DRAIN_POLL: Duration = Duration::from_millis(5);
