use std::error::Error;
use std::time::Duration;

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

/// The texts of the error of a call, its sources included.
async fn failure(url: &str) -> String {
    let store = RedisStore::builder(url).operation_timeout(Duration::from_secs(1));
    let store = store.build().expect("it is valid");
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
    let text = failure(&format!("redis-sentinel://127.0.0.1:{port}/main")).await;
    assert!(text.contains("no sentinel names a primary"), "{text}");
    assert!(text.contains("Authentication required"), "{text}");
    let text = failure(&format!("rediss-sentinel://127.0.0.1:{port}/main")).await;
    assert!(text.contains("no TLS with 127.0.0.1"), "{text}");
}
