//! Keys derived from a secret, and the TLS configurations that use them.
//!
//! Each node has an Ed25519 key derived from the secret and the name of the cluster. Both ends
//! present their public key as a raw public key (RFC 7250), and accept exactly those derived from
//! one of their own secrets. There is no authority, no certificate and no date, and so nothing that
//! could expire. The links are encrypted with ephemeral keys (ECDHE): an attacker who learns the
//! secret later cannot read earlier recordings.
//!
//! A client signs other data than a server (RFC 8446, section 4.4.3), so an attacker cannot make a
//! node authenticate to itself by reflecting its messages.

use std::fmt;
use std::sync::Arc;

use ring::hkdf;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use tokio_rustls::rustls::crypto::ring::sign::any_eddsa_type;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring as provider};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use tokio_rustls::rustls::server::AlwaysResolvesServerRawPublicKeys;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SigningKey};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::cluster::secret::Secret;

/// Returns the configurations of both ends: they present the key of the first secret, and accept
/// those of all secrets.
///
/// # Errors
///
/// If there is no secret, or the algorithms do not work.
pub(super) fn configurations(
    secrets: &[Secret],
    cluster: &str,
) -> Result<(ServerConfig, ClientConfig), Error> {
    let provider = Arc::new(provider::default_provider());
    let keys = secrets
        .iter()
        .map(|secret| node_key(secret, cluster))
        .collect::<Result<Vec<_>, _>>()?;
    let accepted = keys.iter().map(|key| public_key(&**key));
    let verifier = Arc::new(KnownKeys {
        accepted: accepted.collect::<Result<_, _>>()?,
        algorithms: provider.signature_verification_algorithms,
    });
    let no_secret = || Error::General("there is no secret".to_owned());
    let first = keys.into_iter().next().ok_or_else(no_secret)?;
    let public = public_key(&*first)?.as_ref().to_vec();
    let own = Arc::new(CertifiedKey::new(vec![public.into()], first));
    Ok((
        server(provider.clone(), verifier.clone(), own.clone())?,
        client(provider, verifier, own)?,
    ))
}

/// Derives a key for a purpose other than links, bound to the purpose and the cluster.
pub(crate) fn derive(secret: &[u8], purpose: &str, cluster: &str) -> [u8; KEY] {
    let mut key = [0; KEY];
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT);
    let random = salt.extract(secret);
    // The names of purposes contain no zero byte, so no two inputs are equal.
    let info = [purpose.as_bytes(), &[0], cluster.as_bytes()];
    let filled = random
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut key));
    filled.expect("HKDF gives as much as one hash");
    key
}

fn node_key(secret: &Secret, cluster: &str) -> Result<Arc<dyn SigningKey>, Error> {
    let seed = derive(secret.bytes(), "node tls v1", cluster);
    let pkcs8 = [ED25519_PKCS8, &seed].concat();
    any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8))
}

fn public_key(key: &dyn SigningKey) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let public = key.public_key().map(|key| key.into_owned());
    public.ok_or_else(|| Error::General("a key without a public half".to_owned()))
}

fn server(
    provider: Arc<CryptoProvider>,
    verifier: Arc<KnownKeys>,
    own: Arc<CertifiedKey>,
) -> Result<ServerConfig, Error> {
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own)));
    // Every link is authenticated from the start.
    server.send_tls13_tickets = 0;
    Ok(server)
}

fn client(
    provider: Arc<CryptoProvider>,
    verifier: Arc<KnownKeys>,
    own: Arc<CertifiedKey>,
) -> Result<ClientConfig, Error> {
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own)));
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok(client)
}

/// Accepts the keys of the cluster, at either end.
struct KnownKeys {
    accepted: Vec<SubjectPublicKeyInfoDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl KnownKeys {
    fn check(&self, shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        // These are public keys, so the time of the comparison reveals nothing.
        let known = self.accepted.iter().any(|key| **key == **shown);
        if known && more.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

impl fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownKeys({})", self.accepted.len())
    }
}

impl ServerCertVerifier for KnownKeys {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown, more)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for KnownKeys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown, more)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn too_old() -> Error {
    PeerIncompatible::Tls12NotOffered.into()
}

/// The length of a key.
pub(crate) const KEY: usize = 32;
const SALT: &[u8] = b"distributable replication";
/// The prefix of an Ed25519 seed in its PKCS #8 form (RFC 8410, section 7).
const ED25519_PKCS8: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        let bytes: Vec<u8> = (0..32).map(|i| i ^ byte).collect();
        Secret::from_bytes(bytes).unwrap()
    }

    fn spki(secret: &Secret, cluster: &str) -> Vec<u8> {
        let key = node_key(secret, cluster).unwrap();
        public_key(&*key).unwrap().to_vec()
    }

    #[test]
    fn the_key_follows_from_the_secret_and_the_cluster_and_nothing_else() {
        let key = spki(&secret(0), "shop");
        assert_eq!(key, spki(&secret(0), "shop"));
        assert_ne!(key, spki(&secret(1), "shop"));
        assert_ne!(key, spki(&secret(0), "shop2"));
    }

    /// Nodes of different releases must derive the same key.
    #[test]
    fn the_derivation_stands_still() {
        let key = spki(&secret(0), "shop");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "302a300506032b6570032100a3a45a8520f18bac2c6622d6a7d80d166ec1c996a63edc45bf84aa3209b25698";
        assert_eq!(hex, expected);
    }

    #[test]
    fn purposes_have_keys_of_their_own() {
        let of = |purpose, cluster| derive(secret(0).bytes(), purpose, cluster);
        assert_ne!(of("node tls v1", "shop"), of("beacon v1", "shop"));
        assert_ne!(of("beacon v1", "shop"), of("beacon v1", "shop2"));
    }

    #[test]
    fn without_a_secret_there_is_no_configuration() {
        assert!(configurations(&[], "shop").is_err());
    }
}
