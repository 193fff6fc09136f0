//! The conformance suite for session stores, those of this crate and others.
//!
//! [`conformance`] runs the rules of the contract of [`SessionStore`], one file for each subject.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, timeout};

use self::handle::Handle;
use crate::error::StoreError;
use crate::session::{Changes, Loaded, Outcome, Record, Root, SecretHash, SessionId, Value};
use crate::store::SessionStore;

mod attributes;
mod existence;
mod handle;
mod lifetime;
mod lists;
mod races;
mod secrets;
mod updates;
mod users;

/// Checks a store against the contract, through two handles to the *same* sessions: two nodes of a
/// cluster, two connections to a server, or a store and its clone.
///
/// The rules cover look-ups, commits and their refusals, deletion, secrets, lifetimes, updates by
/// key, lists, the sessions of a user, and concurrent requests. A store that passes gives its
/// answers the same meaning as the stores of this crate. Limits, restarts and network failures are
/// specific to each store, and not tested.
///
/// Every rule creates sessions of its own, so the store may hold others. The rules run concurrently
/// and take about five seconds. Use a multi-threaded runtime: races need threads.
///
/// The calls for users and the updates work with any store that implements the four operations. A
/// store that cannot have them overrides them with
/// [`StoreError::unsupported`](crate::StoreError::unsupported).
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}};
/// use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash, Timestamp};
/// use distributable::{Root, SessionStore, StoreError};
///
/// #[derive(Clone, Default)]
/// struct MyStore(Arc<Mutex<HashMap<Root, Arc<Record>>>>);
///
/// impl SessionStore for MyStore {
///     async fn load(
///         &self,
///         key: &Root,
///         secret: Option<&SecretHash>,
///     ) -> Result<Loaded, StoreError> {
///         let sessions = self.0.lock().unwrap();
///         let record = sessions.get(key);
///         Ok(record.map_or(Loaded::Absent, |record| record.loaded(secret, Timestamp::now())))
///     }
///
///     async fn commit(
///         &self,
///         key: &Root,
///         base: Option<&Arc<Record>>,
///         changes: Changes,
///     ) -> Result<Outcome, StoreError> {
///         let mut sessions = self.0.lock().unwrap();
///         let base = base.map(Arc::as_ref);
///         let outcome = changes.apply(sessions.get(key), base, Timestamp::now());
///         if let Outcome::Committed(record) = &outcome {
///             sessions.insert(*key, record.clone());
///         }
///         Ok(outcome)
///     }
///
///     async fn touch(&self, key: &Root) -> Result<(), StoreError> {
///         if let Some(record) = self.0.lock().unwrap().get_mut(key)
///             && record.is_live(Timestamp::now())
///         {
///             Arc::make_mut(record).touch(Timestamp::now());
///         }
///         Ok(())
///     }
///
///     async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
///         if key.is_index() {
///             return Ok(false);
///         }
///         let removed = self.0.lock().unwrap().remove(key);
///         Ok(removed.is_some_and(|record| record.is_live(Timestamp::now())))
///     }
/// }
///
/// #[tokio::main] // In your tests: #[tokio::test(flavor = "multi_thread")]
/// async fn main() {
///     let store = MyStore::default();
///     distributable::testing::conformance(store.clone(), store).await;
/// }
/// ```
///
/// # Panics
///
/// Panics if the store breaks a rule. The message names every broken rule in words.
pub async fn conformance<S: SessionStore>(one: S, other: S) {
    let mut suite = Suite::new(Nodes {
        one: Arc::new(one),
        other: Arc::new(other),
    });
    existence::rules(&mut suite);
    attributes::rules(&mut suite);
    lifetime::rules(&mut suite);
    lists::rules(&mut suite);
    races::rules(&mut suite);
    secrets::rules(&mut suite);
    updates::rules(&mut suite);
    users::rules(&mut suite);
    if let Err(broken) = suite.verdict().await {
        panic!("{broken}");
    }
}

/// The rules being checked.
struct Suite {
    nodes: Nodes,
    running: Vec<(&'static str, JoinHandle<Verdict>)>,
}

impl Suite {
    const fn new(nodes: Nodes) -> Self {
        Self {
            nodes,
            running: Vec::new(),
        }
    }

    /// Starts to check the rule that `statement` describes.
    fn rule<F>(&mut self, statement: &'static str, check: impl FnOnce(Nodes) -> F)
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let limited = timeout(PATIENCE, check(self.nodes.clone()));
        let verdict = async { limited.await.unwrap_or_else(|_| broken("it hangs")) };
        self.running.push((statement, task::spawn(verdict)));
    }

    async fn verdict(self) -> Result<(), String> {
        let rules = self.running.len();
        let mut list = String::new();
        let mut count = 0;
        for (statement, check) in self.running {
            let verdict = check
                .await
                .unwrap_or_else(|error| broken(error.to_string()));
            if let Err(Broken(how)) = verdict {
                count += 1;
                write!(list, "\n- {statement}: {how}").expect("a string takes everything");
            }
        }
        match count {
            0 => Ok(()),
            _ => Err(format!("the store breaks {count} of {rules} rules:{list}")),
        }
    }
}

/// The result of a rule: success, or how it was broken.
type Verdict = Result<(), Broken>;

#[derive(Debug)]
struct Broken(String);

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        let mut how = format!("the store failed: {error}");
        if let Some(source) = std::error::Error::source(&error) {
            how = format!("{how}: {source}");
        }
        Self(how)
    }
}

fn broken<T>(how: impl Into<String>) -> Result<T, Broken> {
    Err(Broken(how.into()))
}

fn must(holds: bool, otherwise: &str) -> Verdict {
    if holds { Ok(()) } else { broken(otherwise) }
}

/// Two handles to the same sessions.
#[derive(Clone)]
struct Nodes {
    one: Handle,
    other: Handle,
}

impl Nodes {
    fn both(&self) -> [&Handle; 2] {
        [&self.one, &self.other]
    }

    /// The two handles in alternation.
    fn turn(&self, turn: usize) -> Handle {
        if turn.is_multiple_of(2) {
            self.one.clone()
        } else {
            self.other.clone()
        }
    }

    /// Creates a session with a long lifetime.
    async fn create(&self, name: &str, value: &str) -> Result<Created, Broken> {
        let lives = Lives::long();
        self.create_with(lives, insert(name, value)).await
    }

    /// Creates a session with these lifetimes, and makes these changes to it in the same step.
    async fn create_with(&self, lives: Lives, mut changes: Changes) -> Result<Created, Broken> {
        let id = self.one.new_id();
        let key = id.key();
        lives.make_create(id.hash(), &mut changes);
        let before = Instant::now();
        let record = committed(self.one.commit(&key, None, changes).await?)?;
        let access = Access {
            before,
            after: Instant::now(),
        };
        Ok(Created {
            id,
            key,
            record,
            access,
        })
    }

    /// The session as the other handle returns it.
    async fn load(&self, key: &Root) -> Result<Arc<Record>, Broken> {
        match find(&self.other, key).await? {
            Some(record) => Ok(record),
            None => broken("a live session is not found through the other handle"),
        }
    }

    /// Checks that both handles treat the session as deleted, and that nothing brings it back.
    async fn must_be_dead(&self, key: &Root) -> Verdict {
        for store in self.both() {
            let dead = find(store, key).await?.is_none();
            must(dead, "the session is still found")?;
            store.touch(key).await?;
            let dead = find(store, key).await?.is_none();
            must(dead, "a touch brings it back")?;
            let outcome = store.commit(key, None, insert("late", "1")).await?;
            must(
                outcome == Outcome::Gone,
                "a commit to it is not answered with Gone",
            )?;
            let dead = find(store, key).await?.is_none();
            must(dead, "a commit brings it back")?;
            must(!store.end(key).await?, "deleting it again returns true")?;
        }
        Ok(())
    }
}

/// A session that a rule has created.
struct Created {
    id: SessionId,
    key: Root,
    record: Arc<Record>,
    access: Access,
}

/// The lifetime of a rule's session.
#[derive(Clone, Copy)]
struct Lives {
    idle: Option<Duration>,
    absolute_timeout: Duration,
    initial_idle_timeout: Option<Duration>,
}

impl Lives {
    /// Longer than any rule takes.
    fn long() -> Self {
        Self::of(Some(HOUR), 24 * HOUR)
    }

    const fn of(idle: Option<Duration>, absolute_timeout: Duration) -> Self {
        Self {
            idle,
            absolute_timeout,
            initial_idle_timeout: None,
        }
    }

    fn make_create(self, secret: SecretHash, changes: &mut Changes) {
        changes.make_create(secret, self.idle, self.absolute_timeout);
        if let Some(idle) = self.initial_idle_timeout {
            changes.initial_idle_timeout(idle);
        }
    }
}

/// The range in which the store has recorded an access.
#[derive(Clone, Copy)]
struct Access {
    before: Instant,
    after: Instant,
}

/// The session, for a request that has presented its secret before.
async fn find(store: &Handle, key: &Root) -> Result<Option<Arc<Record>>, Broken> {
    match store.load(key, None).await? {
        Loaded::Live(record) => Ok(Some(record)),
        Loaded::Absent => Ok(None),
        Loaded::Superseded => broken("a load without a secret is answered with Superseded"),
    }
}

fn insert(name: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert(name.into(), text(value));
    changes
}

fn text(value: &str) -> Value {
    Value::from_bytes(value.as_bytes())
}

fn committed(outcome: Outcome) -> Result<Arc<Record>, Broken> {
    match outcome {
        Outcome::Committed(record) => Ok(record),
        Outcome::Conflict(_) => broken("a commit is answered with Conflict, not Committed"),
        Outcome::Superseded => broken("a commit is answered with Superseded, not Committed"),
        Outcome::Gone => broken("a commit is answered with Gone, not Committed"),
    }
}

/// The current session in the answer to a commit that had to be refused.
fn conflict(outcome: Outcome) -> Result<Arc<Record>, Broken> {
    match outcome {
        Outcome::Conflict(record) => Ok(record),
        Outcome::Committed(_) => broken("a commit is answered with Committed, not Conflict"),
        Outcome::Superseded => broken("a commit is answered with Superseded, not Conflict"),
        Outcome::Gone => broken("a commit is answered with Gone, not Conflict"),
    }
}

/// Returns `true` if the attributes are exactly these.
fn holds(record: &Record, expected: &[(&str, &str)]) -> bool {
    let expected = expected
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()));
    let found = record.attributes();
    found
        .map(|(name, value)| (name, value.as_bytes()))
        .eq(expected)
}

const HOUR: Duration = Duration::from_secs(3_600);

/// The time limit of a rule. The slowest waits four seconds for sessions to expire.
const PATIENCE: Duration = Duration::from_secs(120);
