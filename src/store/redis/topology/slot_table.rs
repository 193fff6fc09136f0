//! The table of slots of a cluster, as a node reports it.

use std::collections::HashSet;

use redis::Value;

use crate::store::redis::keys::{self, SLOTS};
use crate::store::redis::url::Address;

/// The owners of slots, as one node has named them.
#[derive(Debug, Default)]
pub(super) struct SlotTable {
    /// By slot; empty before the first read.
    pub(super) owners: Vec<Option<Address>>,
    /// All nodes that may be asked, including replicas.
    pub(super) nodes: HashSet<Address>,
}

impl SlotTable {
    pub(super) fn owner(&self, slot: u16) -> Option<Address> {
        self.owners.get(usize::from(slot))?.clone()
    }

    /// Returns the first of the keys in a slot of this server.
    pub(super) fn find_key_of(
        &self,
        address: &Address,
        mut keys: impl Iterator<Item = Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let is_owner = |owner: &Option<Address>| owner.as_ref() == Some(address);
        if !self.owners.iter().any(is_owner) {
            return None;
        }
        keys.find(|key| {
            self.owners
                .get(usize::from(keys::slot(key)))
                .is_some_and(is_owner)
        })
    }

    /// Parses the answer to `CLUSTER SLOTS`: ranges, each with its owner and the owner's replicas.
    pub(super) fn parse(reply: Value, asked: &Address) -> Option<Self> {
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

    /// one of a hundred shards, and a server that owns nothing.
    #[test]
    fn a_key_is_found_for_every_owner() {
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let few = [node(host("10.0.0.8"), 1)];
        let most = [node(host("10.0.0.9"), 2)];
        let table = parse([range(0, 162, few), range(163, 16_383, most)]).expect("it is one");
        let find = |address: &str| {
            let address = Address::parse(address, 0).expect("it is one");
            let keys = (0..10_000).map(|number| format!("sess:probe{number}").into_bytes());
            table.find_key_of(&address, keys)
        };
        let found = find("10.0.0.8:1").expect("it owns some");
        assert!(keys::slot(&found) < 163);
        assert_eq!(find("10.0.0.9:2").as_deref(), Some(&b"sess:probe0"[..]));
        assert_eq!(find("10.0.0.7:3"), None);
    }
}
