//! A listener that closes without resetting connections.
//!
//! A listener that is simply dropped resets the connections in its backlog, and a server that is
//! asked to end closes those whose first byte it has not read yet. A balancer without health checks
//! sends requests until the port is closed, and must not repeat a POST that may have arrived.
//! Therefore the listener is closed first, when its backlog is empty, and the server ends a moment
//! later.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Accepts connections until it is closed.
pub(crate) struct GracefulListener {
    address: SocketAddr,
    state: State,
}

enum State {
    Open(TcpListener, oneshot::Receiver<oneshot::Sender<()>>),
    /// The connections that were in the backlog when it was closed.
    Closed(Vec<(TcpStream, SocketAddr)>),
}

/// Closes a [`GracefulListener`].
pub(crate) struct Closer(oneshot::Sender<oneshot::Sender<()>>);

impl GracefulListener {
    pub(crate) fn new(listener: TcpListener) -> std::io::Result<(Self, Closer)> {
        let (close, asked) = oneshot::channel();
        let listener = Self {
            address: listener.local_addr()?,
            state: State::Open(listener, asked),
        };
        Ok((listener, Closer(close)))
    }

    /// Accepts all connections in the backlog, and closes the listener.
    fn close(&mut self) {
        let State::Open(listener, _) = std::mem::replace(&mut self.state, State::Closed(vec![]))
        else {
            return;
        };
        // Asks the system itself: the runtime reports new connections a moment later.
        let Ok(listener) = listener.into_std() else {
            return;
        };
        let mut waiting = vec![];
        while let Ok((stream, address)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                waiting.push((stream, address));
            }
            if waiting.len() >= WAITING_MAX {
                break;
            }
        }
        drop(listener);
        self.state = State::Closed(waiting);
    }
}

impl Listener for GracefulListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match &mut self.state {
                State::Open(listener, asked) => tokio::select! {
                    accepted = listener.accept() => return accepted,
                    // A dropped closer does not close.
                    Ok(closed) = asked, if !asked.is_terminated() => {
                        self.close();
                        // The closer may have stopped waiting.
                        let _ = closed.send(());
                    }
                },
                State::Closed(waiting) => match waiting.pop() {
                    Some(accepted) => return accepted,
                    None => pending().await,
                },
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Closer {
    /// Closes the listener, and waits until the last accepted requests have been read.
    pub(crate) async fn close(self) {
        let (done, closed) = oneshot::channel();
        // The listener is dropped only if the server has failed.
        if self.0.send(done).is_ok() && closed.await.is_ok() {
            sleep(FIRST_BYTES_WITHIN).await;
        }
    }
}

/// The limit at which the listener is closed even if its backlog is never empty.
const WAITING_MAX: usize = 4096;

/// How long a request may take from the connection to its first byte: on a busy machine, a balancer
/// that has connected may not run for some time.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(1_500);
