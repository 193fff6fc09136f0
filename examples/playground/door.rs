//! A listener that closes without turning anybody away.
//!
//! A listener that is simply dropped resets the connections that wait in its backlog, and a server
//! told to end closes those whose first byte it has not read yet. A balancer without health checks
//! sends requests until the port is closed, and must not repeat a POST that may have arrived. So the
//! door is closed first, when nobody waits in front of it, and the server ends a moment later.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Accepts until the closer says otherwise.
pub(crate) struct Door {
    address: SocketAddr,
    state: State,
}

enum State {
    Open(TcpListener, oneshot::Receiver<oneshot::Sender<()>>),
    /// Those who stood in front of it when it was closed.
    Closed(Vec<(TcpStream, SocketAddr)>),
}

/// Closes a door.
pub(crate) struct Closer(oneshot::Sender<oneshot::Sender<()>>);

impl Door {
    pub(crate) fn new(listener: TcpListener) -> std::io::Result<(Self, Closer)> {
        let (close, asked) = oneshot::channel();
        let door = Self {
            address: listener.local_addr()?,
            state: State::Open(listener, asked),
        };
        Ok((door, Closer(close)))
    }

    /// Lets everybody in who waits, and closes.
    fn close(&mut self) {
        let State::Open(listener, _) = std::mem::replace(&mut self.state, State::Closed(vec![]))
        else {
            return;
        };
        // Asks the system itself: the runtime hears of new connections a moment later.
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

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match &mut self.state {
                State::Open(listener, asked) => tokio::select! {
                    accepted = listener.accept() => return accepted,
                    // A closer that is gone does not close.
                    Ok(closed) = asked, if !asked.is_terminated() => {
                        self.close();
                        // The closer may have given up waiting.
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
    /// Closes, and waits until what was accepted last has been read.
    pub(crate) async fn close(self) {
        let (done, closed) = oneshot::channel();
        // The door is gone only when the server has failed.
        if self.0.send(done).is_ok() && closed.await.is_ok() {
            sleep(FIRST_BYTES_WITHIN).await;
        }
    }
}

/// A door in front of which somebody always waits is closed all the same.
const WAITING_MAX: usize = 4096;

/// How long a request may take from the connection to its first byte.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(100);
