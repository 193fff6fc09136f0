//! The primary as named by sentinels.
//!
//! One task per sentinel listens for `+switch-master`; it also asks once a second, and when an
//! operation suspects a change. Another task chooses among the current answers. After a failover,
//! sentinels are updated at different times; the answer of the latest election takes precedence,
//! also after the sentinels that have named it cannot be asked any more. Sentinels that were
//! repaired (`SENTINEL REMOVE`, `MONITOR`) or redeployed restart their count of elections: while
//! those and others disagree, the majority decides. If the answers differ, only a server that
//! reports itself as a primary is chosen. Answers that name one server in two ways, by a host name
//! and by an address, count as equal.

mod answers;
mod choice;
mod host_names;
mod listener;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, timeout_at};

use self::answers::SentinelAnswers;
use self::choice::keep_choosing;
use self::listener::keep_listening;
use crate::store::redis::config::RedisConfig;
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::near_cache::NearCache;
use crate::store::redis::topology::tasks::TopologyTasks;
use crate::store::redis::url::Address;
use crate::sync::lock;

/// The primary, as far as it is known.
#[derive(Debug)]
pub(crate) struct SentinelTopology {
    shared: Arc<SentinelShared>,
    listening: TopologyTasks,
}

#[derive(Debug)]
struct SentinelShared {
    config: Arc<RedisConfig>,
    primary: watch::Sender<Option<Address>>,
    answers: Mutex<SentinelAnswers>,
    /// Wakes the task that chooses.
    changed: Notify,
    stale: Notify,
    near_cache: Option<Arc<NearCache>>,
    /// The latest failure of a sentinel.
    failure: Mutex<Option<RedisError>>,
}

impl SentinelTopology {
    pub(super) fn new(config: Arc<RedisConfig>, near_cache: Option<Arc<NearCache>>) -> Self {
        let sentinels = config.url.addresses.len();
        Self {
            shared: Arc::new(SentinelShared {
                config,
                primary: watch::Sender::new(None),
                answers: Mutex::new(SentinelAnswers::new(sentinels)),
                changed: Notify::new(),
                stale: Notify::new(),
                near_cache,
                failure: Mutex::default(),
            }),
            listening: TopologyTasks::new(),
        }
    }

    pub(super) async fn primary(&self, deadline: Instant) -> Result<Address, RedisError> {
        self.listening.start_once(|end| {
            // What was known in a runtime that has ended may have changed since.
            self.shared.primary.send_replace(None);
            for number in 0..self.shared.config.url.addresses.len() {
                self.shared.answers().withdraw(number);
                task::spawn(keep_listening(number, self.shared.clone(), end.clone()));
            }
            task::spawn(keep_choosing(self.shared.clone(), end));
        });
        let mut primary = self.shared.primary.subscribe();
        let known = timeout_at(deadline, primary.wait_for(Option::is_some)).await;
        if let Ok(Ok(known)) = known
            && let Some(address) = &*known
        {
            return Ok(address.clone());
        }
        let message = "no sentinel names a primary: check their addresses, their credentials, TLS, \
                       and the name of the primary";
        let error = RedisError::new(RedisErrorKind::Unreachable, message);
        Err(match self.shared.failure() {
            Some(failure) => error.with_source(failure),
            None => error,
        })
    }

    pub(super) fn is_primary(&self, address: &Address) -> bool {
        self.shared.primary.borrow().as_ref() == Some(address)
    }

    pub(super) fn mark_stale(&self) {
        self.shared.stale.notify_waiters();
    }
}

impl SentinelShared {
    fn answers(&self) -> MutexGuard<'_, SentinelAnswers> {
        lock(&self.answers)
    }

    fn failure(&self) -> Option<RedisError> {
        lock(&self.failure).as_ref().map(RedisError::flattened)
    }

    fn record_failure(&self, failure: RedisError) {
        *lock(&self.failure) = Some(failure);
    }

    fn publish(&self, address: &Address) {
        self.primary.send_if_modified(|known| {
            let changed = known.as_ref() != Some(address);
            if changed {
                tracing::info!(%address, "the sentinels name a primary");
                *known = Some(address.clone());
                // While the new address is not visible yet: no copy from the old primary may be
                // returned after a read from the new one.
                if let Some(near_cache) = &self.near_cache {
                    near_cache.moved();
                }
            }
            changed
        });
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long a sentinel, a server or a name server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
