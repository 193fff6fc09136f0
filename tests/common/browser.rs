//! A browser: HTTP/1.1 over one connection per node, one cookie jar, and access to raw data.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::Node;

/// Requests with a cookie jar that all nodes share: cookies do not depend on ports.
#[derive(Default)]
pub(crate) struct Browser {
    jar: BTreeMap<String, String>,
    connections: HashMap<SocketAddr, BufReader<TcpStream>>,
}

/// A destination of requests: a node, or an address.
pub(crate) trait At {
    fn http(&self) -> SocketAddr;
}

impl At for Node {
    fn http(&self) -> SocketAddr {
        self.http
    }
}

impl<T: At> At for &T {
    fn http(&self) -> SocketAddr {
        (**self).http()
    }
}

impl At for SocketAddr {
    fn http(&self) -> SocketAddr {
        *self
    }
}

/// A node's response, byte for byte.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Browser {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Another browser with the same cookies: a second tab, or a thief.
    pub(crate) fn twin(&self) -> Self {
        Self {
            jar: self.jar.clone(),
            connections: HashMap::new(),
        }
    }

    /// The value of the session cookie, `<id>.<route>`.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.jar.get(COOKIE).map(String::as_str)
    }

    /// The session cookie's value up to the first dot.
    pub(crate) fn bare(&self) -> Option<&str> {
        Some(
            self.cookie()?
                .split_once('.')
                .map_or(self.cookie()?, |(id, _)| id),
        )
    }

    /// Sends this value of the session cookie from now on.
    pub(crate) fn set_cookie(&mut self, value: impl Into<String>) {
        self.jar.insert(COOKIE.to_owned(), value.into());
    }

    /// Sends that value, or no session cookie at all.
    pub(crate) fn use_cookie(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.set_cookie(value),
            None => self.jar.clear(),
        }
    }

    /// A request that must be answered.
    pub(crate) fn get(&mut self, node: &impl At, path: &str) -> Reply {
        self.try_get(node, path)
            .unwrap_or_else(|error| panic!("{path} at {}: {error}", node.http()))
    }

    /// A request that must be answered 200; its JSON.
    pub(crate) fn ok(&mut self, node: &impl At, path: &str) -> Value {
        let reply = self.get(node, path);
        assert_eq!(
            reply.status,
            200,
            "{path} at {}: {}",
            node.http(),
            reply.text()
        );
        reply.json()
    }

    /// The string attribute `name` as this node returns it.
    pub(crate) fn value(&mut self, node: &impl At, name: &str) -> Option<String> {
        let value = &self.ok(node, &format!("/get?k={name}"))["value"];
        value.as_str().map(str::to_owned)
    }

    pub(crate) fn try_get(&mut self, node: &impl At, path: &str) -> io::Result<Reply> {
        let cookies: Vec<_> = self.jar.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let header = if cookies.is_empty() {
            String::new()
        } else {
            format!("Cookie: {}\r\n", cookies.join("; "))
        };
        let reply = self.try_raw(node, "GET", path, header.as_bytes())?;
        for line in reply.set_cookies() {
            self.take_cookie(line);
        }
        Ok(reply)
    }

    /// A request with exactly these header lines (each ending in CR LF); the jar is not used.
    pub(crate) fn raw(
        &mut self,
        node: &impl At,
        method: &str,
        path: &str,
        headers: &[u8],
    ) -> Reply {
        self.try_raw(node, method, path, headers)
            .unwrap_or_else(|error| panic!("{method} {path} at {}: {error}", node.http()))
    }

    /// Sends a request and does not wait for the response.
    pub(crate) fn send_only(&self, node: &impl At, path: &str) -> io::Result<TcpStream> {
        let mut stream = connect(node.http())?;
        let cookie = self.cookie().unwrap_or_default();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {COOKIE}={cookie}\r\n\r\n",
            node.http()
        )?;
        Ok(stream)
    }

    pub(crate) fn try_raw(
        &mut self,
        node: &impl At,
        method: &str,
        path: &str,
        headers: &[u8],
    ) -> io::Result<Reply> {
        let mut connection = match self.connections.remove(&node.http()) {
            Some(kept) if is_open(&kept) => kept,
            _ => BufReader::new(connect(node.http())?),
        };
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", node.http()).into_bytes();
        request.extend_from_slice(headers);
        request.extend_from_slice(b"\r\n");
        connection.get_mut().write_all(&request)?;
        let reply = Reply::read(&mut connection, method == "HEAD")?;
        if reply.header("connection") != Some("close") {
            self.connections.insert(node.http(), connection);
        }
        Ok(reply)
    }

    fn take_cookie(&mut self, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair
            .split_once('=')
            .expect("a cookie has a name and a value");
        let removed = attributes
            .split(';')
            .any(|a| a.trim().eq_ignore_ascii_case("max-age=0"));
        if removed {
            self.jar.remove(name)
        } else {
            self.jar.insert(name.to_owned(), value.to_owned())
        };
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The `Set-Cookie` lines, raw.
    pub(crate) fn set_cookies(&self) -> Vec<&str> {
        self.all("set-cookie").collect()
    }

    /// Head and body as text, to check that they do not contain something.
    pub(crate) fn everything(&self) -> String {
        format!("{:?} {}", self.headers, self.text())
    }

    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let wanted = name.to_ascii_lowercase();
        self.headers
            .iter()
            .filter(move |(n, _)| *n == wanted)
            .map(|(_, value)| value.as_str())
    }

    fn read(connection: &mut BufReader<TcpStream>, without_body: bool) -> io::Result<Self> {
        let head = line(connection)?;
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, head))?;
        let mut headers = Vec::new();
        loop {
            let line = line(connection)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Self {
            status,
            headers,
            body: Vec::new(),
        };
        if !without_body && !matches!(status, 100..=199 | 204 | 304) {
            reply.body = reply.read_body(connection)?;
        }
        Ok(reply)
    }

    fn read_body(&self, connection: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = self.header("content-length") {
            body.resize(length.parse().map_err(|_| ErrorKind::InvalidData)?, 0);
            connection.read_exact(&mut body)?;
            return Ok(body);
        }
        loop {
            let size = usize::from_str_radix(&line(connection)?, 16)
                .map_err(|_| ErrorKind::InvalidData)?;
            let start = body.len();
            body.resize(start + size, 0);
            connection.read_exact(&mut body[start..])?;
            line(connection)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

/// Returns `true` if a kept connection can still be used: nothing has arrived on it, not even its
/// end.
fn is_open(connection: &BufReader<TcpStream>) -> bool {
    let stream = connection.get_ref();
    let nothing =
        |result: io::Result<usize>| result.is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(true).is_ok()
        && nothing(stream.peek(&mut [0]))
        && stream.set_nonblocking(false).is_ok()
}

fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    if connection.read_until(b'\n', &mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

const COOKIE: &str = "JSESSIONID";

/// Longer than any response may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
