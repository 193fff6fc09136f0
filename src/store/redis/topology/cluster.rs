//! The slot table of a cluster.
//!
//! The owner named in a redirection is used at once; one task then reads the whole table again,
//! from the first node that answers and is not cut off from the others. No operation waits for a
//! node that is down.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::store::redis::config::{CONNECT_WITHIN, RedisConfig};
use crate::store::redis::connect::{self, OpenError};
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::info;
use crate::store::redis::near_cache::NearCache;
use crate::store::redis::topology::slot_table::SlotTable;
use crate::store::redis::topology::tasks::TopologyTasks;
use crate::store::redis::url::Address;
use crate::sync::{read, write};

/// The owners of all slots, as far as they are known.
#[derive(Debug)]
pub(crate) struct ClusterTopology {
    shared: Arc<ClusterShared>,
    /// The task that reads the table.
    reader: TopologyTasks,
}

#[derive(Debug)]
struct ClusterShared {
    config: Arc<RedisConfig>,
    table: RwLock<SlotTable>,
    /// Counts how many times the table has been read.
    reads: watch::Sender<u64>,
    wanted: Notify,
    /// The error of the last attempt to read the table.
    failure: RwLock<Option<RedisError>>,
    near_cache: Option<Arc<NearCache>>,
}

impl ClusterTopology {
    pub(super) fn new(config: Arc<RedisConfig>, near_cache: Option<Arc<NearCache>>) -> Self {
        Self {
            shared: Arc::new(ClusterShared {
                config,
                table: RwLock::default(),
                reads: watch::Sender::new(0),
                wanted: Notify::new(),
                failure: RwLock::default(),
                near_cache,
            }),
            reader: TopologyTasks::new(),
        }
    }

    pub(super) async fn owner(&self, slot: u16, deadline: Instant) -> Result<Address, RedisError> {
        self.find(deadline, |table| table.owner(slot)).await
    }

    pub(super) async fn owners(
        &self,
        slots: &[u16],
        deadline: Instant,
    ) -> Result<Vec<Option<Address>>, RedisError> {
        let owners = |table: &SlotTable| {
            let owners = || slots.iter().map(|slot| table.owner(*slot)).collect();
            (!table.owners.is_empty()).then(owners)
        };
        self.find(deadline, owners).await
    }

    pub(super) async fn primaries(&self, deadline: Instant) -> Result<Vec<Address>, RedisError> {
        let primaries = |table: &SlotTable| {
            let owners: HashSet<_> = table.owners.iter().flatten().cloned().collect();
            (!owners.is_empty()).then(|| owners.into_iter().collect())
        };
        self.find(deadline, primaries).await
    }

    /// A hash of the owners of all slots, the same on every node.
    pub(super) fn layout(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.shared.read().owners.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn contains(&self, address: &Address) -> bool {
        self.shared.read().nodes.contains(address)
    }

    /// Returns the first of the keys in a slot of this server.
    pub(super) fn find_key_of(
        &self,
        address: &Address,
        keys: impl Iterator<Item = Vec<u8>>,
    ) -> Option<Vec<u8>> {
        self.shared.read().find_key_of(address, keys)
    }

    pub(super) fn moved(&self, slot: u16, node: &str, from: &Address) {
        if let Some(address) = from.redirect(node) {
            let mut table = self.shared.write();
            // The router drops the connections to servers that are not in the table when it
            // connects to a new one.
            table.nodes.insert(address.clone());
            if let Some(owner) = table.owners.get_mut(usize::from(slot)) {
                *owner = Some(address);
            }
            drop(table);
            self.shared.moved();
        }
        self.mark_stale();
    }

    pub(super) fn mark_stale(&self) {
        self.shared.wanted.notify_one();
    }

    /// Looks something up in the table; waits until it is known.
    async fn find<T>(
        &self,
        deadline: Instant,
        look: impl Fn(&SlotTable) -> Option<T>,
    ) -> Result<T, RedisError> {
        self.reader
            .start_once(|end| drop(task::spawn(keep_reading(self.shared.clone(), end))));
        // Before the first look, so that a read of the table that ends right after it is not
        // missed.
        let mut reads = self.shared.reads.subscribe();
        loop {
            if let Some(found) = look(&self.shared.read()) {
                return Ok(found);
            }
            self.mark_stale();
            if timeout_at(deadline, reads.changed()).await.is_err() {
                let failure = read(&self.shared.failure)
                    .as_ref()
                    .map(RedisError::flattened);
                return Err(failure.unwrap_or_else(|| {
                    let message = "no node owns this session's slot";
                    RedisError::new(RedisErrorKind::ClusterDown, message)
                }));
            }
        }
    }
}

impl ClusterShared {
    /// Invalidates copies that were read from the old owner.
    fn moved(&self) {
        if let Some(near_cache) = &self.near_cache {
            near_cache.moved();
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, SlotTable> {
        read(&self.table)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, SlotTable> {
        write(&self.table)
    }

    /// Asks all nodes at once. The first answer is used, unless its node is cut off from the
    /// others: its table is from before then, and it may be the nearest one each time.
    async fn read_table(self: &Arc<Self>) -> Result<SlotTable, RedisError> {
        // The hosts of the URL are always included: if all known nodes were replaced, only they
        // lead to the new ones.
        let mut nodes: HashSet<Address> = self.config.url.addresses.iter().cloned().collect();
        nodes.extend(self.read().nodes.iter().take(NODES_ASKED_MAX).cloned());
        let mut asked = JoinSet::new();
        for node in nodes {
            let shared = self.clone();
            asked.spawn(async move {
                match timeout(CONNECT_WITHIN, ask(&node, &shared.config)).await {
                    Ok(table) => table,
                    Err(_) => {
                        let message = format!("{node} does not answer");
                        Err(RedisError::new(RedisErrorKind::Unreachable, message))
                    }
                }
            });
        }
        let mut failure = RedisError::new(RedisErrorKind::ClusterDown, "no node can be asked");
        let mut outdated: Option<NodeAnswer> = None;
        // Each query has a shorter timeout of its own.
        let mut until = Instant::now() + 2 * CONNECT_WITHIN;
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            match answer {
                Ok(Ok(answer)) if answer.is_ok => return Ok(answer.table),
                Ok(Ok(answer)) => {
                    let Some(known) = &outdated else {
                        until = until.min(Instant::now() + OTHERS_WITHIN);
                        outdated = Some(answer);
                        continue;
                    };
                    if known.epoch < answer.epoch {
                        outdated = Some(answer);
                    }
                }
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            }
        }
        // The whole cluster may be down.
        outdated.map(|answer| answer.table).ok_or(failure)
    }
}

async fn ask(node: &Address, config: &RedisConfig) -> Result<NodeAnswer, RedisError> {
    let info = connect::greeting(&config.url.credentials, 0, false);
    let mut connected = connect::connect(node, config, &info, None)
        .await
        .map_err(OpenError::into_error)?;
    let mut question = redis::pipe();
    question.cmd("CLUSTER").arg("SLOTS");
    question.cmd("CLUSTER").arg("INFO");
    let replies = connected
        .connection
        .send_packed_commands(&question, 0, question.len())
        .await;
    connected.driver.abort();
    let mut replies = replies.into_iter().flatten();
    let reply = replies.next();
    if let Some(Value::ServerError(error)) = &reply {
        let error = CommandFailure::of_reply(error, "CLUSTER SLOTS").into_error();
        let message = format!("{node}: {error}");
        return Err(match error.kind() {
            RedisErrorKind::Denied => error,
            _ => RedisError::new(RedisErrorKind::ClusterDown, message),
        });
    }
    let table = reply.and_then(|reply| SlotTable::parse(reply, node));
    let table = table.ok_or_else(|| {
        let message = format!("{node} reports no owner of any slot");
        RedisError::new(RedisErrorKind::ClusterDown, message)
    })?;
    Ok(NodeAnswer::new(table, replies.next().as_ref()))
}

/// The answer of a node to the questions about the cluster.
struct NodeAnswer {
    table: SlotTable,
    /// The node reaches most of the others, as far as it reports that.
    is_ok: bool,
    /// The latest configuration of the cluster that it knows.
    epoch: u64,
}

impl NodeAnswer {
    /// With the answer to `CLUSTER INFO`. A node that refuses the command is trusted.
    fn new(table: SlotTable, info: Option<&Value>) -> Self {
        let field = |name| info.and_then(|info| info::field(info, name));
        let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
        Self {
            table,
            is_ok: field("cluster_state").is_none_or(|state| state == "ok"),
            epoch: epoch.unwrap_or_default(),
        }
    }
}

/// Reads the table on request, and periodically.
async fn keep_reading(shared: Arc<ClusterShared>, mut end: watch::Receiver<()>) {
    loop {
        let table = tokio::select! {
            table = shared.read_table() => table,
            _ = end.changed() => return,
        };
        match table {
            Ok(table) => {
                let old = std::mem::replace(&mut *shared.write(), table);
                // A slot's new owner has sent none of the answers from which its copies were made,
                // so it invalidates none of them.
                if old.owners != shared.read().owners {
                    shared.moved();
                }
                *write(&shared.failure) = None;
                shared.reads.send_modify(|reads| *reads += 1);
            }
            Err(error) => {
                tracing::debug!(cause = %error.flattened(), "the slot table cannot be read");
                *write(&shared.failure) = Some(error);
            }
        }
        tokio::select! {
            () = sleep(READ_PAUSE) => {}
            _ = end.changed() => return,
        }
        tokio::select! {
            () = shared.wanted.notified() => {}
            () = sleep(READ_EVERY) => {}
            _ = end.changed() => return,
        }
    }
}

/// Nodes that are asked for the table at once, in addition to those of the URL.
const NODES_ASKED_MAX: usize = 8;
/// How long the others may take to answer after a node that is cut off: some round trips.
const OTHERS_WITHIN: Duration = Duration::from_millis(500);
/// The minimum interval between reads of the table, for any number of redirections.
const READ_PAUSE: Duration = Duration::from_millis(200);
/// The interval without redirections, to find nodes that may be asked later.
const READ_EVERY: Duration = Duration::from_secs(10);
