//! When the cookie is sent with `Secure`.

use std::net::Ipv4Addr;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, Uri};

/// When the cookie carries `Secure`, so that browsers keep it off unencrypted connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whether it is sent can be fixed either way or left to us"
)]
pub enum Secure {
    /// Always, except where the browser and this process share a machine: the request's host is
    /// `localhost`, a name below it, `127.0.0.0/8` or `[::1]`, and no `Forwarded` or
    /// `X-Forwarded-*` header tells of a proxy between.
    ///
    /// A prefix, `SameSite=None` and `Partitioned` demand `Secure`; with them, it is set there too.
    #[default]
    Auto,
    /// Always: for production.
    Always,
    /// Never: for a test network without TLS. Whoever listens there has the session.
    Never,
}

impl Secure {
    pub(super) fn applies(self, uri: &Uri, headers: &HeaderMap) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => !is_loopback(uri, headers) || is_forwarded(headers),
        }
    }
}

/// Whether the client named this machine by a loopback name or address.
fn is_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(authority) = uri.authority() {
        return is_loopback_host(authority.as_str().as_bytes());
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_loopback_host(host.as_bytes()),
        _ => false,
    }
}

/// `host` or `host:port`.
fn is_loopback_host(authority: &[u8]) -> bool {
    let host = match authority.iter().rposition(|b| !b.is_ascii_digit()) {
        Some(colon) if authority[colon] == b':' => &authority[..colon],
        _ => authority,
    };
    is_localhost(host) || host == b"[::1]" || is_loopback_address(host)
}

/// `localhost` or a name below it: RFC 6761 keeps both on the machine.
fn is_localhost(host: &[u8]) -> bool {
    let Some((parent, last)) = host.split_last_chunk::<{ LOCALHOST.len() }>() else {
        return false;
    };
    last.eq_ignore_ascii_case(LOCALHOST) && (parent.is_empty() || parent.ends_with(b"."))
}

/// `127.0.0.0/8`.
fn is_loopback_address(host: &[u8]) -> bool {
    let address = || str::from_utf8(host).ok()?.parse::<Ipv4Addr>().ok();
    host.starts_with(b"127.") && address().is_some()
}

/// Whether a proxy says that it stands between.
fn is_forwarded(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name == FORWARDED || name.as_str().starts_with("x-forwarded-"))
}

const LOCALHOST: &[u8] = b"localhost";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn host(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HOST, HeaderValue::from_static(value))])
    }

    fn auto(uri: &'static str, headers: &HeaderMap) -> bool {
        Secure::Auto.applies(&Uri::from_static(uri), headers)
    }

    #[test]
    fn loopback_hosts_need_no_secure() {
        for name in [
            "localhost",
            "LocalHost:8080",
            "app.localhost",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(!auto("/", &host(name)), "{name}");
        }
    }

    #[test]
    fn every_other_host_does() {
        for name in [
            "example.com",
            "notlocalhost",
            "localhost.example.com",
            "localhost:80:80",
            "127.0.0.1.example.com",
            "127.1",
            "10.0.0.1",
            "192.168.0.1:8080",
            "[::2]",
            "::1",
            "",
            ":80",
            "localhost\u{e9}",
        ] {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(name).unwrap())]);
            assert!(auto("/", &headers), "{name}");
        }
        assert!(auto("/", &HeaderMap::new()), "no host at all");
    }

    #[test]
    fn the_authority_of_the_uri_comes_before_the_host_header() {
        assert!(!auto("http://localhost:8080/", &host("example.com")));
        assert!(auto("http://example.com/", &host("localhost")));
    }

    #[test]
    fn two_host_headers_are_not_believed() {
        let mut headers = host("localhost");
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(auto("/", &headers));
    }

    #[test]
    fn a_proxy_between_needs_secure() {
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto"] {
            let mut headers = host("localhost");
            headers.insert(name, HeaderValue::from_static("x"));
            assert!(auto("/", &headers), "{name}");
        }
    }

    #[test]
    fn always_and_never_do_not_look() {
        let uri = Uri::from_static("/");
        assert!(Secure::Always.applies(&uri, &host("localhost")));
        assert!(!Secure::Never.applies(&uri, &host("example.com")));
    }
}
