//! Attempts that arrive after the ones that replaced them: packets of a connection that the store
//! has given up, held by the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use distributable::session::Loaded;
use distributable::{RedisStore, SessionStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{self, AbortHandle};

use crate::common::eventually;
use crate::common::redis::Server;
use crate::support::{
    SECRET, birth, committed, create, find, insert, patient, rotation, secret, value,
};

/// the first attempt of a commit is held. The node repeats it on a new connection. That is
/// acknowledged, and so is the next commit. Then the first attempt arrives: applied once more, it
/// would replace the value of the next commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_first_attempt_that_arrives_late_overwrites_nothing() {
    let (_server, path, store) = start().await;
    let (key, base) = create(&store, "cart", "none").await;
    path.hold();
    let base = committed(store.commit(&key, Some(&base), insert("cart", "one")).await);
    committed(store.commit(&key, Some(&base), insert("cart", "two")).await);
    path.deliver();
    let found = find(&store, &key).await.unwrap();
    assert_eq!(value(&found, "cart").as_deref(), Some("two"));
}

/// As above, without a base: the server cannot tell which marks are later than it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_attempt_without_a_base_overwrites_nothing() {
    let (_server, path, store) = start().await;
    let (key, _) = create(&store, "cart", "none").await;
    path.hold();
    committed(store.commit(&key, None, insert("cart", "one")).await);
    committed(store.commit(&key, None, insert("cart", "two")).await);
    path.deliver();
    let found = find(&store, &key).await.unwrap();
    assert_eq!(value(&found, "cart").as_deref(), Some("two"));
}

/// A rotation that was taken back is not repeated by its first attempt: the browser has the former
/// secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_that_was_taken_back_is_not_repeated_by_a_late_attempt() {
    let (_server, path, store) = start().await;
    let (key, base) = create(&store, "a", "1").await;
    path.hold();
    let base = committed(
        store
            .commit(&key, Some(&base), rotation(SECRET, secret(1)))
            .await,
    );
    committed(
        store
            .commit(&key, Some(&base), rotation(secret(1), SECRET))
            .await,
    );
    path.deliver();
    let found = store.load(&key, Some(&SECRET)).await.unwrap();
    assert!(matches!(found, Loaded::Live(_)), "{found:?}");
}

/// A creation and a deletion leave nothing to a late attempt of the creation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_creation_does_not_restore_a_deleted_session() {
    let (_server, path, store) = start().await;
    let key = store.new_id().key();
    create(&store, "a", "1").await; // so that it is connected
    path.hold();
    committed(store.commit(&key, None, birth("a", "1")).await);
    assert!(store.delete(&key).await.unwrap());
    path.deliver();
    assert_eq!(store.load(&key, None).await.unwrap(), Loaded::Absent);
}

async fn start() -> (Server, SlowPath, RedisStore) {
    let server = Server::start(&[]);
    let path = SlowPath::start(server.port).await;
    let store = patient(&path.url).await;
    (server, path, store)
}

/// Leads to a server. While held, it keeps what clients send on the connections that were open
/// before; it delivers that later, even if the client has closed the connection.
struct SlowPath {
    url: String,
    is_held: watch::Sender<bool>,
    /// The connections from before the hold that the server has not seen the end of.
    old: Arc<AtomicUsize>,
    acceptor: AbortHandle,
}

impl SlowPath {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (is_held, held) = watch::channel(false);
        let old = Arc::new(AtomicUsize::new(0));
        let count = old.clone();
        let acceptor = task::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // Later connections take another path.
                let held = (!*held.borrow()).then(|| held.clone());
                task::spawn(carry(client, server, held, count.clone()));
            }
        });
        Self {
            url,
            is_held,
            old,
            acceptor: acceptor.abort_handle(),
        }
    }

    fn hold(&self) {
        self.is_held.send_replace(true);
    }

    /// Delivers what was held; returns when the server has carried it out.
    fn deliver(&self) {
        assert_ne!(self.old.load(Relaxed), 0, "nothing is held");
        self.is_held.send_replace(false);
        eventually("the server has read to the end", || {
            self.old.load(Relaxed) == 0
        });
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut held: Option<watch::Receiver<bool>>,
    old: Arc<AtomicUsize>,
) {
    let is_old = held.is_some();
    old.fetch_add(usize::from(is_old), Relaxed);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    task::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            if let Some(held) = &mut held {
                held.wait_for(|is_held| !is_held).await.unwrap();
            }
            if to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
        // The client may have gone.
        drop(to_client.write_all(&buffer[..count]).await);
    }
    old.fetch_sub(usize::from(is_old), Relaxed);
}
