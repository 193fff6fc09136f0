//! Refusals between a node with a secret and one without, each in the other one's terms.
//!
//! A node that hangs up without a word might be any program. So a node with a secret answers a
//! plain introduction with a plain refusal, and a node without one answers TLS with an alert. Both
//! say nothing else, and close.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::driver::Driver;
use crate::cluster::wire::{Hello, HelloReply, INTRODUCTION_MAX, next_frame};

/// Returns `true` if a connection does not begin as TLS does, but as a plain introduction.
pub(super) async fn is_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0xff];
    Ok(stream.peek(&mut first).await? > 0 && first == PLAIN)
}

/// Refuses a node without a secret; anything else is not worth an answer.
pub(super) async fn refuse_plain(driver: &Driver, mut stream: TcpStream) {
    let mut bytes = BytesMut::new();
    let introduced = loop {
        match next_frame(&bytes, INTRODUCTION_MAX) {
            Ok(Some((content, _))) => break Hello::decode(content),
            Ok(None) => {}
            Err(_) => return,
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    };
    if let Ok(hello) = introduced {
        let refusal = driver.refuse_plain(&hello);
        let mut reply = Vec::new();
        HelloReply::refused(refusal).encode(&mut reply);
        close_with(&mut stream, &reply).await;
    }
}

/// Refuses a node that has a secret.
pub(super) async fn refuse_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    close_with(&mut stream, &ACCESS_DENIED).await;
}

/// Says this, and closes when the other end does. What is unread when a connection is closed makes
/// the system reset it, and what was said last may be lost with that.
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
    // An end that does not read has no use for it.
    let _ = timeout(CLOSE_TIMEOUT, closed).await;
}

/// The length of an introduction begins with this; no record of TLS does.
const PLAIN: [u8; 1] = [0];

/// A fatal alert (RFC 8446, section 6).
const ACCESS_DENIED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 49];

const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const READS_MAX: usize = 16;
