//! Whoever the gateway talks to proves who they are.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    browser::{Browser, client},
    house::House,
};

/// An authority of the test's own, and its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A server that proves to be `name` until `year`.
    fn acceptor(&self, name: &str, year: i32) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server behind TLS that gives one answer, and counts how often it was asked.
struct Answering {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Answering {
    async fn with(acceptor: TlsAcceptor, answer: impl FnOnce(SocketAddr) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let body = answer(address);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut buffer = [0; 4_096];
                if tokio::io::AsyncReadExt::read(&mut stream, &mut buffer)
                    .await
                    .is_ok_and(|length| length > 0)
                {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn through(upstream: &Answering, host: &str, ca_file: Option<PathBuf>) -> u16 {
    let port = upstream.address.port();
    let house = House::open_with(|address| {
        let trust = match &ca_file {
            Some(path) => format!("upstream_tls.ca_file = {path:?}"),
            None => String::new(),
        };
        format!(
            "[route.tls]\nurl = \"http://{address}/tls\"\nupstream = \"https://{host}:{port}\"\nauth = [\"public\"]\n{trust}\n"
        )
    })
    .await;
    client().get(house.url("/tls")).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn n_157_an_upstream_is_verified_by_name_and_chain() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = Answering::with(ours.acceptor("localhost", 2090), |_| "{}".into()).await;
    assert_eq!(through(&good, "localhost", Some(ours.file())).await, 200);
    assert_eq!(good.asked(), 1);

    assert_eq!(
        through(&good, "localhost", None).await,
        502,
        "an authority that nobody knows"
    );
    assert_eq!(
        through(&good, "localhost", Some(theirs.file())).await,
        502,
        "another authority"
    );
    assert_eq!(
        through(&good, "127.0.0.1", Some(ours.file())).await,
        502,
        "another name"
    );
    let expired = Answering::with(ours.acceptor("localhost", 2020), |_| "{}".into()).await;
    assert_eq!(through(&expired, "localhost", Some(ours.file())).await, 502, "expired");
    assert_eq!((good.asked(), expired.asked()), (1, 0), "not a byte was sent to them");
}

#[tokio::test]
async fn n_031_a_provider_is_verified_before_a_byte_is_sent() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (authority, status, asked) in [(&ours, 302, 1), (&theirs, 503, 0)] {
        let provider = Answering::with(ours.acceptor("localhost", 2090), metadata).await;
        let port = provider.address.port();
        let house = House::open_with(|address| {
            format!(
                r#"
[provider.private]
issuer = "https://localhost:{port}"
client_id = "wiki"
client_auth = "none"
ca_file = {:?}

[route.private]
url = "http://{address}/private"
upstream = "http://127.0.0.1:9"
providers = ["private"]
"#,
                authority.file()
            )
        })
        .await;
        let page = Browser::new().peek(&house.url("/private")).await;
        assert_eq!(page.status, status, "{}", page.text);
        assert_eq!(provider.asked(), asked);
    }
}

fn metadata(address: SocketAddr) -> String {
    let issuer = format!("https://localhost:{}", address.port());
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    })
    .to_string()
}
