//! Replication under the application's own certificates.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::cluster::builder::ReplicatedStoreBuilder;
use crate::cluster::transport::Security;

impl ReplicatedStoreBuilder {
    /// Protects links with these configurations of rustls 0.23 instead of keys derived from a
    /// [`secret`](Self::secret), so that each node has its own certificate, which can be revoked
    /// without changes on other nodes.
    ///
    /// Each node both dials and accepts connections, so it presents a certificate in both roles.
    /// The certificate is for `name`, which is common to all nodes, since their addresses change.
    /// `server` must require client certificates: a peer without one, or with one for another name,
    /// is refused. Every peer that both configurations accept is a full member.
    ///
    /// A secret that is set as well is only used to sign the announcements of
    /// [`multicast`](Self::multicast).
    pub fn tls(
        mut self,
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Self {
        self.own = Some(Security::from_configurations(server, client, name));
        self
    }
}
