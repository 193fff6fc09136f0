//! Replication under certificates of the application's own.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::ReplicatedStoreBuilder;
use crate::cluster::link::Security;

impl ReplicatedStoreBuilder {
    /// Protects links with these configurations of rustls 0.23 instead of what follows from a
    /// [`secret`](Self::secret): for those who give each node a certificate, and want to revoke
    /// one without changing anything on the others.
    ///
    /// Each node dials and is dialled, so each shows a certificate in both roles. It is for `name`,
    /// which all nodes have in common, since they are found at addresses that come and go. `server`
    /// must demand certificates of clients: whoever shows none, or one for another name, is refused
    /// whatever it says. Everybody whom both configurations accept is a full member.
    ///
    /// A secret that is given besides only signs what is sent by
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
