//! The connections that others make: who they are, and what they say.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use super::super::driver::Driver;
use super::super::replica::message::Message;
use super::super::replica::node::Node;
use super::super::wire::{
    FRAME_MAX, HEAD, Hello, HelloReply, INTRODUCTION_MAX, WireError, decode, next_frame,
};
use super::security::Distrust;
use super::strangers::Patience;
use super::stream::Stream;

/// Hears one connection out: its introduction, then its messages, until it or this node has enough.
pub(in super::super) async fn receive(
    driver: Arc<Driver>,
    stream: TcpStream,
    remote: SocketAddr,
    patience: Patience,
) {
    let mut bytes = BytesMut::new();
    // A new identity must be introduced anew, which begins with closing this.
    let mut identity = driver.identity();
    let me = identity.borrow_and_update().generation;
    let introduced = tokio::select! {
        introduced = timeout(HELLO_TIMEOUT, meet(&driver, stream, &mut bytes)) => introduced,
        _ = patience => return driver.door.reject(remote, "made room for others"),
    };
    let (mut stream, from) = match introduced {
        Ok(Ok(Some(met))) => met,
        Ok(Ok(None)) => return,
        Ok(Err(Trouble::Io)) => return,
        Ok(Err(Trouble::Distrust(why))) => return driver.door.reject(remote, why.words()),
        Ok(Err(Trouble::Wire(_))) => return driver.door.reject(remote, "did not introduce itself"),
        Err(_) => {
            return driver
                .door
                .reject(remote, "took too long to introduce itself");
        }
    };
    let _introduced = driver.door.enter();
    driver.links.promise(from.address);
    tokio::select! {
        end = hear(&driver, &mut stream, &mut bytes, (&from, me)) => match end {
            Trouble::Io => {}
            Trouble::Distrust(_) => {
                let why = format!("from {} was damaged on its way", from.name);
                driver.door.reject(remote, &why);
            }
            Trouble::Wire(error) => {
                let why = format!("said to be {from:?} and sent no message: {error:?}");
                driver.door.reject(remote, &why);
            }
        },
        _ = identity.changed() => {}
    }
}

/// Why a connection is over.
enum Trouble {
    /// It was closed, or broke.
    Io,
    Distrust(Distrust),
    Wire(WireError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Distrust::of(&error).map_or(Self::Io, Self::Distrust)
    }
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Makes sure that the other end belongs to the cluster, reads its introduction and answers it.
/// `None`: that was all there is to say.
async fn meet(
    driver: &Driver,
    stream: TcpStream,
    bytes: &mut BytesMut,
) -> Result<Option<(Stream, Node)>, Trouble> {
    let mut stream = driver.links.security.accept(stream).await?;
    let hello = loop {
        if let Some(distrust) = Distrust::of_bytes(bytes) {
            return Err(Trouble::Distrust(distrust));
        }
        if let Some((content, _)) = next_frame(bytes, INTRODUCTION_MAX)? {
            let hello = Hello::decode(content)?;
            bytes.advance(HEAD + content.len());
            break hello;
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err(Trouble::Io);
        }
    };
    let reply = driver.judge(&hello);
    let mut out = Vec::new();
    reply.encode(&mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let welcome = matches!(reply, HelloReply::Welcome { .. });
    // Generation 0 only wanted to know what was seen of it.
    Ok((welcome && hello.node.generation > 0).then_some((stream, hello.node)))
}

/// Hands messages to the replica, as many at a time as have arrived.
async fn hear(
    driver: &Driver,
    stream: &mut Stream,
    bytes: &mut BytesMut,
    (from, to): (&Node, u64),
) -> Trouble {
    let mut messages = Vec::new();
    let mut silence = interval(SILENCE_MAX);
    silence.reset();
    let mut heard = true;
    loop {
        let understood = split(bytes, &mut messages);
        driver.hear(from, to, &mut messages);
        if let Err(error) = understood {
            return Trouble::Wire(error);
        }
        if bytes.is_empty() && bytes.capacity() > BUFFER_KEPT {
            *bytes = BytesMut::new();
        }
        bytes.reserve(READ);
        tokio::select! {
            read = stream.read_buf(bytes) => match read {
                Ok(0) => return Trouble::Io,
                Ok(_) => heard = true,
                Err(error) => return error.into(),
            },
            _ = silence.tick() => if !mem::take(&mut heard) {
                return Trouble::Io;
            },
        }
    }
}

/// Takes the complete frames off the beginning of `bytes`.
fn split(bytes: &mut BytesMut, messages: &mut Vec<Message>) -> Result<(), WireError> {
    let mut rest = &bytes[..];
    let understood = loop {
        match next_frame(rest, FRAME_MAX) {
            Ok(Some((content, more))) => match decode(content) {
                Ok(message) => {
                    messages.push(message);
                    rest = more;
                }
                Err(error) => break Err(error),
            },
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let taken = bytes.len() - rest.len();
    bytes.advance(taken);
    understood
}

/// How long a stranger may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A link that says nothing for this long, or twice as long, leads nowhere: nodes probe each other
/// all the time, and close links that they do not need.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Room for what one read brings. Longer frames grow it as they arrive.
const READ: usize = 16 << 10;
/// What a receive buffer may keep after a large message.
const BUFFER_KEPT: usize = 256 << 10;
