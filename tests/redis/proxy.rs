//! A proxy between a store and a server, which holds, delays or loses replies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{self, JoinHandle};
use tokio::time::sleep;

/// What happens to the server's replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replies {
    Pass,
    /// They are kept, and come when they pass again: the server seems to stand still.
    Hold,
    /// Each takes so much longer.
    Late(Duration),
    /// After so many bytes, the connection is cut.
    CutAfter(usize),
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    replies: watch::Sender<Replies>,
    /// Where new connections lead to.
    target: Arc<AtomicU16>,
    /// How many connections there have been.
    pub(crate) accepted: Arc<AtomicUsize>,
    acceptor: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (replies, how) = watch::channel(Replies::Pass);
        let accepted = Arc::new(AtomicUsize::new(0));
        let target = Arc::new(AtomicU16::new(port));
        let (count, to) = (accepted.clone(), target.clone());
        let acceptor = task::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                task::spawn(carry(client, to.load(Relaxed), how.clone()));
            }
        });
        Self {
            address,
            replies,
            target,
            accepted,
            acceptor,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Leads new connections to another server; those that are open stay where they are.
    pub(crate) fn lead_to(&self, port: u16) {
        self.target.store(port, Relaxed);
    }

    pub(crate) fn set(&self, replies: Replies) {
        self.replies.send_replace(replies);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn carry(client: TcpStream, port: u16, mut how: watch::Receiver<Replies>) -> Option<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    let forth = task::spawn(async move {
        // The side that closes first ends both directions.
        drop(tokio::io::copy(&mut client_read, &mut server_write).await);
    });
    let mut buffer = vec![0; 16 << 10];
    let mut carried = 0;
    loop {
        let count = server_read
            .read(&mut buffer)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        while *how.borrow_and_update() == Replies::Hold {
            how.changed().await.ok()?;
        }
        // Nothing may follow a reply that was cut off, whatever the current mode is.
        let mode = *how.borrow();
        if let Replies::Late(delay) = mode {
            sleep(delay).await;
        }
        let mut end = count;
        if let Replies::CutAfter(bytes) = mode {
            end = end.min(bytes.saturating_sub(carried));
        }
        carried += end;
        client_write.write_all(&buffer[..end]).await.ok()?;
        match mode {
            Replies::CutAfter(bytes) if carried >= bytes => {
                forth.abort();
                return None;
            }
            Replies::Pass => carried = 0,
            _ => {}
        }
    }
}
