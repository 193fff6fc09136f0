//! Every store means the same, and the suite that says so bites.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use distributable::session::{Changes, Outcome, Record, Value};
use distributable::store::now;
use distributable::testing::conformance;
use distributable::{MemoryStore, Root, SessionStore, StoreError};
use tokio::task;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_finds_every_fault() {
    let cases = FAULTS.map(|(fault, rules)| task::spawn(finds(fault, rules)));
    for case in cases {
        case.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_finds_handles_that_do_not_share_their_sessions() {
    let suite = task::spawn(conformance(MemoryStore::new(), MemoryStore::new()));
    let complaint = message(suite.await.unwrap_err());
    assert!(complaint.contains("what one handle creates, the other finds"));
}

async fn finds(fault: Fault, rules: &[&str]) {
    // A machine that is busy enough looks when a session that died early should have died anyway.
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

/// What the suite says about a store with this fault.
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
    RotationLeavesTheOldKey,
    EndIsForgotten,
    TouchRevives,
    TouchDoesNothing,
    TouchStartsANewLife,
    IdleTimeIsFixed,
    EmptyIsRemoved,
    NamesAreTrimmed,
    LargeIsCut,
}

const FAULTS: [(Fault, &[&str]); 17] = [
    (
        Fault::HandsOutExpired,
        &[
            "an idle session dies",
            "nothing extends the absolute lifetime",
            "found after its time",
        ],
    ),
    (
        Fault::ExpiresEarly,
        &["an idle session dies", "it died early"],
    ),
    (
        Fault::CommitCreates,
        &["what was never created", "an ended session stays dead"],
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
            "what ends stays dead",
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
        Fault::RotationLeavesTheOldKey,
        &["found under its new key only", "of two rotations at once"],
    ),
    (
        Fault::EndIsForgotten,
        &["an ended session stays dead", "what ends stays dead"],
    ),
    (Fault::TouchRevives, &["an ended session stays dead"]),
    (
        Fault::TouchDoesNothing,
        &["a first visit is short unless somebody returns"],
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
];

type Sessions = HashMap<Root, Arc<Record>>;

/// A store that would be right but for one fault.
#[derive(Clone)]
struct Flawed {
    fault: Option<Fault>,
    sessions: Arc<Mutex<Sessions>>,
    ended: Arc<Mutex<Sessions>>,
}

impl Flawed {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            sessions: Arc::default(),
            ended: Arc::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("nobody panics here")
    }

    fn ended(&self) -> MutexGuard<'_, Sessions> {
        self.ended.lock().expect("nobody panics here")
    }

    fn is_live(&self, record: &Record) -> bool {
        if self.has(Fault::ExpiresEarly)
            && let Some(idle) = record.max_inactive_interval()
        {
            return now() < record.last_accessed_at().plus(idle / 2);
        }
        record.is_live(now()) || self.has(Fault::HandsOutExpired)
    }

    /// The changes as this store misunderstands them.
    fn misread(&self, changes: &Changes, current: Option<&Record>) -> Changes {
        let revives = self.has(Fault::CommitCreates) && current.is_none();
        let mut misread = if changes.is_create() || revives {
            let mut create = changes.clone();
            if revives {
                create = Changes::create(None, Duration::from_secs(60));
            }
            create
        } else {
            Changes::default()
        };
        for (name, value) in changes.writes() {
            let name = match self.fault {
                Some(Fault::NamesAreTrimmed) => name.trim().into(),
                _ => name.clone(),
            };
            match (value, self.fault) {
                (Some(value), Some(Fault::LargeIsCut)) => {
                    let bytes = value.as_bytes();
                    let kept = bytes.len().min(1 << 20);
                    misread.insert(name, Value::from_bytes(&bytes[..kept]));
                }
                (Some(value), Some(Fault::EmptyIsRemoved)) if value.as_bytes().is_empty() => {
                    misread.remove(name);
                }
                (Some(value), _) => misread.insert(name, value.clone()),
                (None, _) => misread.remove(name),
            }
        }
        if let Some((name, stamp)) = changes.expected()
            && !self.has(Fault::IgnoresExpectations)
        {
            misread.expect(name.clone(), stamp);
        }
        if let Some(idle) = changes.max_inactive()
            && !self.has(Fault::IdleTimeIsFixed)
        {
            misread.set_max_inactive(idle);
        }
        if let Some(successor) = changes.rotated_to() {
            misread.rotate_to(successor);
        }
        misread
    }
}

impl SessionStore for Flawed {
    async fn load(&self, key: &Root) -> Result<Option<Arc<Record>>, StoreError> {
        let found = self.sessions().get(key).cloned();
        Ok(found.filter(|record| self.is_live(record)))
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
        let changes = self.misread(&changes, current.as_deref());
        let outcome = changes.apply(current.as_ref(), base.map(Arc::as_ref), now(), 0);
        let Outcome::Committed(record) = &outcome else {
            return Ok(outcome);
        };
        if !self.has(Fault::RotationLeavesTheOldKey) {
            sessions.remove(key);
        }
        sessions.insert(changes.rotated_to().unwrap_or(*key), record.clone());
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
        if record.is_live(now()) && !self.has(Fault::TouchDoesNothing) {
            Arc::make_mut(record).touch(now());
        }
        if self.has(Fault::TouchStartsANewLife) {
            let life = record.ends_at().since(record.created_at());
            let create = Changes::create(record.max_inactive_interval(), life);
            if let Outcome::Committed(renewed) = create.apply(None, None, now(), 0) {
                *record = renewed;
            }
        }
        Ok(())
    }

    async fn end(&self, key: &Root) -> Result<bool, StoreError> {
        let mut sessions = self.sessions();
        let ended = match self.fault {
            Some(Fault::EndIsForgotten) => sessions.get(key).cloned(),
            _ => sessions.remove(key),
        };
        if let Some(record) = &ended {
            self.ended().insert(*key, record.clone());
        }
        Ok(ended.is_some_and(|record| record.is_live(now())))
    }
}
