//! Addresses of the servers, and the parsing of URLs.

use std::fmt;

use crate::store::redis::error::{RedisError, RedisErrorKind};

/// A server's host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The deployment of the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deployment {
    /// One server, or a proxy that behaves like one.
    Standalone,
    /// The addresses are those of sentinels, which know the servers of `primary_name`.
    Sentinel { primary_name: String },
    /// The addresses are those of some nodes of a cluster, which name the others.
    Cluster,
}

/// A parsed URL. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) topology: Deployment,
    pub(super) tls: bool,
    pub(super) addresses: Vec<Address>,
    pub(super) credentials: Credentials,
    pub(super) database: i64,
}

/// The credentials for a server. Its `Debug` shows no password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Url {
    /// Parses `redis://[user:password@]host[:port][,host[:port]…][/database]`, and the like for
    /// `rediss`, `redis-sentinel` (`/name[/database]`) and `redis-cluster`.
    pub(super) fn parse(text: &str) -> Result<Self, RedisError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("it has no scheme"))?;
        let (tls, kind) = match scheme {
            "redis" | "valkey" => (false, "alone"),
            "rediss" | "valkeys" => (true, "alone"),
            "redis-sentinel" | "valkey-sentinel" => (false, "sentinel"),
            "rediss-sentinel" | "valkeys-sentinel" => (true, "sentinel"),
            "redis-cluster" | "valkey-cluster" => (false, "cluster"),
            "rediss-cluster" | "valkeys-cluster" => (true, "cluster"),
            _ => {
                return Err(wrong(
                    "its scheme is none of `redis`, `rediss` and those two with `-sentinel` or `-cluster`",
                ));
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let (topology, port) = match kind {
            "sentinel" => {
                let encoded = parts.next().ok_or_else(|| {
                    wrong(
                        "a URL for sentinels needs the name of the primary: \
                         redis-sentinel://host/name",
                    )
                })?;
                let primary_name = decode(encoded)?;
                (Deployment::Sentinel { primary_name }, SENTINEL_PORT)
            }
            "cluster" => (Deployment::Cluster, PORT),
            _ => (Deployment::Standalone, PORT),
        };
        let database = match parts.next() {
            Some(number) => number
                .parse()
                .ok()
                .filter(|number| *number >= 0)
                .ok_or_else(|| wrong("the database is not a number"))?,
            None => 0,
        };
        if parts.next().is_some() {
            return Err(wrong("its path has too many parts"));
        }
        if topology == Deployment::Cluster && database != 0 {
            return Err(wrong("a cluster has no database but 0"));
        }
        let addresses: Vec<_> = hosts
            .split(',')
            .map(|host| Address::parse(host, port))
            .collect::<Result<_, _>>()?;
        if topology == Deployment::Standalone && addresses.len() > 1 {
            return Err(wrong(
                "it names several servers: use `redis-sentinel` or `redis-cluster`",
            ));
        }
        Ok(Self {
            topology,
            tls,
            addresses,
            credentials: user.map_or_else(|| Ok(Credentials::default()), Credentials::parse)?,
            database,
        })
    }
}

impl Credentials {
    fn parse(text: &str) -> Result<Self, RedisError> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (decode(user)?, Some(decode(password)?)),
            None => (decode(text)?, None),
        };
        Ok(Self {
            user: Some(user).filter(|user| !user.is_empty()),
            password,
        })
    }
}

impl Address {
    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub(super) fn parse(text: &str, default_port: u16) -> Result<Self, RedisError> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match text.rsplit_once(':') {
                // Nodes of a cluster write IPv6 addresses without brackets.
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong("a port is not a number"))?,
            None => default_port,
        };
        if host.is_empty() {
            return Err(wrong("a host is missing"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The server to which this one redirects. An unknown host (`?`, or none) is its own.
    pub(super) fn redirect(&self, node: &str) -> Option<Self> {
        let (host, port) = node.rsplit_once(':')?;
        match host {
            "" | "?" => Some(Self {
                host: self.host.clone(),
                port: port.parse().ok()?,
            }),
            _ => Self::parse(node, 0).ok(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url")
            .field("topology", &self.topology)
            .field("tls", &self.tls)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Decodes percent-encoding.
fn decode(text: &str) -> Result<String, RedisError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = behind
            .get(..2)
            .and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| wrong("a `%` is not followed by two digits"))?);
        rest = &behind[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 behind its `%`"))
}

/// Never repeats any of the URL: it may contain a password.
fn wrong(message: &str) -> RedisError {
    RedisError::new(RedisErrorKind::Config, format!("the URL: {message}"))
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let url = Url::parse("rediss://shop:p%40ss:%2F@cache.example:6380/2").expect("it is one");
        assert!(url.tls);
        assert_eq!(url.addresses[0].to_string(), "cache.example:6380");
        assert_eq!(url.credentials.user.as_deref(), Some("shop"));
        assert_eq!(url.credentials.password.as_deref(), Some("p@ss:/"));
        assert_eq!(url.database, 2);
        let url = Url::parse("redis://:secret@[::1]").expect("it is one");
        assert_eq!(url.addresses[0].to_string(), "[::1]:6379");
        assert_eq!(url.credentials.user, None);
        assert!(!format!("{url:?}{:?}", url.credentials).contains("secret"));
        let url = Url::parse("redis-sentinel://a,b:7/main/1").expect("it is one");
        assert_eq!(url.addresses.len(), 2);
        assert_eq!(url.addresses[0].port, SENTINEL_PORT);
        let primary_name = "main".to_owned();
        assert_eq!(url.topology, Deployment::Sentinel { primary_name });
        let url = Url::parse("redis-cluster://a:1,b:2,c:3").expect("it is one");
        assert_eq!((url.topology, url.database), (Deployment::Cluster, 0));
    }

    ///
    #[test]
    fn a_redirection_without_a_host_is_to_the_host_that_answered() {
        let from = Address::parse("10.0.0.7:7000", 0).expect("it is one");
        for (node, to) in [
            ("?:7001", "10.0.0.7:7001"),
            (":7001", "10.0.0.7:7001"),
            ("10.0.0.8:7001", "10.0.0.8:7001"),
            ("cache.example:7001", "cache.example:7001"),
            ("2001:db8::1:7001", "[2001:db8::1]:7001"),
            ("[2001:db8::1]:7001", "[2001:db8::1]:7001"),
        ] {
            let address = from.redirect(node).expect(node);
            assert_eq!(address.to_string(), to);
        }
        for bad in ["", "?", "?:", "?:port", "host"] {
            assert_eq!(from.redirect(bad), None, "{bad:?}");
        }
    }

    ///
    #[test]
    fn a_url_that_cannot_work_says_why_and_not_what() {
        for bad in [
            "",
            "localhost",
            "http://secret@host",
            "redis://",
            "redis://secret@host:port",
            "redis://secret@a,b",
            "redis://secret@host/x",
            "redis://secret@host/-1",
            "redis://secret%4@host",
            "redis-sentinel://secret@host",
            "redis-cluster://secret@host/1",
        ] {
            let error = Url::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("the URL"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
