//! The contents of the traffic between nodes, as an eavesdropper sees them.

use std::collections::HashSet;

use distributable::SessionStore;
use distributable::session::{Changes, Outcome, Value};
use distributable::store::ReplicatedStoreBuilder;

use super::log::undisturbed;
use super::proxy::Proxy;
use super::replicas::{create, describe, describe_secure, settled};

/// Everything that goes to a node, by connection, while another one writes the same secret value to
/// two attributes again and again, and the hash in the key of the session.
async fn overheard(describe: impl Fn(&str) -> ReplicatedStoreBuilder) -> (Vec<Vec<u8>>, Vec<u8>) {
    let proxy = Proxy::new().await;
    let one = describe("node1").advertise(proxy.address.to_string());
    let one = one.start().await.unwrap();
    proxy.leads_to(one.local_addr());
    settled(&one, 1).await;
    let two = describe("node2").peer(proxy.address.to_string());
    let two = two.start().await.unwrap();
    settled(&two, 2).await;
    settled(&one, 2).await;
    let key = create(&two, &VALUE.repeat(20)).await;
    for i in 0..20 {
        let base = two.load(&key, None).await.unwrap().into_live();
        let mut changes = Changes::default();
        let name = format!("attribute{}", i % 2);
        changes.insert(
            (&*name).into(),
            Value::from_bytes(VALUE.repeat(20).as_bytes()),
        );
        let outcome = two.commit(&key, base.as_ref(), changes).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)));
    }
    let towards = proxy.recorded().into_iter().map(|[towards, _]| towards);
    (towards.collect(), key.to_bytes()[4..].to_vec())
}

fn contains(stream: &[u8], part: &[u8]) -> bool {
    stream.windows(part.len()).any(|window| window == part)
}

/// What is inside the records of TLS that are encrypted.
fn encrypted_part(stream: &[u8]) -> Vec<u8> {
    let mut inside = Vec::new();
    let mut rest = stream;
    while let [kind, _, _, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (record, after) = more.split_at(length);
        if *kind == 0x17 {
            inside.extend_from_slice(record);
        }
        rest = after;
    }
    inside
}

/// How many runs of 16 bytes occur more than once.
fn repeated(stream: &[u8]) -> usize {
    let mut seen = HashSet::new();
    stream.windows(16).filter(|run| !seen.insert(*run)).count()
}

/// C-13, 59.
#[test]
fn who_listens_learns_neither_keys_nor_values_nor_that_they_are_the_same() {
    undisturbed(2, async || {
        let (plain, key) = overheard(describe).await;
        let plain = plain.concat();
        assert!(contains(&plain, &key), "the test would see it");
        assert!(contains(&plain, VALUE.as_bytes()));
        assert!(contains(&plain, b"attribute1"));
        assert!(repeated(&plain) > 1000);

        let (streams, key) = overheard(|name| describe_secure(name, &[])).await;
        let encrypted = streams.concat();
        assert!(encrypted.len() > 8000, "there was something to see");
        for part in [&key[..], VALUE.as_bytes(), b"attribute", b"node2"] {
            assert!(!contains(&encrypted, part), "{part:?}");
        }
        let inside: Vec<_> = streams
            .iter()
            .map(|stream| encrypted_part(stream))
            .collect();
        let inside = inside.concat();
        assert!(inside.len() > 8000);
        assert_eq!(repeated(&inside), 0);
    });
}

const VALUE: &str = "4711-0815-secret";
