//! A store keeps its contract inside a snapshot as it does alone.

use std::time::Duration;

use distributable::testing::conformance;

use crate::support::{Directory, open};

/// 60 (d). With a file being written all the time, and every end noted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_in_a_snapshot_keeps_the_contract() {
    let directory = Directory::new();
    let often = directory.builder().interval(Duration::from_millis(1));
    let store = open(often).await.expect("it can be opened");
    conformance(store.clone(), store).await;
}
