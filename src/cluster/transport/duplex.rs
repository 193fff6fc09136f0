//! Both directions of a connection, driven by one task.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::cluster::transport::stream::PeerStream;

/// A connection, and the bytes to be written to it.
///
/// Neither direction waits for the other: a peer that does not read can still be read from.
#[derive(Debug)]
pub(super) struct Duplex {
    stream: PeerStream,
    out: Vec<u8>,
    written: usize,
    is_flushed: bool,
    /// Whether writing has failed. Bytes that the other end sent earlier may still be read.
    is_broken: bool,
}

/// The progress made by [`Duplex::moved`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes read; 0 at the end of the stream.
    pub(super) read: Option<usize>,
    /// Bytes that the connection has accepted.
    pub(super) written: usize,
}

impl Duplex {
    pub(super) const fn new(stream: PeerStream) -> Self {
        Self {
            stream,
            out: Vec::new(),
            written: 0,
            is_flushed: true,
            is_broken: false,
        }
    }

    /// Returns the output buffer, to append to. Must be called only while the connection is idle.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.is_idle());
        &mut self.out
    }

    /// Returns `true` if everything was written and flushed.
    pub(super) const fn is_idle(&self) -> bool {
        self.out.is_empty() && self.is_flushed
    }

    /// Returns `true` if writing has failed.
    pub(super) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Writes and reads as much as possible; waits until something is. Input is appended to
    /// `input`, which must have room.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub(super) async fn moved(&mut self, input: &mut BytesMut) -> io::Result<Moved> {
        poll_fn(|context| {
            let mut moved = Moved::default();
            let mut is_over = false;
            if !self.is_broken {
                match self.poll_write(context, &mut moved.written) {
                    Poll::Ready(flushed) => is_over = flushed,
                    Poll::Pending => {}
                }
            }
            if let Poll::Ready(read) = pin!(self.stream.read_buf(input)).poll(context) {
                moved.read = Some(read?);
            }
            if is_over || moved.written > 0 || moved.read.is_some() {
                Poll::Ready(Ok(moved))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Returns ready with `true` when pending output was written and flushed, or has failed; with
    /// `false` when there was none.
    fn poll_write(&mut self, context: &mut Context<'_>, written: &mut usize) -> Poll<bool> {
        if self.is_idle() {
            return Poll::Ready(false);
        }
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.is_flushed = false;
                    self.written += count;
                    *written += count;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(self.stop_writing()),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > BUFFER_KEPT {
            self.out = Vec::new();
        }
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Ok(())) => {
                self.is_flushed = true;
                Poll::Ready(true)
            }
            Poll::Ready(Err(_)) => Poll::Ready(self.stop_writing()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Stops writing.
    fn stop_writing(&mut self) -> bool {
        self.is_broken = true;
        mem::take(&mut self.out);
        self.written = 0;
        self.is_flushed = true;
        true
    }
}

/// Capacity that an empty buffer may keep, in bytes.
pub(super) const BUFFER_KEPT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Duplex, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(stream, listener.accept());
        (
            Duplex::new(PeerStream::Plain(near.unwrap())),
            far.unwrap().0,
        )
    }

    async fn read(duplex: &mut Duplex, input: &mut BytesMut) -> usize {
        loop {
            input.reserve(1024);
            if let Some(count) = duplex.moved(input).await.unwrap().read {
                return count;
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_can_be_read_from() {
        let (mut duplex, mut far) = pair().await;
        // More than the system buffers.
        duplex.out().resize(64 << 20, 0);
        let mut input = BytesMut::new();
        for _ in 0..3 {
            far.write_all(b"credit").await.unwrap();
            read(&mut duplex, &mut input).await;
        }
        assert_eq!(input, b"creditcreditcredit"[..]);
        assert!(!duplex.is_idle());
    }

    #[tokio::test]
    async fn what_a_peer_has_sent_before_it_closed_is_read_although_writing_fails() {
        let (mut duplex, mut far) = pair().await;
        let mut input = BytesMut::with_capacity(1024);
        far.write_all(b"good-bye").await.unwrap();
        drop(far);
        duplex.out().extend_from_slice(b"first");
        while !duplex.is_idle() {
            duplex.moved(&mut input).await.unwrap();
        }
        // The other end answers the first bytes with a reset.
        for _ in 0..10 {
            if duplex.is_idle() {
                duplex.out().extend_from_slice(b"more");
            }
            match duplex.moved(&mut input).await {
                Ok(moved) if moved.read != Some(0) => {}
                Ok(_) | Err(_) => break,
            }
            input.reserve(1024);
        }
        assert_eq!(input, b"good-bye"[..]);
    }
}
