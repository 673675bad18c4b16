//! TLS with a private authority, and with client certificates, over both kinds of transport.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod export_support;

use agent::export::{Connection, Exporter, Protocol, SignalConfig, Tls};
use agent_core::otlp::Signal;
use export_support::{body, config, grpc, http, inbox, received, settled, signal_config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// An authority with one certificate for `localhost`, usable at either end.
struct Authority {
    ca: String,
    cert: String,
    key: String,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    let cert = params.signed_by(&key, &ca).unwrap();
    Authority { ca: ca.pem(), cert: cert.pem(), key: key.serialize_pem() }
}

impl Authority {
    fn grpc(&self, client_certificates: bool) -> ServerTlsConfig {
        let config = ServerTlsConfig::new().identity(Identity::from_pem(&self.cert, &self.key));
        if client_certificates {
            config.client_ca_root(Certificate::from_pem(&self.ca))
        } else {
            config
        }
    }

    fn http(&self, client_certificates: bool) -> ServerConfig {
        let builder = ServerConfig::builder();
        let builder = if client_certificates {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        builder.with_single_cert(vec![cert], key).unwrap()
    }

    fn client(&self, certificate: bool) -> Tls {
        let identity = certificate.then(|| (self.cert.clone().into(), self.key.clone().into()));
        Tls { ca: Some(self.ca.clone().into()), identity }
    }
}

/// (why, the receiver asks for a certificate, what the agent has, it works)
fn cases(own: &Authority, other: &Authority) -> [(&'static str, bool, Tls, bool); 5] {
    [
        ("private authority", false, own.client(false), true),
        ("both have certificates", true, own.client(true), true),
        ("the agent has none", true, own.client(false), false),
        ("unknown authority", false, other.client(false), false),
        ("the system's authorities do not know the private one", false, Tls::default(), false),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_configured_authority_and_certificate_open_the_way() {
    agent::export::install_crypto();
    let (own, other) = (authority(), authority());
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        for (why, client_certificates, tls, works) in cases(&own, &other) {
            let inbox = inbox([]);
            let (endpoint, _server) = if protocol == Protocol::Grpc {
                let tls = Some(own.grpc(client_certificates));
                let (address, server) = grpc::serve(inbox.clone(), "127.0.0.1:0", tls).await;
                (format!("https://localhost:{}/", address.port()), Some(server))
            } else {
                let tls = Some(own.http(client_certificates));
                let address = http::serve(inbox.clone(), tls).await;
                (format!("https://localhost:{}/v1/traces", address.port()), None)
            };
            let traces = SignalConfig { tls, ..signal_config(&endpoint, protocol) };
            let exporter = match Exporter::start(config(traces), &Handle::current()) {
                Ok(exporter) => exporter,
                // A machine without any authority cannot even try.
                Err(error) if !works => {
                    assert!(error.to_string().contains("ertificate"), "{error}");
                    continue;
                }
                Err(error) => panic!("{why}: {error}"),
            };
            let (body, items) = body(0..10);
            exporter.submit(Signal::Traces, body, items);
            let case = format!("{protocol:?}: {why}");
            if works {
                assert_eq!(settled(&exporter.submitter()).await.out, 10, "{case}");
                assert_eq!(received(&inbox).len(), 10);
            } else {
                wait_for_failure(&exporter, &case).await;
                assert_eq!(received(&inbox), [0; 0], "{case}");
            }
            exporter.shutdown(Instant::now() + Duration::from_millis(100)).await;
        }
    }
}

async fn wait_for_failure(exporter: &Exporter, case: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let status = exporter.submitter().status().remove(0);
        if status.connection == Connection::Down {
            let error = status.last_error.unwrap();
            println!("{case}: {error}");
            assert!(!error.is_empty());
            return;
        }
        assert!(Instant::now() < end, "{case}: no failure");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
