//! Connection settings of the `redis` crate.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::url::{Address, Credentials, Deployment, Url};

impl Url {
    /// One server.
    pub(super) fn of_server(server: impl IntoConnectionInfo) -> Result<Self, RedisError> {
        let server = read(server)?;
        let (address, tls) = address(server.addr())?;
        let settings = server.redis_settings();
        if settings.db() < 0 {
            return Err(wrong("the database is a negative number"));
        }
        Ok(Self {
            topology: Deployment::Standalone,
            tls,
            addresses: vec![address],
            credentials: credentials(settings),
            database: settings.db(),
        })
    }

    /// Some nodes of a cluster, with the same settings.
    pub(super) fn of_cluster<I: IntoConnectionInfo>(
        nodes: impl IntoIterator<Item = I>,
    ) -> Result<Self, RedisError> {
        let nodes = nodes
            .into_iter()
            .map(Self::of_server)
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = nodes.first() else {
            return Err(wrong("a cluster without a node"));
        };
        if nodes.iter().any(|node| node.database != 0) {
            return Err(wrong("a cluster has no database but 0"));
        }
        if nodes
            .iter()
            .any(|node| (node.tls, &node.credentials) != (first.tls, &first.credentials))
        {
            return Err(wrong(
                "the nodes of a cluster differ in their credentials or in TLS",
            ));
        }
        Ok(Self {
            topology: Deployment::Cluster,
            addresses: nodes.iter().flat_map(|it| it.addresses.clone()).collect(),
            ..first.clone()
        })
    }
}

fn read(server: impl IntoConnectionInfo) -> Result<ConnectionInfo, RedisError> {
    // The error could repeat a part of a URL.
    let read = server.into_connection_info();
    read.map_err(|_| wrong("the redis crate does not accept them"))
}

/// The address, and `true` with TLS.
fn address(address: &ConnectionAddr) -> Result<(Address, bool), RedisError> {
    let (host, port, tls) = match address {
        ConnectionAddr::Tcp(host, port) => (host, *port, false),
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err(wrong("TLS that does not verify the server"));
        }
        ConnectionAddr::TcpTls {
            tls_params: Some(_),
            ..
        } => {
            return Err(wrong(
                "their certificates cannot be read: give them to the builder, by \
                 `root_certificates`, `client_certificate` or `tls`, and set `tls_params` to `None`",
            ));
        }
        ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
        ConnectionAddr::Unix(_) => return Err(wrong("a Unix socket is not supported")),
        _ => return Err(wrong("an unknown kind of address")),
    };
    if host.is_empty() {
        return Err(wrong("a host is missing"));
    }
    // The crate writes IPv6 addresses with brackets or without.
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
        .to_owned();
    Ok((Address { host, port }, tls))
}

fn credentials(settings: &RedisConnectionInfo) -> Credentials {
    Credentials {
        user: settings.username().map(str::to_owned),
        password: settings.password().map(str::to_owned),
    }
}

fn wrong(message: &str) -> RedisError {
    RedisError::new(
        RedisErrorKind::Config,
        format!("connection settings: {message}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(insecure: bool) -> ConnectionAddr {
        ConnectionAddr::TcpTls {
            host: "cache.example".to_owned(),
            port: 6380,
            insecure,
            tls_params: None,
        }
    }

    #[test]
    fn settings_of_the_redis_crate_say_the_same_as_a_url() {
        let text = "redis://shop:p%40ss@cache.example:6380/2";
        let url = Url::of_server(text).expect("it is one");
        assert_eq!(url, Url::parse(text).expect("it is one"));
        let info = tls(false).into_connection_info().expect("it is one");
        let settings = RedisConnectionInfo::default().set_password("p@ss");
        let info = info.set_redis_settings(settings);
        let url = Url::of_server(info.clone()).expect("it is one");
        let same = Url::parse("rediss://:p%40ss@cache.example:6380").expect("it is one");
        assert_eq!(url, same);
        let cluster = Url::of_cluster([info.clone(), info]).expect("it is one");
        assert_eq!(
            (cluster.topology, cluster.addresses.len()),
            (Deployment::Cluster, 2)
        );
    }

    ///
    #[test]
    fn settings_that_cannot_work_are_refused_without_a_secret() {
        let bad = [
            Url::of_server(tls(true)),
            Url::of_server(ConnectionAddr::Unix("/run/secret.sock".into())),
            Url::of_server("redis://:secret@host:port"),
            Url::of_server("nothing:secret"),
            Url::of_cluster(["redis://:secret@a", "redis://:secret2@b"]),
            Url::of_cluster(["redis://:secret@a/1"]),
            Url::of_cluster(Vec::<String>::new()),
        ];
        for bad in bad {
            let error = bad.expect_err("it is refused");
            assert_eq!(error.kind(), RedisErrorKind::Config);
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
    }
}
