//! A server that a test lets answer some commands in its own words; a real one answers the others.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{self, JoinHandle};

/// What happens to a command.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The real server answers.
    Pass,
    /// This, as it goes over the wire but for the last line break.
    Say(String),
    /// The connection is closed.
    Close,
    /// Nothing.
    Silence,
}

/// Dropping it closes the port.
pub(crate) struct Front {
    pub(crate) port: u16,
    acceptor: JoinHandle<()>,
}

impl Front {
    /// Stands in front of the server at `port`; `rule` sees each command with its arguments.
    pub(crate) async fn start(
        port: u16,
        rule: impl Fn(&[String]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let rule = Arc::new(rule);
        let acceptor = task::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let rule = rule.clone();
                // Either side may close at any time.
                task::spawn(async move { drop(serve(client, port, &*rule).await) });
            }
        });
        Self {
            port: own,
            acceptor,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn serve(
    client: TcpStream,
    port: u16,
    rule: &(dyn Fn(&[String]) -> Answer + Send + Sync),
) -> io::Result<()> {
    let (from_server, mut to_server) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
    let (from_client, mut to_client) = client.into_split();
    let (mut from_client, mut from_server) =
        (BufReader::new(from_client), BufReader::new(from_server));
    loop {
        let mut raw = Vec::new();
        let words = loop {
            // Between commands the server may send a push message.
            tokio::select! {
                first = from_client.fill_buf() => {
                    if first?.is_empty() {
                        return Ok(());
                    }
                    break value(&mut from_client, &mut raw).await?;
                }
                said = from_server.fill_buf() => {
                    if said?.is_empty() {
                        return Ok(());
                    }
                    let mut pushed = Vec::new();
                    value(&mut from_server, &mut pushed).await?;
                    to_client.write_all(&pushed).await?;
                }
            }
        };
        match rule(&words) {
            Answer::Pass => {
                to_server.write_all(&raw).await?;
                loop {
                    let mut reply = Vec::new();
                    value(&mut from_server, &mut reply).await?;
                    to_client.write_all(&reply).await?;
                    // Subscriptions are confirmed by what looks like a push.
                    if reply[0] != b'>' || words[0].contains("SUBSCRIBE") {
                        break;
                    }
                }
            }
            Answer::Say(text) => {
                to_client
                    .write_all(format!("{text}\r\n").as_bytes())
                    .await?
            }
            Answer::Close => return Ok(()),
            Answer::Silence => {}
        }
    }
}

/// Reads one value into `raw`; the texts in it.
async fn value(
    from: &mut (impl AsyncBufReadExt + Unpin),
    raw: &mut Vec<u8>,
) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    let mut missing = 1;
    while missing > 0 {
        missing -= 1;
        let start = raw.len();
        if from.read_until(b'\n', raw).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&raw[start..]).trim_end().to_owned();
        let count: i64 = line[1..].parse().unwrap_or(0);
        match line.as_bytes()[0] {
            b'*' | b'~' | b'>' => missing += count.max(0),
            b'%' => missing += 2 * count.max(0),
            b'$' | b'=' if count >= 0 => {
                let start = raw.len();
                raw.resize(start + count as usize + 2, 0);
                from.read_exact(&mut raw[start..]).await?;
                let text = &raw[start..raw.len() - 2];
                texts.push(String::from_utf8_lossy(text).into_owned());
            }
            _ => {}
        }
    }
    Ok(texts)
}
