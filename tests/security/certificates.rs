//! Certificates of the application's own instead of a secret, and members that misbehave: with a
//! certificate the test can be one.

use std::sync::Arc;
use std::time::Duration;

use distributable::store::ReplicatedStoreBuilder;
use distributable::{ReplicatedStore, SessionStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::log::undisturbed;
use super::replicas::{
    PATIENCE, create, describe, describe_secure, eventually, read, secret, settled,
};

/// Signs the certificates of nodes.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    provider: Arc<CryptoProvider>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            provider: Arc::new(ring::default_provider()),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// Both roles of a node, whose certificate is for this name.
    fn configurations(&self, name: &str) -> (ServerConfig, ClientConfig) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = || PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = self.provider.clone();
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain.clone(), key())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key())
            .unwrap();
        (server, client)
    }

    fn describe(&self, name: &str) -> ReplicatedStoreBuilder {
        let (server, client) = self.configurations(NAME);
        describe(name).tls(server.into(), client.into(), server_name())
    }
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

#[test]
fn nodes_with_certificates_of_one_authority_come_together_and_others_do_not() {
    undisturbed(1, async || {
        let authority = Authority::new();
        let one = authority.describe("node1").start().await.unwrap();
        let peer = one.local_addr().to_string();
        let two = authority
            .describe("node2")
            .peer(&peer)
            .start()
            .await
            .unwrap();
        settled(&one, 2).await;
        settled(&two, 2).await;
        let key = create(&two, "there").await;
        assert_eq!(read(&one, &key).await.unwrap().as_deref(), Some("there"));

        let (server, client) = authority.configurations("another.name");
        let strangers = [
            Authority::new().describe("stranger"),
            describe("misnamed").tls(server.into(), client.into(), server_name()),
            describe_secure("secret", &[]),
            describe("plain"),
        ];
        for (i, stranger) in strangers.into_iter().enumerate() {
            let before = one.status().rejected_connections;
            let stranger = stranger.peer(&peer).start().await.unwrap();
            eventually("it is turned away", || {
                one.status().rejected_connections > before + 1
            })
            .await;
            assert!(!stranger.is_ready(), "stranger {i}");
            assert_eq!(stranger.status().members.len(), 1, "stranger {i}");
            assert_eq!(one.status().members.len(), 2, "stranger {i}");
        }
    });
}

/// A configuration that would admit every client.
#[tokio::test]
async fn who_shows_no_certificate_is_refused_whatever_the_configuration_says() {
    let authority = Authority::new();
    let (proper, _) = authority.configurations(NAME);
    let open = ServerConfig::builder_with_provider(authority.provider.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(proper.cert_resolver);
    let (_, client) = authority.configurations(NAME);
    let node = describe("node1").tls(open.into(), client.into(), server_name());
    let node = node.start().await.unwrap();

    let anonymous = ClientConfig::builder_with_provider(authority.provider.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let stream = TcpStream::connect(node.local_addr()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(anonymous));
    let mut stream = connector.connect(server_name(), stream).await.unwrap();
    let _ = stream.write_all(&handshake("node2").await).await;
    assert_eq!(last_words(&mut stream).await, b"");
    assert_eq!(node.status().rejected_connections, 1);
}

/// A secret given besides signs beacons, and nothing else.
#[tokio::test]
async fn own_certificates_count_and_a_secret_besides_does_not_open_the_port() {
    let authority = Authority::new();
    let one = authority.describe("node1").secret(secret(1));
    let one = one.start().await.unwrap();
    let other = describe_secure("node2", &[one.local_addr()]);
    let other = other.start().await.unwrap();
    eventually("it is turned away", || {
        one.status().rejected_connections > 1
    })
    .await;
    assert_eq!(other.status().members.len(), 1);
}

/// The handshake of a node, which is the same with and without TLS.
async fn handshake(name: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = describe(name).peer(listener.local_addr().unwrap().to_string());
    let accepted = async {
        // The first one only asks which incarnations were seen.
        drop(listener.accept().await.unwrap());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.unwrap();
        let mut frame = vec![0; u32::from_be_bytes(head) as usize];
        stream.read_exact(&mut frame).await.unwrap();
        [&head[..], &frame].concat()
    };
    let (node, hello) = tokio::join!(node.start(), accepted);
    drop(node.unwrap());
    hello
}

async fn last_words(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut words = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut words))
        .await
        .unwrap();
    words
}

/// A member that the test plays.
async fn member(authority: &Authority, of: &ReplicatedStore) -> TlsStream<TcpStream> {
    let (_, client) = authority.configurations(NAME);
    let stream = TcpStream::connect(of.local_addr()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    connector.connect(server_name(), stream).await.unwrap()
}

/// N-04, N-09: a member that was authenticated may still send invalid bytes.
#[test]
fn a_member_that_sends_nonsense_loses_its_link_and_changes_nothing() {
    undisturbed(1, async || {
        let authority = Authority::new();
        let one = authority.describe("node1").start().await.unwrap();
        let two = authority
            .describe("node2")
            .peer(one.local_addr().to_string());
        let two = two.start().await.unwrap();
        settled(&one, 2).await;
        settled(&two, 2).await;
        let key = create(&two, "kept").await;
        let ended = create(&two, "ended").await;
        assert!(two.delete(&ended).await.unwrap());

        let hello = handshake("buggy").await;
        let before = one.status().rejected_connections;
        // Instead of a handshake: lengths just over what is taken and the largest, and nonsense.
        let instead: [&[u8]; 4] = [
            &[0, 0, 0x10, 1],
            &[0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 4, 1, 2, 3, 4],
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        for bytes in instead {
            let mut stream = member(&authority, &one).await;
            stream.write_all(bytes).await.unwrap();
            assert_eq!(last_words(&mut stream).await, b"", "{bytes:?}");
        }
        // After it.
        let afterwards: [&[u8]; 6] = [
            &[0xff; 8],
            // One more than the longest segment.
            &[0, 0x10, 0, 1, 0, 0, 0, 0],
            // No message, one of a later version, and a large one that is longer than any may be.
            &[0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 0, 99],
            &[2, 0, 0, 4, 0, 0, 0, 0, 0x10, 0, 0, 1],
            // A write of 2^63 copies.
            &[
                1, 0, 0, 14, 0, 0, 0, 0, 2, 1, 2, 0, 3, 255, 255, 255, 255, 255, 255, 255, 255, 127,
            ],
        ];
        for bytes in afterwards {
            let mut stream = member(&authority, &one).await;
            stream.write_all(&hello).await.unwrap();
            let length = stream.read_u32().await.unwrap();
            let mut welcome = vec![0; length as usize];
            stream.read_exact(&mut welcome).await.unwrap();
            assert_eq!(welcome[0], 0, "it is let in");
            stream.write_all(bytes).await.unwrap();
            let began = Instant::now();
            assert_eq!(last_words(&mut stream).await, b"", "{bytes:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{bytes:?}");
        }
        let rejected = one.status().rejected_connections - before;
        assert_eq!(rejected, (instead.len() + afterwards.len()) as u64);
        assert_eq!(one.status().members.len(), 2);
        for node in [&one, &two] {
            assert_eq!(read(node, &key).await.unwrap().as_deref(), Some("kept"));
            assert_eq!(read(node, &ended).await.unwrap(), None);
        }
    });
}

const NAME: &str = "sessions.internal";
