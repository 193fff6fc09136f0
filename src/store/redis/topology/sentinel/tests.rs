use std::error::Error;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::session::Scope;
use crate::{RedisStore, SessionStore};

/// Answers every command in this way.
async fn sentinel(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it is free");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1_024];
                while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Calls until the error is expected: on a busy machine, a sentinel may answer after the end of a
/// call.
async fn fails_with(url: &str, expected: &str) {
    let store = RedisStore::builder(url).operation_timeout(Duration::from_secs(1));
    let store = store.build().expect("it is valid");
    let start = Instant::now();
    loop {
        let text = failure(&store).await;
        assert!(text.contains("no sentinel names a primary"), "{text}");
        if text.contains(expected) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{text}");
    }
}

/// The texts of the error of a call, its sources included.
async fn failure(store: &RedisStore) -> String {
    let error = store.list(Scope::Cluster, None, 10).await;
    let error = error.expect_err("there is no primary");
    let mut texts = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        texts.extend([": ", &error.to_string()]);
        source = error.source();
    }
    texts
}

/// without its cause the error would name four things to check.
#[tokio::test]
async fn the_failure_of_a_sentinel_is_in_the_error() {
    let port = sentinel(b"-NOAUTH Authentication required.\r\n").await;
    let url = format!("redis-sentinel://127.0.0.1:{port}/main");
    fails_with(&url, "Authentication required").await;
    let url = format!("rediss-sentinel://127.0.0.1:{port}/main");
    fails_with(&url, "no TLS with 127.0.0.1").await;
}
