//! [`MonitoredStream`]: the stream of a connection, with the time at which data last moved on it.
//!
//! A server that is suspended or out of reach is recognized by its silence. Whole answers are too
//! coarse a measure of it: on a slow link a request or an answer of megabytes takes seconds, during
//! which no other answer arrives. Therefore everything counts that shows that the other end is
//! there:
//!
//! - data that arrives, however small a part of an answer it is;
//! - data that leaves when there was no room for it before: the system gives the room back when the
//!   server's system has acknowledged earlier data. What leaves without waiting shows nothing,
//!   since the system accepts it for a server that is gone as well, until its buffer is full.
//!
//! While the system sends the last data in its buffer, there is no sign of the other end. The
//! buffer is small, so that this does not take long. The system of a suspended server acknowledges
//! data as long as it has room for it; on a slow link the suspension is recognized that much later.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;
use tokio::time::Instant;

/// When data last moved on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// In microseconds since `opened`.
    arrived: AtomicU64,
    left: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            arrived: AtomicU64::new(0),
            left: AtomicU64::new(0),
        }
    }

    /// Returns when data last arrived.
    pub(super) fn arrived(&self) -> Instant {
        self.opened + Duration::from_micros(self.arrived.load(Relaxed))
    }

    /// Returns when data last arrived, or left after there was no room for it.
    pub(super) fn moved(&self) -> Instant {
        let left = self.opened + Duration::from_micros(self.left.load(Relaxed));
        left.max(self.arrived())
    }

    fn record(&self, time: &AtomicU64) {
        let micros = self.opened.elapsed().as_micros();
        time.store(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
    }
}

/// A TCP connection that records its activity.
#[derive(Debug)]
pub(super) struct MonitoredStream {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// The system had no room for the last data.
    is_full: bool,
}

impl MonitoredStream {
    /// Sets the options of the connection, and starts to watch it.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
            tracing::debug!(cause = %error, "the send buffer of a connection cannot be made small");
        }
        Ok(Self {
            stream,
            activity: Arc::new(Activity::new()),
            is_full: false,
        })
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    fn written(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            // Without a budget the task has to pause, whatever room there is.
            Poll::Pending => self.is_full |= coop::has_budget_remaining(),
            Poll::Ready(Ok(_)) if self.is_full => {
                self.is_full = false;
                self.activity.record(&self.activity.left);
            }
            Poll::Ready(_) => {}
        }
        result
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.activity.record(&this.activity.arrived);
        }
        result
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Bytes that the system may buffer before the server has received them; Linux uses up to twice as
/// many. At 10 Mbit/s a full buffer is empty after 420 ms, within the 667 ms for which a connection
/// may be silent by default. With a round trip of 100 ms it still carries 2.6 MB/s.
const SEND_BUFFER: usize = 256 << 10;
