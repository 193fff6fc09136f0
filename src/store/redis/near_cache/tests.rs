//! Copies that are returned, and copies that are not.

use super::*;
use crate::clock;
use crate::session::{Changes, SecretHash, Value};

const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

fn near_cache(bytes: usize) -> NearCache {
    let max_age = Duration::from_secs(60);
    let prefix = Prefix::new("sess").expect("it is plain");
    NearCache::new(prefix, NearCacheLimits { bytes, max_age })
}

fn tracked(near_cache: &NearCache) -> Arc<TrackingHealth> {
    let health = near_cache.new_health();
    health.start(clock::now());
    health
}

/// A session after this number of commits.
fn record(version: u64, bytes: usize) -> Arc<Record> {
    let hour = Duration::from_secs(3600);
    let mut changes = Changes::create(SECRET, Some(hour), hour);
    changes.insert("a".into(), Value::from_bytes(vec![0; bytes]));
    // Without a wall clock, versions decide.
    let (credential, lifetime) = changes.birth(clock::now()).expect("it is one");
    let mut record = Record::new(credential, lifetime);
    let version = crate::session::Version {
        clock: version,
        writer: 1,
    };
    for register in changes.entries(version) {
        record.merge_write(&register);
    }
    Arc::new(record)
}

fn put(near_cache: &NearCache, health: &Arc<TrackingHealth>, key: &Root, record: Arc<Record>) {
    let lease = near_cache.lease(key, false);
    lease.fill(record, Some(near_cache.source(health)));
}

fn get(near_cache: &NearCache, key: &Root) -> Option<Arc<Record>> {
    near_cache.get(key, Some(&SECRET), clock::now())
}

/// A root whose session is in this shard.
fn in_shard(shard: u8) -> Root {
    let mut bytes = Root::generate().to_bytes();
    bytes[11] = shard;
    Root::from_bytes(bytes)
}

#[test]
fn what_is_said_about_a_key_counts_for_answers_on_their_way() {
    let (near_cache, key) = (near_cache(1 << 20), Root::generate());
    let health = tracked(&near_cache);
    put(&near_cache, &health, &key, record(1, 10));
    assert!(get(&near_cache, &key).is_some());
    let lease = near_cache.lease(&key, false);
    let name = near_cache.prefix.key(&key);
    near_cache.invalidate(&health, Some(&name));
    lease.fill(record(1, 10), Some(near_cache.source(&health)));
    assert_eq!(get(&near_cache, &key), None);
    assert!(near_cache.lock(key.slot() % SHARDS).pending.is_empty());
}

#[test]
fn an_answer_older_than_our_own_write_or_another_answer_is_not_kept() {
    let (near_cache, key) = (near_cache(1 << 20), Root::generate());
    let health = tracked(&near_cache);
    put(&near_cache, &health, &key, record(1, 10));
    let read = near_cache.lease(&key, false);
    drop(near_cache.lease(&key, true));
    assert_eq!(get(&near_cache, &key), None);
    read.fill(record(1, 10), Some(near_cache.source(&health)));
    assert_eq!(get(&near_cache, &key), None);
    let (first, second) = (near_cache.lease(&key, false), near_cache.lease(&key, false));
    second.fill(record(3, 10), Some(near_cache.source(&health)));
    first.fill(record(2, 10), Some(near_cache.source(&health)));
    let found = get(&near_cache, &key).expect("an earlier read has cached it");
    assert_eq!(found.clock(), 3);
}

/// Only the server decides that a secret is not current: a request with another secret neither
/// receives nor removes a copy.
#[test]
fn a_copy_is_for_its_secret_alone() {
    let (near_cache, key) = (near_cache(1 << 20), Root::generate());
    put(&near_cache, &tracked(&near_cache), &key, record(1, 10));
    let other = SecretHash::from_bytes([2; 16]);
    assert_eq!(near_cache.get(&key, Some(&other), clock::now()), None);
    assert!(near_cache.get(&key, None, clock::now()).is_some());
    assert!(get(&near_cache, &key).is_some());
    let status = near_cache.status();
    assert_eq!((status.hits, status.misses), (2, 1));
}

#[test]
fn a_lost_connection_a_flush_and_a_move_end_every_copy() {
    let near_cache = near_cache(1 << 20);
    let ends: [fn(&NearCache, &TrackingHealth); 3] = [
        |_, health| health.end(),
        |near_cache, health| near_cache.invalidate(health, None),
        |near_cache, _| near_cache.moved(),
    ];
    for end in ends {
        let (health, key) = (tracked(&near_cache), Root::generate());
        put(&near_cache, &health, &key, record(1, 10));
        assert!(get(&near_cache, &key).is_some());
        let lease = near_cache.lease(&key, false);
        let source = near_cache.source(&health);
        end(&near_cache, &health);
        assert_eq!(get(&near_cache, &key), None);
        lease.fill(record(1, 10), Some(source));
        assert_eq!(get(&near_cache, &key), None);
    }
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let near_cache = near_cache(SHARDS * 8_000);
    let health = tracked(&near_cache);
    let wanted = in_shard(7);
    put(&near_cache, &health, &wanted, record(1, 1_000));
    for _ in 0..1_000 {
        assert!(get(&near_cache, &wanted).is_some());
        let key = in_shard(7);
        put(&near_cache, &health, &key, record(1, 1_000));
    }
    let status = near_cache.status();
    assert!(status.bytes <= 8_000 && status.sessions < 8, "{status:?}");
    let huge = in_shard(7);
    put(&near_cache, &health, &huge, record(1, 10_000));
    assert_eq!(get(&near_cache, &huge), None);
    for _ in 0..1_000 {
        put(&near_cache, &health, &wanted, record(1, 1_000));
        near_cache.forget(&wanted);
    }
    assert!(near_cache.lock(7).queue.len() < 4 * QUEUE_SLACK);
}

/// The monotonic clock of most systems stops while the machine is suspended: after hours of that,
/// a copy would seem to be a moment old, and a session that was ended meanwhile would be valid.
#[test]
fn a_copy_from_before_a_suspension_is_not_returned() {
    let (near_cache, key) = (near_cache(1 << 20), Root::generate());
    let health = tracked(&near_cache);
    put(&near_cache, &health, &key, record(1, 10));
    let resumed = clock::now().plus(Duration::from_secs(1_800));
    assert_eq!(near_cache.get(&key, Some(&SECRET), resumed), None);
    // Also if the server has answered since, its age counts.
    put(&near_cache, &health, &key, record(1, 10));
    health.answered(resumed);
    assert_eq!(near_cache.get(&key, Some(&SECRET), resumed), None);
}

/// An answer from before the self-test may be of a key that the server does not track, and a
/// connection that has ended meanwhile sends nothing.
#[test]
fn a_late_self_test_makes_no_copy_of_earlier_answers() {
    let (near_cache, key) = (near_cache(1 << 20), Root::generate());
    let health = near_cache.new_health();
    let lease = near_cache.lease(&key, false);
    let source = near_cache.source(&health);
    health.start(clock::now());
    lease.fill(record(1, 10), Some(source));
    assert_eq!(get(&near_cache, &key), None);
    put(&near_cache, &health, &key, record(1, 10));
    assert!(get(&near_cache, &key).is_some());
    health.end();
    health.start(clock::now());
    assert_eq!(get(&near_cache, &key), None);
    put(&near_cache, &health, &key, record(1, 10));
    assert_eq!(get(&near_cache, &key), None);
}
