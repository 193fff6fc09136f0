//! TLS: certificates that are made for the test, and servers that require them.

use std::sync::Arc;

use distributable::store::RedisErrorKind;
use distributable::testing::conformance;
use distributable::{RedisStore, StoreErrorKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use redis::ConnectionAddr;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::common::Scratch;
use crate::common::redis::{Server, free_port, write};
use crate::support::{builder, create, reason};

/// An authority of our own, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server that speaks TLS only.
fn server(authority: &Authority, name: &str, clients: &str) -> (Server, String) {
    let (certificate, key) = authority.sign(name);
    let port = free_port();
    // The server reads them when it starts.
    let folder = Scratch::in_memory();
    let ca = write(&folder, "ca.pem", &authority.pem());
    let certificate = write(&folder, "server.pem", &certificate);
    let key = write(&folder, "server.key", &key);
    let tls_port = port.to_string();
    // The plain port stays for the test itself.
    let server = Server::start(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        clients,
    ]);
    (server, tls_port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_works_without_any_provider_installed() {
    let authority = Authority::new();
    let (_server, port) = server(&authority, "localhost", "no");
    let open = || async {
        let store = builder(format!("rediss://localhost:{port}"));
        let store = store.root_certificates(authority.pem()).near_cache(1 << 20);
        store.connect().await.unwrap()
    };
    let store = open().await;
    conformance(store.clone(), store).await;
    create(&open().await, "a", "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_wrong_with_certificates_is_said() {
    let authority = Authority::new();
    let (_server, port) = server(&authority, "localhost", "no");
    let url = format!("rediss://localhost:{port}");
    let failures = [
        // Signed by another authority; for another name; not TLS at all.
        (
            builder(&url).root_certificates(Authority::new().pem()),
            "certificate",
        ),
        (
            builder(format!("rediss://127.0.0.1:{port}")).root_certificates(authority.pem()),
            "certificate",
        ),
        (
            builder(format!("rediss://localhost:{}", _server.port))
                .root_certificates(authority.pem()),
            "speaks TLS",
        ),
    ];
    for (builder, word) in failures {
        let error = builder.connect().await.unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Unreachable, "{error}");
        let text = format!("{error}");
        assert!(text.contains(word), "{text}");
    }
    for builder in [
        builder(&url).root_certificates("no certificate"),
        builder("redis://localhost").root_certificates(authority.pem()),
        builder(&url)
            .root_certificates(authority.pem())
            .client_certificate("none", "none"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Config, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_wants_a_certificate_gets_one() {
    let authority = Authority::new();
    let (_server, port) = server(&authority, "localhost", "yes");
    let url = format!("rediss://localhost:{port}");
    let builder = builder(&url).root_certificates(authority.pem());
    let store = builder.clone().build().unwrap();
    let key = distributable::SessionId::generate().key();
    let error = distributable::SessionStore::load(&store, &key, None)
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Unavailable,
        "{}",
        reason(&error)
    );
    let (certificate, key) = authority.sign("client");
    let store = builder
        .client_certificate(certificate, key)
        .connect()
        .await
        .unwrap();
    create(&store, "a", "1").await;
}

/// Settings of rustls that the application has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_settings_of_rustls_may_be_the_applications_own() {
    let authority = Authority::new();
    let (server, port) = server(&authority, "localhost", "no");
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes());
    roots.add(root.unwrap()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let address = ConnectionAddr::TcpTls {
        host: "localhost".to_owned(),
        port: port.parse().unwrap(),
        insecure: false,
        tls_params: None,
    };
    let builder = RedisStore::builder_with(address).unwrap();
    let store = builder.clone().tls(config.clone()).connect().await.unwrap();
    create(&store, "a", "1").await;
    for bad in [
        builder
            .tls(config.clone())
            .root_certificates(authority.pem()),
        RedisStore::builder(server.url()).tls(config),
    ] {
        let error = bad.build().unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Config, "{error}");
    }
}
