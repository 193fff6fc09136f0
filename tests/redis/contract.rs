//! One server: the contract, and what the hash looks like.

use distributable::RedisStore;
use distributable::testing::conformance;

use crate::common::redis::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_redis_store_keeps_the_contract() {
    let server = Server::start(&[]);
    let one = RedisStore::connect(&server.url()).await.unwrap();
    let other = RedisStore::connect(&server.url()).await.unwrap();
    conformance(one, other).await;
}
