//! Secrets of nodes, and the clusters that they form.

use std::time::Duration;

use distributable::SetupErrorKind;
use distributable::store::Multicast;
use distributable::testing::conformance;
use tokio::time::timeout;

use super::log::{Log, undisturbed};
use super::replicas::{
    MACHINE, create, describe, describe_secure, eventually, read, secret, secure, secure_pair,
    settled,
};

#[test]
fn two_nodes_with_one_secret_keep_the_contract_of_stores() {
    undisturbed(4, async || {
        let _machine = MACHINE.lock().await;
        let [one, two] = secure_pair().await;
        conformance(one, two).await;
    });
}

/// N-01.
#[tokio::test]
async fn without_a_secret_only_loopback_is_taken_and_the_error_says_what_to_do() {
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4000"] {
        let refused = describe("node1").bind(bind).start().await.unwrap_err();
        assert_eq!(refused.kind(), SetupErrorKind::NotLoopback);
        let message = refused.to_string();
        assert!(message.contains("openssl rand -hex 32"), "{message}");
        assert!(message.contains(".secret("), "{message}");
    }
    let peer = describe("node1").peer("192.0.2.1:4000").start().await;
    assert_eq!(peer.unwrap_err().kind(), SetupErrorKind::NotLoopback);
}

/// N-01. Two applications that were given no name would become one cluster.
#[tokio::test]
async fn a_node_that_looks_for_others_on_other_machines_needs_the_name_of_its_cluster() {
    let node = || describe_secure("node1", &[]).bind("0.0.0.0:0");
    let far = || node().advertise("192.0.2.1:4000");
    let nameless = [
        far().peer("192.0.2.2:4000"),
        far().peer("peers.invalid:4000"),
        far().multicast(Multicast::default()),
    ];
    for case in nameless {
        let refused = case.clone().start().await.unwrap_err();
        assert_eq!(refused.kind(), SetupErrorKind::ClusterName, "{case:?}");
        let message = refused.to_string();
        assert!(message.contains(".cluster_name("), "{message}");
    }
    // It looks for none, or is on one machine.
    assert!(far().start().await.is_ok());
    let named = far().peer("192.0.2.2:4000").cluster_name("shop");
    assert!(named.start().await.is_ok());
    let near = describe("node1").peer("127.0.0.1:4000").start();
    assert!(near.await.is_ok());
}

/// N-01.
#[tokio::test]
async fn a_loopback_address_is_never_advertised_to_other_machines() {
    let node = || describe_secure("node1", &[]);
    let cases = [
        node().bind("0.0.0.0:0"),
        node().bind("0.0.0.0:0").peer("127.0.0.1:4000"),
        node().bind("0.0.0.0:0").advertise("127.0.0.1:4000"),
        node().bind("0.0.0.0:0").advertise("0.0.0.0:4000"),
        node().peer("192.0.2.1:4000"),
    ];
    for case in cases {
        let refused = case.clone().start().await.unwrap_err();
        assert_eq!(refused.kind(), SetupErrorKind::Node, "{case:?}");
        let message = refused.to_string();
        assert!(
            message.contains("`advertise`") || message.contains("`bind`"),
            "{message}"
        );
    }
    let elsewhere = node().bind("0.0.0.0:0").advertise("192.0.2.1:4000");
    assert!(elsewhere.start().await.is_ok());
}

/// N-08.
#[tokio::test]
async fn nodes_with_different_secrets_stay_apart_and_both_say_why() {
    let one = secure("node1", &[]).await;
    let peer = one.local_addr().to_string();
    let cases = [
        describe("other").secret(secret(2)),
        describe("plain"),
        describe_secure("elsewhere", &[]).cluster_name("another"),
    ];
    for case in cases {
        let before = one.status().rejected_connections;
        let stranger = case.clone().peer(&peer).start().await.unwrap();
        eventually("it is turned away", || {
            one.status().rejected_connections > before + 1
        })
        .await;
        assert_eq!(one.status().members.len(), 1, "{case:?}");
        assert_eq!(stranger.status().members.len(), 1, "{case:?}");
    }
    let two = secure("node2", &[one.local_addr()]).await;
    settled(&two, 2).await;
}

/// N-03.
#[tokio::test]
async fn a_node_with_a_secret_does_not_talk_to_one_without() {
    let plain = describe("plain").start().await.unwrap();
    let secure = secure("node1", &[plain.local_addr()]).await;
    eventually("TLS is turned away", || {
        plain.status().rejected_connections > 1
    })
    .await;
    settled(&plain, 1).await;
    let key = create(&plain, "mine").await;
    eventually("it lists the reason", || secure.status().refused.len() == 1).await;
    assert!(read(&secure, &key).await.is_err());
    assert_eq!(plain.status().members.len(), 1);
    assert_eq!(secure.status().members.len(), 1);
}

/// N-11.
#[test]
fn of_two_nodes_with_one_name_the_second_is_refused_behind_the_secret_too() {
    undisturbed(1, async || {
        let [one, two] = secure_pair().await;
        let double = secure("node1", &[two.local_addr()]).await;
        eventually("it is refused", || double.status().refused.len() == 1).await;
        // Longer than a node waits that finds no other.
        assert!(
            timeout(Duration::from_secs(3), double.ready())
                .await
                .is_err()
        );
        assert_eq!(double.status().members.len(), 1);
        for node in [&one, &two] {
            assert_eq!(node.status().members.len(), 2);
        }
    });
}

/// An address that only its own machine can reach is of no use to the other nodes, which would
/// receive it.
#[tokio::test]
async fn a_node_for_one_machine_and_one_for_many_do_not_mix() {
    let (log, _guard) = Log::begin();
    let near = secure("near", &[]).await;
    let far = describe_secure("far", &[]).advertise("192.0.2.1:4000");
    let far = far.start().await.unwrap();
    let asks = [near.local_addr(), far.local_addr()];
    let between = secure("between", &asks).await;
    settled(&between, 2).await;
    settled(&near, 2).await;
    for words in [
        "can only be reached from its own machine",
        "only one of these addresses can be reached",
    ] {
        eventually(words, || log.count(words) > 0).await;
    }
    let status = far.status();
    assert_eq!(status.members.len(), 1);
}
