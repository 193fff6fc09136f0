//! Rejections between a node with a secret and one without, each in the form that the other one
//! reads.
//!
//! A connection that is closed without an answer might lead to any program. So a node with a secret
//! answers a plain handshake with a plain rejection, and a node without one answers TLS with an
//! alert. Both send nothing else, and close.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::wire::{HANDSHAKE_MAX, Hello, HelloReply, RefusalReason, next_frame};

/// Returns `true` if a connection starts with a plain handshake and not with TLS.
pub(super) async fn is_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0xff];
    Ok(stream.peek(&mut first).await? > 0 && first == PLAIN)
}

/// Rejects a node without a secret, for the reason that `refuse` returns; anything else gets no
/// answer.
pub(super) async fn refuse_plain(
    mut stream: TcpStream,
    refuse: impl FnOnce(&Hello) -> RefusalReason,
) {
    let mut bytes = BytesMut::new();
    let received = loop {
        match next_frame(&bytes, HANDSHAKE_MAX) {
            Ok(Some((content, _))) => break Hello::decode(content),
            Ok(None) => {}
            Err(_) => return,
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    };
    if let Ok(hello) = received {
        let mut reply = Vec::new();
        HelloReply::refused(refuse(&hello)).encode(&mut reply);
        close_with(&mut stream, &reply).await;
    }
}

/// Rejects a node that has a secret.
pub(super) async fn refuse_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    close_with(&mut stream, &ACCESS_DENIED).await;
}

/// Sends these bytes, and closes when the other end does. Closing with unread input makes the
/// system reset the connection, and the last bytes sent may be lost.
async fn close_with(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    let closed = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        for _ in 0..READS_MAX {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // A peer that does not read is not waited for.
    let _ = timeout(CLOSE_TIMEOUT, closed).await;
}

/// The first byte of a plain handshake's length; no TLS record starts with it.
const PLAIN: [u8; 1] = [0];

/// A fatal alert (RFC 8446, section 6).
const ACCESS_DENIED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 49];

const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const READS_MAX: usize = 16;
