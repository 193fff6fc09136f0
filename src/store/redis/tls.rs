//! TLS to the servers, with a crypto provider of its own: no global provider is installed or
//! changed.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::store::redis::activity::MonitoredStream;
use crate::store::redis::error::{RedisError, RedisErrorKind};

/// Certificates as given to the builder, in PEM.
#[derive(Clone, Default)]
pub(super) struct Certificates {
    /// The trusted authorities for servers. Empty: those of the operating system.
    pub(super) roots: Vec<u8>,
    /// The client certificate and its key.
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Turns connections into TLS connections.
#[derive(Clone)]
pub(super) struct RedisTls(TlsConnector);

impl RedisTls {
    pub(super) fn new(certificates: &Certificates) -> Result<Self, RedisError> {
        let mut roots = RootCertStore::empty();
        if certificates.roots.is_empty() {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        } else {
            for root in parse(&certificates.roots, "the root certificates")? {
                let added = roots.add(root);
                added.map_err(|error| wrong("a root certificate").with_source(error))?;
            }
        }
        if roots.is_empty() {
            return Err(wrong(
                "there are no root certificates: install the system's (`ca-certificates`), or \
                 give your own",
            ));
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("TLS").with_source(error))?
            .with_root_certificates(roots);
        let config = match &certificates.client {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = parse(chain, "the client certificate")?;
                // The parser's own message could repeat a part of the key.
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| wrong("the client's key is not a private key in PEM"))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|error| wrong("the client certificate").with_source(error))?
            }
        };
        Ok(Self::from(Arc::new(config)))
    }

    pub(super) async fn wrap(
        &self,
        host: &str,
        stream: MonitoredStream,
    ) -> Result<TlsStream<MonitoredStream>, RedisError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            wrong("a host is not a valid name for a certificate").with_source(error)
        })?;
        self.0.connect(name, stream).await.map_err(|error| {
            let message =
                format!("no TLS with {host}: check the certificates, and that it speaks TLS");
            RedisError::new(RedisErrorKind::Unreachable, message).with_source(error)
        })
    }
}

impl From<Arc<ClientConfig>> for RedisTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(TlsConnector::from(config))
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisTls")
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

fn parse(pem: &[u8], message: &str) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(&format!(
            "{message}: it contains no certificate in PEM"
        ))),
    }
}

fn wrong(message: &str) -> RedisError {
    RedisError::new(RedisErrorKind::Config, message)
}
