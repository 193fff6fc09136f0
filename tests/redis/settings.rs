//! Connection settings of the application's own Redis client.

use distributable::RedisStore;
use distributable::store::RedisErrorKind;
use distributable::testing::conformance;
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use crate::common::redis::Server;
use crate::support::{PATIENT, create};

/// the address, the database and the credentials of a client that the application has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_takes_the_settings_of_a_client() {
    let server = Server::start_with_password("right");
    let info = ("127.0.0.1", server.port).into_connection_info().unwrap();
    let settings = RedisConnectionInfo::default()
        .set_password("right")
        .set_db(3);
    let client = redis::Client::open(info.set_redis_settings(settings)).unwrap();
    let open = async || {
        let builder = RedisStore::builder_with(client.get_connection_info().clone());
        let builder = builder.unwrap().prefix("shop").operation_timeout(PATIENT);
        assert!(!format!("{builder:?}").contains("right"));
        builder.connect().await.unwrap()
    };
    conformance(open().await, open().await).await;
    let (key, _) = create(&open().await, "a", "1").await;
    let find = "redis.call('SELECT', 3) return redis.call('EXISTS', KEYS[1])";
    let found = server.cli(&["EVAL", find, "1", &format!("shop:{key}")]);
    assert_eq!(found, "1");
    // The builder's credentials take precedence.
    let builder = RedisStore::builder_with(("127.0.0.1", server.port)).unwrap();
    let builder = builder
        .credentials(None, "right")
        .operation_timeout(PATIENT);
    let store = builder.connect().await.unwrap();
    create(&store, "a", "1").await;
    let refused = RedisStore::builder_with(ConnectionAddr::Unix("/run/redis.sock".into()));
    assert_eq!(refused.unwrap_err().kind(), RedisErrorKind::Config);
}
