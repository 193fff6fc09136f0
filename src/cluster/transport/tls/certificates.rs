//! Links protected by the application's own certificates.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::cluster::transport::tls::{LinkTls, Security};

impl Security {
    /// Uses the application's configurations; every node presents a certificate for `name`.
    pub(crate) fn from_configurations(
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Self {
        Self::Tls(LinkTls {
            server: server.into(),
            client: client.into(),
            name,
            is_named: true,
        })
    }
}
