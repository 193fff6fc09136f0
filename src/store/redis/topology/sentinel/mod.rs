//! The master as named by sentinels.
//!
//! One task per sentinel listens for `+switch-master`; it also asks once a second, and when an
//! operation suspects a change. Another task chooses among the current answers. After a failover,
//! sentinels are updated at different times; the answer of the latest election takes precedence.
//! Sentinels that were repaired (`SENTINEL REMOVE`, `MONITOR`) or redeployed restart their count of
//! elections: while those and others disagree, the majority decides. If the answers differ, only a
//! server that reports itself as a master is chosen. Answers that name one server in two ways, by a
//! host name and by an address, count as equal.

mod choice;
mod host_names;
mod listener;
mod opinions;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, timeout_at};

use self::choice::keep_choosing;
use self::listener::keep_listening;
use self::opinions::Opinions;
use crate::store::redis::config::Settings;
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::near_cache::Near;
use crate::store::redis::url::Address;
use crate::sync::lock;

/// The master, as far as it is known.
#[derive(Debug)]
pub(super) struct Sentinel {
    shared: Arc<Shared>,
    /// The tasks end when this is dropped.
    listening: OnceLock<watch::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<Settings>,
    master: watch::Sender<Option<Address>>,
    opinions: Mutex<Opinions>,
    /// Wakes the task that chooses.
    changed: Notify,
    suspected: Notify,
    near: Option<Arc<Near>>,
}

impl Sentinel {
    pub(super) fn new(settings: Arc<Settings>, near: Option<Arc<Near>>) -> Self {
        let sentinels = settings.url.addresses.len();
        Self {
            shared: Arc::new(Shared {
                settings,
                master: watch::Sender::new(None),
                opinions: Mutex::new(Opinions::new(sentinels)),
                changed: Notify::new(),
                suspected: Notify::new(),
                near,
            }),
            listening: OnceLock::new(),
        }
    }

    pub(super) async fn master(&self, deadline: Instant) -> Result<Address, RedisError> {
        self.listening.get_or_init(|| {
            let (alive, end) = watch::channel(());
            for number in 0..self.shared.settings.url.addresses.len() {
                task::spawn(keep_listening(number, self.shared.clone(), end.clone()));
            }
            task::spawn(keep_choosing(self.shared.clone(), end));
            alive
        });
        let mut master = self.shared.master.subscribe();
        let known = timeout_at(deadline, master.wait_for(Option::is_some)).await;
        if let Ok(Ok(known)) = known
            && let Some(address) = &*known
        {
            return Ok(address.clone());
        }
        let detail = "no sentinel names a master: check their addresses, their credentials, and \
                      the master's name";
        Err(RedisError::new(RedisErrorKind::Unreachable, detail))
    }

    pub(super) fn is_master(&self, address: &Address) -> bool {
        self.shared.master.borrow().as_ref() == Some(address)
    }

    pub(super) fn suspect(&self) {
        self.shared.suspected.notify_waiters();
    }
}

impl Shared {
    fn opinions(&self) -> MutexGuard<'_, Opinions> {
        lock(&self.opinions)
    }

    fn publish(&self, address: &Address) {
        self.master.send_if_modified(|known| {
            let changed = known.as_ref() != Some(address);
            if changed {
                tracing::info!(master = %address, "the sentinels name a master");
                *known = Some(address.clone());
                if let Some(near) = &self.near {
                    near.moved();
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
