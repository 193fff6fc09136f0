//! Protection of links: TLS, or none between nodes on one machine.
//!
//! Both ends authenticate before the first frame is read, with keys derived from a [shared
//! secret](shared_secret) or with the application's own certificates.

#[cfg(feature = "rustls")]
mod certificates;
mod shared_secret;

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{AlertDescription, Error};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cluster::secret::Secret;
use crate::cluster::transport::stream::PeerStream;
use shared_secret::configurations;
pub(crate) use shared_secret::derive;

/// The protection of a node's links.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// None: the machine is trusted.
    None,
    Tls(LinkTls),
}

/// Both ends of TLS.
#[derive(Clone)]
pub(crate) struct LinkTls {
    pub(super) server: TlsAcceptor,
    pub(super) client: TlsConnector,
    /// The name in a dialed node's certificate.
    pub(super) name: ServerName<'static>,
    /// Whether a dialing node's certificate is checked for the name as well. Raw keys have no
    /// names.
    pub(super) is_named: bool,
}

impl Security {
    /// Presents the first of the secrets, and accepts all; no protection without a secret.
    pub(crate) fn from_secrets(secrets: &[Secret], cluster: &str) -> io::Result<Self> {
        if secrets.is_empty() {
            return Ok(Self::None);
        }
        let (server, client) = configurations(secrets, cluster).map_err(io::Error::other)?;
        // Raw public keys have no names, and this one is not sent.
        let name = ServerName::try_from("node").map_err(io::Error::other)?;
        Ok(Self::Tls(LinkTls {
            server: Arc::new(server).into(),
            client: Arc::new(client).into(),
            name,
            is_named: false,
        }))
    }

    /// Returns `true` if links may leave the machine.
    pub(crate) const fn is_some(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Authenticates the accepting end of a connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<PeerStream> {
        stream.set_nodelay(true)?;
        let Self::Tls(tls) = self else {
            return Ok(PeerStream::Plain(stream));
        };
        let secured = tls.server.accept(stream).await?;
        let shown = secured.get_ref().1.peer_certificates();
        tls.check_client(shown).map_err(io::Error::other)?;
        Ok(PeerStream::Tls(Box::new(secured.into())))
    }

    /// Authenticates the dialing end of a connection. If the other end does not accept this one,
    /// the first read fails.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<PeerStream> {
        stream.set_nodelay(true)?;
        let Self::Tls(tls) = self else {
            return Ok(PeerStream::Plain(stream));
        };
        let connecting = tls.client.connect(tls.name.clone(), stream);
        let secured = connecting.await.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => AuthError::HungUp.into(),
            _ => error,
        })?;
        Ok(PeerStream::Tls(Box::new(secured.into())))
    }
}

impl LinkTls {
    /// Checks a dialing node beyond what the configuration requires.
    fn check_client(&self, shown: Option<&[CertificateDer<'_>]>) -> Result<(), Error> {
        let Some([first, ..]) = shown else {
            // A configuration that requires no certificates would accept any peer.
            return Err(Error::NoCertificatesPresented);
        };
        if self.is_named {
            // The same as for dialed nodes: otherwise a link would be possible in one direction
            // only.
            verify_server_name(&ParsedCertificate::try_from(first)?, &self.name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for LinkTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// Why two ends do not trust each other, as far as one of them can determine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthError {
    /// The other end has no valid proof.
    Theirs,
    /// The other end does not accept the proof of this one.
    Ours,
    /// The other end does not use TLS.
    Plain,
    /// The other end uses TLS, and this one does not.
    Tls,
    /// The other end has closed the connection before it authenticated.
    HungUp,
    /// The other end uses TLS in a way that no node does, or its bytes were modified.
    Broken,
}

impl AuthError {
    /// Returns the authentication problem for which a connection has failed, if any.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        let cause = error.get_ref()?;
        if let Some(error) = cause.downcast_ref::<Self>() {
            return Some(*error);
        }
        Some(match cause.downcast_ref::<Error>()? {
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Self::Theirs,
            Error::AlertReceived(alert) if is_about_proof(*alert) => Self::Ours,
            Error::InvalidMessage(_) => Self::Plain,
            _ => Self::Broken,
        })
    }

    /// Returns `true` if the other end is a node that has another secret, or none.
    pub(super) const fn is_of_a_node(self) -> bool {
        matches!(self, Self::Theirs | Self::Ours)
    }

    /// Returns `true` if the other end may be such a node.
    pub(super) const fn may_be_of_a_node(self) -> bool {
        self.is_of_a_node() || matches!(self, Self::Tls)
    }

    /// Returns [`Tls`](Self::Tls) if bytes that should be a handshake of this protocol are the
    /// start of TLS: a handshake or an alert (RFC 8446, section 5.1).
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        matches!(bytes, [0x15 | 0x16, 0x03, ..]).then_some(Self::Tls)
    }

    /// Returns the cause for operators, about the other end.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Theirs => {
                "no proof that it belongs to this cluster: give all nodes the same secret (or \
                 certificates of the same authority) and the same cluster name"
            }
            Self::Ours => {
                "the proof of this node is not accepted: give all nodes the same secret (or \
                 certificates of the same authority) and the same cluster name; to change the \
                 secret, let all nodes accept the new one before any of them presents it"
            }
            Self::Plain => "no TLS: if it is a node, give it the cluster's secret",
            Self::Tls => "unexpected TLS, because this node has no secret: give it the cluster's",
            Self::HungUp => {
                "a connection closed before authentication: if it leads to a node, give that the \
                 cluster's secret"
            }
            Self::Broken => "the TLS handshake is not that of a cluster node",
        }
    }
}

/// Returns `true` if an alert means that the proof of this end is not accepted.
const fn is_about_proof(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for AuthError {}

impl From<AuthError> for io::Error {
    fn from(error: AuthError) -> Self {
        Self::other(error)
    }
}
