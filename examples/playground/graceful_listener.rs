//! A listener that closes without resetting connections.
//!
//! A listener that is simply dropped resets the connections in its backlog, and a server that is
//! asked to end closes those whose first byte it has not read yet. A balancer without health checks
//! sends requests until the port is closed, and must not repeat a POST that may have arrived.
//! Therefore the listener is closed first, when its backlog is empty, and the server ends when the
//! first byte of every connection has arrived, or after [`FIRST_BYTES_WITHIN`].

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Accepts connections until it is closed.
pub(crate) struct GracefulListener {
    address: SocketAddr,
    state: State,
    /// The number of connections without a first byte.
    silent: watch::Sender<usize>,
}

enum State {
    Open(TcpListener, oneshot::Receiver<oneshot::Sender<()>>),
    /// The connections that were in the backlog when it was closed.
    Closed(Vec<(Connection, SocketAddr)>),
}

/// Closes a [`GracefulListener`].
pub(crate) struct Closer {
    close: oneshot::Sender<oneshot::Sender<()>>,
    silent: watch::Receiver<usize>,
}

/// A connection that counts as silent until something is read from it, or it ends.
pub(crate) struct Connection {
    stream: TcpStream,
    silent: Option<Silent>,
}

/// Counts one connection for as long as it exists.
struct Silent(watch::Sender<usize>);

impl GracefulListener {
    pub(crate) fn new(listener: TcpListener) -> io::Result<(Self, Closer)> {
        let (close, asked) = oneshot::channel();
        let (silent, silence) = watch::channel(0);
        let listener = Self {
            address: listener.local_addr()?,
            state: State::Open(listener, asked),
            silent,
        };
        let closer = Closer {
            close,
            silent: silence,
        };
        Ok((listener, closer))
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
                waiting.push((Connection::new(stream, &self.silent), address));
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
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match &mut self.state {
                State::Open(listener, asked) => tokio::select! {
                    (stream, address) = Listener::accept(listener) => {
                        return (Connection::new(stream, &self.silent), address);
                    }
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

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Closer {
    /// Closes the listener, and waits until the last accepted requests have begun to arrive.
    pub(crate) async fn close(mut self) {
        let (done, closed) = oneshot::channel();
        // The listener is dropped only if the server has failed.
        if self.close.send(done).is_ok() && closed.await.is_ok() {
            let none_is_silent = self.silent.wait_for(|silent| *silent == 0);
            // A connection may be idle, so not all have to send something.
            let _ = timeout(FIRST_BYTES_WITHIN, none_is_silent).await;
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, silent: &watch::Sender<usize>) -> Self {
        silent.send_modify(|silent| *silent += 1);
        Self {
            stream,
            silent: Some(Silent(silent.clone())),
        }
    }

    pub(crate) const fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.send_modify(|silent| *silent -= 1);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.silent = None;
        Poll::Ready(read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The limit at which the listener is closed even if its backlog is never empty.
const WAITING_MAX: usize = 4096;

/// How long a request may take from the connection to its first byte: on a busy machine, a balancer
/// that has connected may not run for some time.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(1_500);
