//! The records that requests have loaded, to compare what they save with.
//!
//! tower-sessions hands out a record when it loads a session, and gets one to save, with nothing in
//! it that connects the two. Several requests of one session may be under way, each with another
//! state of it. What identifies a record is its map: the keys of a map's hasher are drawn for each
//! new map, and stay with it and its clones. A [`MapFingerprint`] is a hash that those keys make.
//!
//! The number and the size of the records is limited; the oldest are dropped first. Where one is
//! missing, the stored session takes its place. That it was there is remembered for much longer: if
//! there is no stored session either, it has ended since, and a save must not create it again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;

use crate::bridge::conversion::EncodedRecord;
use crate::session::{Record, Root, Value};
use crate::sync::lock;

/// What identifies a map and its clones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MapFingerprint(u64);

impl MapFingerprint {
    pub(super) fn of(data: &HashMap<String, Json>) -> Self {
        Self(data.hasher().hash_one(0_u64))
    }
}

/// A session as one request knows it to be stored.
#[derive(Clone, Debug)]
pub(super) struct Base {
    record: Arc<Record>,
    /// What the request has saved since. The record may have more, from other requests.
    saved: Option<EncodedRecord>,
}

impl Base {
    pub(super) const fn loaded(record: Arc<Record>) -> Self {
        Self {
            record,
            saved: None,
        }
    }

    pub(super) const fn saved(record: Arc<Record>, content: EncodedRecord) -> Self {
        Self {
            record,
            saved: Some(content),
        }
    }

    pub(super) const fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// An attribute as the request knows it, by its stored name.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        match &self.saved {
            Some(content) => content.value(name),
            None => self.record.get(name),
        }
    }

    /// The stored names of the attributes that the request knows.
    pub(super) fn names(&self) -> Vec<&str> {
        match &self.saved {
            Some(content) => content.names().collect(),
            None => {
                let entries = self.record.entries().iter();
                let live = entries.filter(|register| register.value.is_some());
                live.map(|register| register.name.as_str()).collect()
            }
        }
    }

    fn bytes(&self) -> usize {
        self.record.footprint() + self.saved.as_ref().map_or(0, EncodedRecord::bytes)
    }
}

/// The bases of the requests of one node.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<BaseTable>);

#[derive(Debug, Default)]
struct BaseTable {
    known: HashMap<(Root, MapFingerprint), (u64, Base)>,
    /// In the order in which they came, those that were replaced since included.
    order: VecDeque<(u64, (Root, MapFingerprint))>,
    bytes: usize,
    next: u64,
    dropped: DroppedBases,
}

/// What is remembered of bases that were dropped.
#[derive(Debug, Default)]
struct DroppedBases {
    known: HashSet<(Root, MapFingerprint)>,
    /// In the order in which they were dropped.
    order: VecDeque<(Root, MapFingerprint)>,
}

impl Bases {
    pub(super) fn get(&self, root: Root, print: MapFingerprint) -> Option<Base> {
        let table = lock(&self.0);
        let (_, base) = table.known.get(&(root, print))?;
        Some(base.clone())
    }

    /// Returns `true` if there was a base that was dropped since: the request has had the session.
    pub(super) fn was_dropped(&self, root: Root, print: MapFingerprint) -> bool {
        lock(&self.0).dropped.known.contains(&(root, print))
    }

    pub(super) fn put(&self, root: Root, print: MapFingerprint, base: Base) {
        let mut table = lock(&self.0);
        table.put((root, print), base);
        table.shrink(BASES_MAX, BASE_BYTES_MAX);
    }
}

impl BaseTable {
    fn put(&mut self, key: (Root, MapFingerprint), base: Base) {
        self.next += 1;
        self.bytes += base.bytes();
        self.order.push_back((self.next, key));
        if let Some((_, former)) = self.known.insert(key, (self.next, base)) {
            self.bytes -= former.bytes();
        }
    }

    fn shrink(&mut self, bases_max: usize, bytes_max: usize) {
        while self.order.len() > bases_max || self.bytes > bytes_max {
            let Some((number, key)) = self.order.pop_front() else {
                return;
            };
            if self
                .known
                .get(&key)
                .is_some_and(|(known, _)| *known == number)
                && let Some((_, base)) = self.known.remove(&key)
            {
                self.bytes -= base.bytes();
                self.dropped.put(key, DROPPED_MAX);
            }
        }
    }
}

impl DroppedBases {
    fn put(&mut self, key: (Root, MapFingerprint), max: usize) {
        if self.known.insert(key) {
            self.order.push_back(key);
        }
        while self.order.len() > max {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// How many records are kept, loaded or saved. Requests do not say when they are done: the number
/// has to cover those that run at once, and all that came since the oldest of them.
const BASES_MAX: usize = 65_536;

/// How many bytes they may have together, each counted as if no other had the same values.
const BASE_BYTES_MAX: usize = 64 << 20;

/// How many dropped records are remembered, in up to 80 bytes each.
const DROPPED_MAX: usize = 262_144;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::{Changes, Outcome, SecretHash, Timestamp};

    fn record(bytes: usize) -> Arc<Record> {
        let hour = Duration::from_secs(3600);
        let mut changes = Changes::create(SecretHash::from_bytes([1; 16]), Some(hour), hour);
        changes.insert("a".into(), Value::from_bytes(vec![0; bytes]));
        match changes.apply_as(None, None, Timestamp::from_millis(1_000_000), 1) {
            Outcome::Committed(record) => record,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    fn key(n: u64) -> (Root, MapFingerprint) {
        (Root::from_bytes([1; 12]), MapFingerprint(n))
    }

    #[test]
    fn a_map_and_its_clones_have_one_print_and_another_map_has_another() {
        let map = HashMap::from([("a".to_owned(), Json::from(1))]);
        let mut clone = map.clone();
        clone.clear();
        assert_eq!(MapFingerprint::of(&map), MapFingerprint::of(&clone));
        let other = HashMap::from([("a".to_owned(), Json::from(1))]);
        assert_eq!(map, other);
        assert_ne!(MapFingerprint::of(&map), MapFingerprint::of(&other));
    }

    #[test]
    fn the_oldest_are_dropped_beyond_either_limit() {
        let mut table = BaseTable::default();
        for n in 0..5 {
            table.put(key(n), Base::loaded(record(100)));
            table.shrink(3, 1 << 20);
        }
        let mut left: Vec<_> = table.known.keys().map(|(_, print)| print.0).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3, 4]);
        table.put(key(5), Base::loaded(record(4_000)));
        table.shrink(3, 5_000);
        assert!(table.known.contains_key(&key(5)) && table.bytes <= 5_000);
        table.shrink(0, 0);
        assert_eq!((table.known.len(), table.bytes), (0, 0));
    }

    #[test]
    fn the_latest_that_were_dropped_are_remembered() {
        let mut dropped = DroppedBases::default();
        for n in [0, 1, 1, 2, 3, 3] {
            dropped.put(key(n), 2);
        }
        assert_eq!(dropped.known, HashSet::from([key(2), key(3)]));
        assert_eq!(dropped.order, [key(2), key(3)]);
    }

    #[test]
    fn a_base_that_is_replaced_again_and_again_takes_no_more_room() {
        let mut table = BaseTable::default();
        for _ in 0..100 {
            table.put(key(1), Base::loaded(record(100)));
            table.shrink(4, 1 << 20);
        }
        assert_eq!(table.bytes, Base::loaded(record(100)).bytes());
        assert!(table.order.len() <= 4 && table.known.contains_key(&key(1)));
    }
}
