//! One server: the contract, and what the hash looks like.

use distributable::testing::conformance;

use crate::common::redis::Server;
use crate::support::patient;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_redis_store_keeps_the_contract() {
    let server = Server::start(&[]);
    conformance(patient(&server.url()).await, patient(&server.url()).await).await;
}
