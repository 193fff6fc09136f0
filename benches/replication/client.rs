//! The users of a counter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// A minimal browser that increments the counter.
pub(crate) struct Client {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
    last: u64,
}

impl Client {
    pub(crate) async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: "GET /counter HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_owned(),
            buffer: Vec::with_capacity(1_024),
            last: 0,
        })
    }

    /// Sends one request; the counter must have increased by one.
    pub(crate) async fn count(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.stream.write_all(self.request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server has closed the connection".into());
            }
            let text = str::from_utf8(&self.buffer)?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            // Some servers send it separately.
            if body.is_empty() {
                continue;
            }
            if self.last == 0
                && let Some(at) = head.to_ascii_lowercase().find(COOKIE)
            {
                let cookie = &head[at + COOKIE.len()..];
                let cookie = cookie.split(';').next().unwrap_or_default();
                self.request = format!(
                    "GET /counter HTTP/1.1\r\nHost: shop.example\r\nCookie: {cookie}\r\n\r\n"
                );
            }
            let count: u64 = body.parse().map_err(|_| head.to_owned())?;
            if count != self.last + 1 {
                return Err(format!("{count} follows {}", self.last).into());
            }
            self.last = count;
            return Ok(began.elapsed());
        }
    }
}

const COOKIE: &str = "\r\nset-cookie: ";
