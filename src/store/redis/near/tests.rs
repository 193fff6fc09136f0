//! Copies that are returned, and copies that are not.

use super::*;
use crate::clock;
use crate::session::{Changes, SecretHash, Value};

const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

fn near(bytes: usize) -> Near {
    let max_age = Duration::from_secs(60);
    let prefix = Prefix::new("sess").expect("it is plain");
    Near::new(prefix, NearCacheLimits { bytes, max_age })
}

fn tracked(near: &Near) -> Arc<Health> {
    let health = near.new_health();
    health.set_tracked(true);
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

fn put(near: &Near, health: &Arc<Health>, key: &Root, record: Arc<Record>) {
    let ticket = near.ticket(key, false);
    ticket.redeem(record, Some(near.source(health)));
}

fn get(near: &Near, key: &Root) -> Option<Arc<Record>> {
    near.get(key, Some(&SECRET), clock::now())
}

/// A root whose session is in this shard.
fn in_shard(shard: u8) -> Root {
    let mut bytes = Root::generate().to_bytes();
    bytes[11] = shard;
    Root::from_bytes(bytes)
}

#[test]
fn what_is_said_about_a_key_counts_for_answers_on_their_way() {
    let (near, key) = (near(1 << 20), Root::generate());
    let health = tracked(&near);
    put(&near, &health, &key, record(1, 10));
    assert!(get(&near, &key).is_some());
    let ticket = near.ticket(&key, false);
    let name = near.prefix.key(&key);
    near.invalidate(&health, Some(&name));
    ticket.redeem(record(1, 10), Some(near.source(&health)));
    assert_eq!(get(&near, &key), None);
    assert!(near.lock(key.slot() % SHARDS).pending.is_empty());
}

#[test]
fn an_answer_older_than_our_own_write_or_another_answer_is_not_kept() {
    let (near, key) = (near(1 << 20), Root::generate());
    let health = tracked(&near);
    put(&near, &health, &key, record(1, 10));
    let read = near.ticket(&key, false);
    drop(near.ticket(&key, true));
    assert_eq!(get(&near, &key), None);
    read.redeem(record(1, 10), Some(near.source(&health)));
    assert_eq!(get(&near, &key), None);
    let (first, second) = (near.ticket(&key, false), near.ticket(&key, false));
    second.redeem(record(3, 10), Some(near.source(&health)));
    first.redeem(record(2, 10), Some(near.source(&health)));
    let found = get(&near, &key).expect("an earlier read has cached it");
    assert_eq!(found.clock(), 3);
}

/// Only the server decides that a secret is not current: a request with another secret neither
/// receives nor removes a copy.
#[test]
fn a_copy_is_for_its_secret_alone() {
    let (near, key) = (near(1 << 20), Root::generate());
    put(&near, &tracked(&near), &key, record(1, 10));
    let other = SecretHash::from_bytes([2; 16]);
    assert_eq!(near.get(&key, Some(&other), clock::now()), None);
    assert!(near.get(&key, None, clock::now()).is_some());
    assert!(get(&near, &key).is_some());
    let status = near.status();
    assert_eq!((status.hits, status.misses), (2, 1));
}

#[test]
fn a_lost_connection_a_flush_and_a_move_end_every_copy() {
    let near = near(1 << 20);
    let ends: [fn(&Near, &Health); 3] = [
        |_, health| health.set_tracked(false),
        |near, health| near.invalidate(health, None),
        |near, _| near.moved(),
    ];
    for end in ends {
        let (health, key) = (tracked(&near), Root::generate());
        put(&near, &health, &key, record(1, 10));
        assert!(get(&near, &key).is_some());
        let ticket = near.ticket(&key, false);
        let source = near.source(&health);
        end(&near, &health);
        assert_eq!(get(&near, &key), None);
        ticket.redeem(record(1, 10), Some(source));
        assert_eq!(get(&near, &key), None);
    }
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let near = near(SHARDS * 8_000);
    let health = tracked(&near);
    let wanted = in_shard(7);
    put(&near, &health, &wanted, record(1, 1_000));
    for _ in 0..1_000 {
        assert!(get(&near, &wanted).is_some());
        let key = in_shard(7);
        put(&near, &health, &key, record(1, 1_000));
    }
    let status = near.status();
    assert!(status.bytes <= 8_000 && status.sessions < 8, "{status:?}");
    let huge = in_shard(7);
    put(&near, &health, &huge, record(1, 10_000));
    assert_eq!(get(&near, &huge), None);
    for _ in 0..1_000 {
        put(&near, &health, &wanted, record(1, 1_000));
        near.forget(&wanted);
    }
    assert!(near.lock(7).queue.len() < 4 * QUEUE_SLACK);
}
