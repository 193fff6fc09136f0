//! The rules for the cookie's `Secure` attribute.

use std::net::Ipv4Addr;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, Uri};

/// The rule for the `Secure` attribute, with which browsers send the cookie over TLS only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whether it is sent can be fixed either way or left to us"
)]
pub enum Secure {
    /// According to the browser's connection. A proxy names its protocol in `X-Forwarded-Proto` or
    /// in `Forwarded: proto=`: the cookie carries `Secure` with `https` and does not with `http`;
    /// of several values, the first counts, which is the browser's.
    ///
    /// Without such a header the cookie carries `Secure`, unless the browser's host
    /// (`X-Forwarded-Host`, `Forwarded: host=`, else `Host`) is this machine: `localhost`, a name
    /// below it, `127.0.0.0/8` or `[::1]`.
    ///
    /// Two setups need care. An application on a private network without TLS and without a proxy
    /// sets cookies with `Secure`, which browsers drop: use [`Secure::Never`] there (a warning is
    /// logged once). A proxy that terminates TLS, sends none of these headers and replaces `Host`
    /// by a loopback address (nginx does both by default) gets cookies without `Secure`: let it
    /// send `X-Forwarded-Proto`, or use [`Secure::Always`].
    ///
    /// A name prefix, `SameSite=None` and `Partitioned` require `Secure`; with them, it is always
    /// set.
    #[default]
    Auto,
    /// Always: for production.
    Always,
    /// Never: for a test network without TLS. Anyone who can observe its traffic can use the
    /// session.
    Never,
}

/// The decision whether a response's cookie carries `Secure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IsSecure {
    pub(crate) secure: bool,
    /// No header names the protocol, and the configuration does not decide: the browser may have
    /// used plain HTTP, and drop the cookie.
    pub(crate) is_guess: bool,
}

impl Secure {
    pub(super) fn applies(self, uri: &Uri, headers: &HeaderMap) -> IsSecure {
        let (secure, is_guess) = match self {
            Self::Always => (true, false),
            Self::Never => (false, false),
            Self::Auto => {
                let lines = Lines::of(headers);
                match lines.is_https() {
                    Some(https) => (https, false),
                    None => {
                        let secure = !lines.is_loopback(uri);
                        (secure, secure)
                    }
                }
            }
        };
        IsSecure { secure, is_guess }
    }
}

/// The first line of each header that may report the browser's connection.
#[derive(Default)]
struct Lines<'h> {
    forwarded: Option<&'h [u8]>,
    forwarded_proto: Option<&'h [u8]>,
    forwarded_host: Option<&'h [u8]>,
    host: Option<&'h [u8]>,
    has_several_hosts: bool,
}

impl<'h> Lines<'h> {
    /// Looks at each header once, which costs less than hashing four names: a request has a few.
    fn of(headers: &'h HeaderMap) -> Self {
        let mut lines = Self::default();
        for (name, line) in headers {
            let place = match name {
                name if *name == HOST => {
                    lines.has_several_hosts = lines.host.is_some();
                    &mut lines.host
                }
                name if *name == FORWARDED => &mut lines.forwarded,
                name if *name == X_FORWARDED_PROTO => &mut lines.forwarded_proto,
                name if *name == X_FORWARDED_HOST => &mut lines.forwarded_host,
                _ => continue,
            };
            place.get_or_insert(line.as_bytes());
        }
        lines
    }

    /// Returns `Some(true)` if a proxy reports an encrypted connection, and `None` if no proxy
    /// reports the protocol. If two headers disagree, the connection counts as encrypted: one of
    /// them may come from the browser.
    fn is_https(&self) -> Option<bool> {
        let listed = self.forwarded_proto.map(|line| trim(until(line, b',')));
        let protocols = [listed, parameter(self.forwarded, b"proto")];
        let encrypted = protocols.into_iter().flatten().filter_map(|protocol| {
            let is = |name: &[u8]| protocol.eq_ignore_ascii_case(name);
            let is_encrypted = is(b"https") || is(b"wss");
            let is_plain = is(b"http") || is(b"ws");
            (is_encrypted || is_plain).then_some(is_encrypted)
        });
        encrypted.reduce(|one, other| one || other)
    }

    /// Returns `true` if the client addressed this machine by a loopback name or address.
    fn is_loopback(&self, uri: &Uri) -> bool {
        let listed = self.forwarded_host.map(|line| trim(until(line, b',')));
        if let Some(host) = listed.or_else(|| parameter(self.forwarded, b"host")) {
            return is_loopback_host(host);
        }
        if let Some(authority) = uri.authority() {
            return is_loopback_host(authority.as_str().as_bytes());
        }
        !self.has_several_hosts && self.host.is_some_and(is_loopback_host)
    }
}

/// A parameter of the first element of `Forwarded`, which the proxy next to the browser has added:
/// RFC 7239, section 4.
fn parameter<'h>(forwarded: Option<&'h [u8]>, name: &[u8]) -> Option<&'h [u8]> {
    let pairs = until(forwarded?, b',').split(|b| *b == b';');
    let mut values = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|b| *b == b'=')?;
        let is_it = trim(&pair[..equals]).eq_ignore_ascii_case(name);
        is_it.then(|| unquoted(trim(&pair[equals + 1..])))
    });
    values.next()
}

fn until(bytes: &[u8], end: u8) -> &[u8] {
    let end = bytes.iter().position(|b| *b == end);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|it| it.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// `host` or `host:port`.
fn is_loopback_host(authority: &[u8]) -> bool {
    let host = match authority.iter().rposition(|b| !b.is_ascii_digit()) {
        Some(colon) if authority[colon] == b':' => &authority[..colon],
        _ => authority,
    };
    is_localhost(host) || host == b"[::1]" || is_loopback_address(host)
}

/// Returns `true` for `localhost` or a name below it: RFC 6761 keeps both on the machine.
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

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const LOCALHOST: &[u8] = b"localhost";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn host(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HOST, HeaderValue::from_static(value))])
    }

    fn auto(uri: &'static str, headers: &HeaderMap) -> bool {
        Secure::Auto.applies(&Uri::from_static(uri), headers).secure
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

    /// W-11.
    #[test]
    fn the_protocol_that_a_proxy_names_decides_whatever_the_host() {
        for (header, value, secure) in [
            ("x-forwarded-proto", "https", true),
            ("x-forwarded-proto", "http", false),
            ("x-forwarded-proto", "HTTPS", true),
            ("x-forwarded-proto", " http , https", false),
            ("x-forwarded-proto", "https,http", true),
            ("x-forwarded-proto", "wss", true),
            ("x-forwarded-proto", "ws", false),
            ("forwarded", "proto=https", true),
            ("forwarded", "for=192.0.2.1;Proto=HTTP;by=10.0.0.1", false),
            ("forwarded", "for=\"[2001:db8::1]\"; proto=\"https\"", true),
            ("forwarded", "proto=http, proto=https", false),
            ("forwarded", "proto = https", true),
        ] {
            for name in ["localhost", "shop.example", "192.168.0.1:8080", "0.0.0.0"] {
                let mut headers = host(name);
                headers.insert(header, HeaderValue::from_static(value));
                assert_eq!(auto("/", &headers), secure, "{header}: {value} at {name}");
            }
        }
    }

    /// W-11.
    #[test]
    fn of_two_headers_that_disagree_the_careful_one_counts() {
        for (listed, forwarded) in [("https", "proto=http"), ("http", "proto=https")] {
            let mut headers = host("localhost");
            headers.insert("x-forwarded-proto", HeaderValue::from_static(listed));
            headers.insert("forwarded", HeaderValue::from_static(forwarded));
            assert!(auto("/", &headers));
        }
    }

    /// W-11.
    #[test]
    fn what_names_no_protocol_leaves_it_to_the_host() {
        for (header, value) in [
            ("x-forwarded-proto", ""),
            ("x-forwarded-proto", "ftp"),
            ("x-forwarded-proto", "httpss"),
            ("forwarded", "for=192.0.2.1"),
            ("forwarded", "xproto=http"),
            ("forwarded", "for=a, proto=http"),
            ("x-forwarded-for", "192.0.2.1"),
        ] {
            for (name, secure) in [("localhost", false), ("shop.example", true)] {
                let mut headers = host(name);
                headers.insert(header, HeaderValue::from_static(value));
                assert_eq!(auto("/", &headers), secure, "{header}: {value} at {name}");
            }
        }
    }

    /// W-11: what Apache sends with a plain `ProxyPass`.
    #[test]
    fn the_host_that_a_proxy_was_asked_for_is_the_browsers() {
        for (header, value, secure) in [
            ("x-forwarded-host", "localhost", false),
            ("x-forwarded-host", "localhost:8000, other.example", false),
            ("x-forwarded-host", "shop.example", true),
            ("x-forwarded-host", "192.168.0.1", true),
            ("forwarded", "host=localhost", false),
            ("forwarded", "host=\"127.0.0.1:8000\"", false),
            ("forwarded", "host=shop.example", true),
        ] {
            for backend in ["127.0.0.1:8081", "10.1.2.3:8081"] {
                let mut headers = host(backend);
                headers.insert(header, HeaderValue::from_static(value));
                assert_eq!(auto("/", &headers), secure, "{header}: {value}");
            }
        }
    }

    #[test]
    fn a_guess_is_known_as_one() {
        let mut headers = host("shop.example");
        assert!(
            Secure::Auto
                .applies(&Uri::from_static("/"), &headers)
                .is_guess
        );
        assert!(
            !Secure::Always
                .applies(&Uri::from_static("/"), &headers)
                .is_guess
        );
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert!(
            !Secure::Auto
                .applies(&Uri::from_static("/"), &headers)
                .is_guess
        );
    }

    #[test]
    fn always_and_never_do_not_look() {
        let uri = Uri::from_static("/");
        assert!(Secure::Always.applies(&uri, &host("localhost")).secure);
        assert!(!Secure::Never.applies(&uri, &host("example.com")).secure);
    }
}
