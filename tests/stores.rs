//! The conformance suite on every store, and on stores with faults that it must find.

use std::array;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash, Timestamp, Value};
use distributable::testing::conformance;
use distributable::{
    MemoryStore, Root, SessionId, SessionInfo, SessionStore, StoreError, StoreErrorKind, UserKey,
};
use tokio::task;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_store_keeps_the_contract() {
    let store = MemoryStore::new();
    conformance(store.clone(), store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_without_faults_keeps_the_contract() {
    let store = Flawed::new(None);
    conformance(store.clone(), store).await;
}

///
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_without_lists_of_users_says_so_and_keeps_the_contract() {
    let store = Plain(MemoryStore::new());
    let error = store.end_user("ada").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    conformance(store.clone(), store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_machine_that_is_too_slow_for_a_short_session_is_no_fault_of_the_store() {
    let store = Slow::default();
    conformance(store.clone(), store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_finds_every_fault() {
    // Few at a time: the suite measures lifetimes, which it cannot on a machine that is too busy.
    const AT_ONCE: usize = 4;
    let workers: [_; AT_ONCE] = array::from_fn(|first| {
        task::spawn(async move {
            for (fault, rules) in FAULTS.into_iter().skip(first).step_by(AT_ONCE) {
                finds(fault, rules).await;
            }
        })
    });
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_finds_handles_that_do_not_share_their_sessions() {
    let suite = task::spawn(conformance(MemoryStore::new(), MemoryStore::new()));
    let complaint = message(suite.await.unwrap_err());
    assert!(complaint.contains("what one handle creates, the other finds"));
}

async fn finds(fault: Fault, rules: &[&str]) {
    // A very busy machine checks so late that the session should have ended by then anyway.
    const ATTEMPTS: usize = 3;
    let mut complaints = String::new();
    for _ in 0..ATTEMPTS {
        let complaint = complaint(fault).await;
        if rules.iter().all(|rule| complaint.contains(rule)) {
            return;
        }
        complaints += &complaint;
    }
    panic!("{fault:?} should break {rules:?}, but: {complaints}");
}

/// The complaint of the suite about a store with this fault.
async fn complaint(fault: Fault) -> String {
    let store = Flawed::new(Some(fault));
    match task::spawn(conformance(store.clone(), store)).await {
        Ok(()) => format!("{fault:?} passes"),
        Err(panic) => message(panic),
    }
}

fn message(panic: task::JoinError) -> String {
    *panic
        .into_panic()
        .downcast::<String>()
        .expect("the suite panics with text")
}

/// What can be wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    HandsOutExpired,
    ExpiresEarly,
    CommitCreates,
    CreatesAgain,
    OverwritesTheRecord,
    OverwritesWithYield,
    IgnoresExpectations,
    AnswersWithTheOld,
    EverySecretOpens,
    FormerSecretIsAbsent,
    FormerSecretOpens,
    RotatesFromAnySecret,
    LosesTheWritesOfARotation,
    WritesNeedTheSecret,
    EndIsForgotten,
    TouchRevives,
    TouchDoesNothing,
    TouchStartsANewLife,
    IdleTimeIsFixed,
    EmptyIsRemoved,
    NamesAreTrimmed,
    LargeIsCut,
    UpdateIsAnAccess,
    ListIsDeleted,
}

const FAULTS: [(Fault, &[&str]); 24] = [
    (
        Fault::HandsOutExpired,
        &[
            "an idle session expires",
            "nothing extends the absolute lifetime",
            "found after its time",
        ],
    ),
    (
        Fault::ExpiresEarly,
        &["an idle session expires", "it expired early"],
    ),
    (
        Fault::CommitCreates,
        &["what was never created", "a deleted session stays deleted:"],
    ),
    (Fault::CreatesAgain, &["a session is created once"]),
    (
        Fault::OverwritesTheRecord,
        &[
            "a commit leaves other attributes alone",
            "parallel writes of different attributes",
        ],
    ),
    (
        Fault::OverwritesWithYield,
        &[
            "parallel writes of different attributes",
            "parallel updates of one attribute",
            "a deleted session stays deleted, whatever is in flight",
        ],
    ),
    (
        Fault::IgnoresExpectations,
        &[
            "an expectation that fails refuses",
            "a refused commit does not rotate",
            "parallel updates of one attribute",
        ],
    ),
    (
        Fault::AnswersWithTheOld,
        &["the later of two acknowledged writes"],
    ),
    (
        Fault::EverySecretOpens,
        &["the current secret is found, and no other"],
    ),
    (
        Fault::FormerSecretIsAbsent,
        &["a rotation invalidates the former secret", "Superseded"],
    ),
    (
        Fault::FormerSecretOpens,
        &[
            "a rotation invalidates the former secret",
            "a write goes on over a rotation",
        ],
    ),
    (
        Fault::RotatesFromAnySecret,
        &[
            "a rotation that comes second changes nothing",
            "of two rotations at once",
        ],
    ),
    (
        Fault::LosesTheWritesOfARotation,
        &[
            "a rotation loses no acknowledged write",
            "a login binds, prolongs and rotates",
        ],
    ),
    (
        Fault::WritesNeedTheSecret,
        &[
            "a write goes on over a rotation",
            "a rotation loses no acknowledged write",
        ],
    ),
    (
        Fault::EndIsForgotten,
        &[
            "a deleted session stays deleted:",
            "a deleted session stays deleted, whatever is in flight",
        ],
    ),
    (Fault::TouchRevives, &["a deleted session stays deleted:"]),
    (
        Fault::TouchDoesNothing,
        &["a first visit is short unless the visitor returns"],
    ),
    (
        Fault::TouchStartsANewLife,
        &["nothing extends the absolute lifetime"],
    ),
    (
        Fault::IdleTimeIsFixed,
        &[
            "one session can be shortened",
            "one session can be prolonged",
        ],
    ),
    (Fault::EmptyIsRemoved, &["a removed attribute is gone"]),
    (Fault::NamesAreTrimmed, &["byte for byte"]),
    (Fault::LargeIsCut, &["a large value comes back whole"]),
    (
        Fault::UpdateIsAnAccess,
        &["an update by key is no access", "used by its browser"],
    ),
    (
        Fault::ListIsDeleted,
        &[
            "the list of a user's sessions is no session",
            "its key can be deleted",
        ],
    ),
];

/// A store whose first commit to a session of short lifetime comes too late, as on a busy machine.
#[derive(Clone, Default)]
struct Slow {
    inner: MemoryStore,
    was_slow: Arc<AtomicBool>,
}

impl SessionStore for Slow {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.inner.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let lifetime = base.and_then(|base| base.idle_timeout());
        if lifetime.is_some_and(|lifetime| lifetime <= Duration::from_secs(1))
            && !self.was_slow.swap(true, Relaxed)
        {
            sleep(Duration::from_millis(1_500)).await;
        }
        self.inner.commit(key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.inner.touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.inner.delete(key).await
    }
}

type Sessions = HashMap<Root, Arc<Record>>;

/// A store that would be right but for one fault.
#[derive(Clone)]
struct Flawed {
    fault: Option<Fault>,
    sessions: Arc<Mutex<Sessions>>,
    ended: Arc<Mutex<Sessions>>,
    /// The secrets of sessions that were rotated.
    rotated: Arc<Mutex<HashMap<Root, SecretHash>>>,
}

impl Flawed {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            sessions: Arc::default(),
            ended: Arc::default(),
            rotated: Arc::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions
            .lock()
            .expect("no thread panics while it holds the lock")
    }

    fn ended(&self) -> MutexGuard<'_, Sessions> {
        self.ended
            .lock()
            .expect("no thread panics while it holds the lock")
    }

    fn rotated(&self) -> MutexGuard<'_, HashMap<Root, SecretHash>> {
        self.rotated.lock().expect("no holder panics")
    }

    fn is_live(&self, record: &Record) -> bool {
        if self.has(Fault::ExpiresEarly)
            && let Some(idle) = record.idle_timeout()
        {
            return Timestamp::now() < record.last_accessed_at().plus(idle / 2);
        }
        record.is_live(Timestamp::now()) || self.has(Fault::HandsOutExpired)
    }

    /// The changes as this store misunderstands them.
    fn misread(&self, key: &Root, changes: &Changes, current: Option<&Record>) -> Changes {
        let mut misread = changes.clone();
        if self.has(Fault::CommitCreates) && current.is_none() && !changes.is_create() {
            let secret = SessionId::generate().hash();
            misread = Changes::create(secret, None, Duration::from_secs(60));
        }
        for (name, value) in changes.writes() {
            let written = value.as_ref().map(Value::as_bytes);
            match (self.fault, written) {
                (Some(Fault::NamesAreTrimmed), Some(bytes)) => {
                    misread.unset(name);
                    misread.insert(name.trim().into(), Value::from_bytes(bytes));
                }
                (Some(Fault::LargeIsCut), Some(bytes)) => {
                    let kept = bytes.len().min(1 << 20);
                    misread.insert(name.clone(), Value::from_bytes(&bytes[..kept]));
                }
                (Some(Fault::EmptyIsRemoved), Some(b"")) => misread.remove(name.clone()),
                (Some(Fault::LosesTheWritesOfARotation), _) if changes.rotation().is_some() => {
                    misread.unset(name);
                }
                _ => {}
            }
        }
        if let Some((name, _)) = changes.required_version()
            && self.has(Fault::IgnoresExpectations)
        {
            let version = current.and_then(|record| record.version(name));
            misread.require_version(name.clone(), version);
        }
        if let (Some(_), Some(record)) = (changes.idle_timeout(), current)
            && self.has(Fault::IdleTimeIsFixed)
        {
            misread.set_idle_timeout(record.idle_timeout());
        }
        if let (Some(rotation), Some(last)) = (changes.rotation(), self.rotated().get(key))
            && self.has(Fault::RotatesFromAnySecret)
        {
            misread.rotate(*last, rotation.to);
        }
        misread
    }

    /// Whether the session was rotated since it was loaded like this.
    fn was_rotated_since(&self, key: &Root, base: Option<&Record>) -> bool {
        let rotated = self.rotated();
        let last = rotated.get(key);
        base.is_some_and(|base| last.is_some_and(|last| !base.is_current(last)))
    }
}

impl SessionStore for Flawed {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let found = self.sessions().get(key).cloned();
        let Some(record) = found.filter(|record| self.is_live(record)) else {
            return Ok(Loaded::Absent);
        };
        let is_current = secret.is_none_or(|secret| record.is_current(secret));
        let was_rotated = self.rotated().contains_key(key);
        Ok(match self.fault {
            Some(Fault::EverySecretOpens) => Loaded::Live(record),
            Some(Fault::FormerSecretOpens) if was_rotated => Loaded::Live(record),
            _ if is_current => Loaded::Live(record),
            Some(Fault::FormerSecretIsAbsent) => Loaded::Absent,
            _ => record.loaded(secret, Timestamp::now()),
        })
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let mut current = self.sessions().get(key).cloned();
        match self.fault {
            Some(Fault::OverwritesWithYield) => task::yield_now().await,
            Some(Fault::OverwritesTheRecord) if base.is_some() && current.is_some() => {
                current = base.cloned();
            }
            Some(Fault::CreatesAgain) if changes.is_create() => current = None,
            _ => {}
        }
        let mut sessions = self.sessions();
        if self.fault.is_none() {
            current = sessions.get(key).cloned();
        }
        if self.has(Fault::WritesNeedTheSecret)
            && changes.rotation().is_none()
            && self.was_rotated_since(key, base.map(Arc::as_ref))
        {
            return Ok(Outcome::Gone);
        }
        let changes = self.misread(key, &changes, current.as_deref());
        let mut outcome = changes.apply(current.as_ref(), base.map(Arc::as_ref), Timestamp::now());
        let Outcome::Committed(record) = &mut outcome else {
            return Ok(outcome);
        };
        if self.has(Fault::UpdateIsAnAccess) && !changes.is_access() {
            Arc::make_mut(record).touch(Timestamp::now());
        }
        sessions.insert(*key, record.clone());
        if let Some(rotation) = changes.rotation() {
            self.rotated().insert(*key, rotation.to);
        }
        Ok(match current {
            Some(current) if self.has(Fault::AnswersWithTheOld) => Outcome::Committed(current),
            _ => outcome,
        })
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        let mut sessions = self.sessions();
        if self.has(Fault::TouchRevives)
            && let Some(record) = self.ended().remove(key)
        {
            sessions.insert(*key, record);
        }
        let Some(record) = sessions.get_mut(key) else {
            return Ok(());
        };
        if record.is_live(Timestamp::now()) && !self.has(Fault::TouchDoesNothing) {
            Arc::make_mut(record).touch(Timestamp::now());
        }
        if self.has(Fault::TouchStartsANewLife) {
            let life = record.absolute_deadline().since(record.created_at());
            let secret = SessionId::generate().hash();
            let create = Changes::create(secret, record.idle_timeout(), life);
            if let Outcome::Committed(renewed) = create.apply(None, None, Timestamp::now()) {
                *record = renewed;
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        if key.is_index() && !self.has(Fault::ListIsDeleted) {
            return Ok(false);
        }
        let mut sessions = self.sessions();
        let ended = match self.fault {
            Some(Fault::EndIsForgotten) => sessions.get(key).cloned(),
            _ => sessions.remove(key),
        };
        if let Some(record) = &ended {
            self.ended().insert(*key, record.clone());
        }
        Ok(ended.is_some_and(|record| record.is_live(Timestamp::now())))
    }
}

/// A store that has no lists of users' sessions.
#[derive(Clone)]
struct Plain(MemoryStore);

impl SessionStore for Plain {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.0.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.0.commit(key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.0.touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.0.delete(key).await
    }

    async fn sessions_of(
        &self,
        _: impl Into<UserKey> + Send,
    ) -> Result<Vec<SessionInfo>, StoreError> {
        Err(StoreError::unsupported())
    }

    async fn end_user(&self, _: impl Into<UserKey> + Send) -> Result<usize, StoreError> {
        Err(StoreError::unsupported())
    }

    async fn end_user_except(
        &self,
        _: impl Into<UserKey> + Send,
        _: Root,
    ) -> Result<usize, StoreError> {
        Err(StoreError::unsupported())
    }
}
