//! How links are protected: by TLS, or not at all between nodes on one machine.
//!
//! Both ends prove that they belong to the cluster before the first frame is read. What they prove
//! it with follows from a [shared secret](super::keys), or is the application's own.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{AlertDescription, Error};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::secret::Secret;
use super::keys::configurations;
use super::stream::Stream;

/// What the links of a node are protected with.
#[derive(Clone, Debug)]
pub(in super::super) enum Security {
    /// Nothing: the machine is trusted.
    None,
    Tls(Tls),
}

/// Both ends of TLS.
#[derive(Clone)]
pub(in super::super) struct Tls {
    pub(super) server: TlsAcceptor,
    pub(super) client: TlsConnector,
    /// What a dialled node's certificate has to be for.
    pub(super) name: ServerName<'static>,
    /// Whether that goes for whoever dials as well. Bare keys have no names.
    pub(super) is_named: bool,
}

impl Security {
    /// Shows the first of the secrets, accepts all; nothing, if there is none.
    pub(in super::super) fn from_secrets(secrets: &[Secret], cluster: &str) -> io::Result<Self> {
        if secrets.is_empty() {
            return Ok(Self::None);
        }
        let (server, client) = configurations(secrets, cluster).map_err(io::Error::other)?;
        // Public keys have no names, and this one is not sent.
        let name = ServerName::try_from("node").map_err(io::Error::other)?;
        Ok(Self::Tls(Tls {
            server: Arc::new(server).into(),
            client: Arc::new(client).into(),
            name,
            is_named: false,
        }))
    }

    /// Returns `true` if links may leave the machine.
    pub(in super::super) const fn is_some(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The end that was dialled.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        let Self::Tls(tls) = self else {
            return Ok(Stream::Plain(stream));
        };
        let stream = tls.server.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        tls.check_client(shown).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }

    /// The end that has dialled. It does not know yet whether the other one trusts it: if not, the
    /// first read says so.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        let Self::Tls(tls) = self else {
            return Ok(Stream::Plain(stream));
        };
        let stream = tls.client.connect(tls.name.clone(), stream).await;
        let stream = stream.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Distrust::HungUp.into(),
            _ => error,
        })?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

impl Tls {
    /// What this crate demands of those who dial, beyond what the configuration does.
    fn check_client(&self, shown: Option<&[CertificateDer<'_>]>) -> Result<(), Error> {
        let Some([first, ..]) = shown else {
            // A configuration that asks for nothing would let everybody in.
            return Err(Error::NoCertificatesPresented);
        };
        if self.is_named {
            // As for those who are dialled: otherwise a link could be made one way only.
            verify_server_name(&ParsedCertificate::try_from(first)?, &self.name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// Why two ends do not trust each other, as far as one of them can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// The other end has proved something else, or nothing.
    Theirs,
    /// The other end does not accept what this one has proved.
    Ours,
    /// The other end speaks no TLS.
    Plain,
    /// The other end speaks TLS, and this one does not.
    Tls,
    /// The other end has closed before it has proved anything.
    HungUp,
    /// The other end speaks TLS as no node does, or somebody has changed what it said.
    Broken,
}

impl Distrust {
    /// What is wrong with a connection that has failed, if that is the reason.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        let cause = error.get_ref()?;
        if let Some(distrust) = cause.downcast_ref::<Self>() {
            return Some(*distrust);
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

    /// Returns `true` if that may be, for whatever speaks TLS to a node that does not.
    pub(super) const fn may_be_of_a_node(self) -> bool {
        self.is_of_a_node() || matches!(self, Self::Tls)
    }

    /// Returns `true` if bytes that should be an introduction are what TLS says first: a handshake,
    /// or an alert (RFC 8446, section 5.1).
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        matches!(bytes, [0x15 | 0x16, 0x03, ..]).then_some(Self::Tls)
    }

    /// In an operator's words, after "a connection from somebody" and the like.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Theirs => {
                "does not prove that it belongs to this cluster: give all nodes the same secret \
                 (or certificates of the same authority) and the same cluster name"
            }
            Self::Ours => {
                "does not accept what this node proves: give all nodes the same secret (or \
                 certificates of the same authority) and the same cluster name; to change the \
                 secret, let all nodes accept the new one before any of them shows it"
            }
            Self::Plain => "speaks no TLS: if it is a node, give it the cluster's secret",
            Self::Tls => "speaks TLS, and this node has no secret: give it the cluster's",
            Self::HungUp => {
                "hangs up when it should prove that it belongs to this cluster: if it is a node, \
                 give it the cluster's secret"
            }
            Self::Broken => "speaks TLS as no node of this cluster does",
        }
    }
}

/// Returns `true` if an alert says that what this end has proved is not accepted.
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

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Distrust {}

impl From<Distrust> for io::Error {
    fn from(distrust: Distrust) -> Self {
        Self::other(distrust)
    }
}
