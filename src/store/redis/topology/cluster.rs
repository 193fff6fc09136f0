//! The slot table of a cluster.
//!
//! The owner named in a redirection is used at once; one task then reads the whole table again,
//! from the node that answers first. No operation waits for a node that is down.

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
use crate::store::redis::keys::SLOTS;
use crate::store::redis::near_cache::NearCache;
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

#[derive(Debug, Default)]
struct SlotTable {
    /// By slot; empty before the first read.
    owners: Vec<Option<Address>>,
    /// All nodes that may be asked, including replicas.
    nodes: HashSet<Address>,
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

    /// Asks all nodes at once; the first answer is used.
    async fn read_table(self: &Arc<Self>) -> Result<SlotTable, RedisError> {
        // Those of the URL each time: if all known nodes were replaced, only its host names lead to
        // the new ones.
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
        while let Some(table) = asked.join_next().await {
            match table {
                Ok(Ok(table)) => return Ok(table),
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }
}

impl SlotTable {
    fn owner(&self, slot: u16) -> Option<Address> {
        self.owners.get(usize::from(slot))?.clone()
    }

    /// Parses the answer to `CLUSTER SLOTS`: ranges, each with its owner and the owner's replicas.
    fn parse(reply: Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = reply else {
            return None;
        };
        let mut table = Self {
            owners: vec![None; usize::from(SLOTS)],
            nodes: HashSet::new(),
        };
        for range in ranges {
            let Value::Array(range) = range else {
                return None;
            };
            let (Some(Value::Int(first)), Some(Value::Int(last))) = (range.first(), range.get(1))
            else {
                return None;
            };
            let slots = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
            let mut nodes = range[2..].iter().map(|node| parse_node(node, asked));
            let owner = nodes.next()??;
            table.owners.get_mut(slots)?.fill(Some(owner.clone()));
            table.nodes.insert(owner);
            table.nodes.extend(nodes.flatten());
        }
        // A node that was reset lists no owners: its answer must not replace the table of a working
        // cluster.
        (!table.nodes.is_empty()).then_some(table)
    }
}

/// A node without a host is the one that was asked.
fn parse_node(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else {
        return None;
    };
    let host = match parts.first()? {
        Value::BulkString(host) => str::from_utf8(host).ok()?,
        _ => "",
    };
    let Value::Int(port) = parts.get(1)? else {
        return None;
    };
    let host = match host {
        "" | "?" => &asked.host,
        host => host,
    };
    Some(Address {
        host: host.to_owned(),
        port: u16::try_from(*port).ok()?,
    })
}

async fn ask(node: &Address, config: &RedisConfig) -> Result<SlotTable, RedisError> {
    let info = connect::greeting(&config.url.credentials, 0, false);
    let mut connected = connect::connect(node, config, &info, None)
        .await
        .map_err(OpenError::into_error)?;
    let mut question = redis::pipe();
    question.cmd("CLUSTER").arg("SLOTS");
    let reply = connected
        .connection
        .send_packed_commands(&question, 0, 1)
        .await;
    connected.driver.abort();
    let reply = reply.ok().and_then(|mut replies| replies.pop());
    if let Some(Value::ServerError(error)) = &reply {
        let error = CommandFailure::of_reply(error, "CLUSTER SLOTS").into_error();
        let message = format!("{node}: {error}");
        return Err(match error.kind() {
            RedisErrorKind::Denied => error,
            _ => RedisError::new(RedisErrorKind::ClusterDown, message),
        });
    }
    let table = reply.and_then(|reply| SlotTable::parse(reply, node));
    table.ok_or_else(|| {
        let message = format!("{node} reports no owner of any slot");
        RedisError::new(RedisErrorKind::ClusterDown, message)
    })
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
/// The minimum interval between reads of the table, for any number of redirections.
const READ_PAUSE: Duration = Duration::from_millis(200);
/// The interval without redirections, to find nodes that may be asked later.
const READ_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn list(parts: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(parts.into_iter().collect())
    }

    fn node(host: Value, port: i64) -> Value {
        list([host, Value::Int(port)])
    }

    fn range(first: i64, last: i64, nodes: impl IntoIterator<Item = Value>) -> Value {
        list(
            [Value::Int(first), Value::Int(last)]
                .into_iter()
                .chain(nodes),
        )
    }

    fn parse(ranges: impl IntoIterator<Item = Value>) -> Option<SlotTable> {
        let asked = Address::parse("10.0.0.7:7000", 0).expect("it is one");
        SlotTable::parse(list(ranges), &asked)
    }

    ///
    #[test]
    fn a_table_has_owners_and_nodes_and_fills_in_missing_hosts() {
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let table = parse([
            range(
                0,
                99,
                [node(host("10.0.0.8"), 1), node(host("10.0.0.9"), 2)],
            ),
            range(100, 100, [node(Value::Nil, 3)]),
            range(16_383, 16_383, [node(host("?"), 4)]),
        ])
        .expect("it is one");
        let owner = |slot| table.owner(slot).map(|owner| owner.to_string());
        assert_eq!(owner(99).as_deref(), Some("10.0.0.8:1"));
        assert_eq!(owner(100).as_deref(), Some("10.0.0.7:3"));
        assert_eq!(owner(101), None);
        assert_eq!(owner(16_383).as_deref(), Some("10.0.0.7:4"));
        assert_eq!(table.nodes.len(), 4);
    }

    /// a node that was reset names no owner, and must not replace a table of others.
    #[test]
    fn an_answer_without_owners_is_no_table() {
        assert!(parse([]).is_none());
        assert!(parse([range(0, 99, [])]).is_none());
        assert!(parse([range(0, 16_384, [node(Value::Nil, 1)])]).is_none());
        assert!(parse([range(0, 99, [node(Value::Nil, 65_536)])]).is_none());
    }
}
