//! The ways to an application: a socket in the file system, TLS on both sides, HTTP/2 over TLS.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::support::{browser::client, house::House, wire::exchange};

/// A house with a public route at `/app`, with these keys.
async fn house_with(keys: &str) -> House {
    let mut house = House::open().await;
    let route = format!(
        "\n[route.app]\nurl = \"http://{}/app\"\nauth = [\"public\"]\n{keys}\n",
        house.address
    );
    house.file.push_str(&route);
    house.reload(&house.file).unwrap();
    house
}

async fn ask(house: &House) -> (u16, String) {
    let response = client().get(house.url("/app")).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn said(text: String) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(text)))
}

fn host(request: &Request<Incoming>) -> String {
    let host = request.headers().get("host");
    host.map_or(String::new(), |host| host.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_application_listens_at_a_socket_in_the_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request| said(host(&request)));
            tokio::spawn(conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let upstream = format!("upstream = \"unix:{}\"", path.display());
    let house = house_with(&upstream).await;
    for _ in 0..2 {
        assert_eq!(ask(&house).await, (200, house.address.to_string()));
    }
    let own = house
        .file
        .replace(&upstream, &format!("{upstream}\npreserve_host = false"));
    house.reload(&own).unwrap();
    assert_eq!(ask(&house).await, (200, "localhost".to_owned()));
    std::fs::remove_file(&path).unwrap();
    let elsewhere = house.file.replace("app.sock", "nobody.sock");
    house.reload(&elsewhere).unwrap();
    assert_eq!(ask(&house).await.0, 502);
}

/// An authority, and files that it signed.
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

    fn path(&self, file: &str) -> String {
        self.directory.path().join(file).display().to_string()
    }

    fn signed(&self, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (CertificateDer::from(certificate.der().to_vec()), key)
    }

    /// Writes the certificate and the key of the gateway.
    fn write(&self, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("gateway.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("gateway.key"), key.serialize_pem()).unwrap();
        CertificateDer::from(certificate.der().to_vec())
    }

    /// Of a server with this name, which chooses one of these protocols.
    fn acceptor(&self, name: &str, asks: bool, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (certificate, key) = self.signed(name);
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.issuer.der().to_vec())).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match asks {
            true => config.with_client_cert_verifier(verifier.unwrap()),
            false => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Says the version and the scheme that it is spoken to with, and the certificate that it was shown.
async fn telling(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let session = stream.get_ref().1;
                let shown = session.peer_certificates().map_or(0, |chain| checksum(&chain[0]));
                let is_h2 = session.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request: Request<Incoming>| async move {
                    let scheme = request.uri().scheme_str().unwrap_or("").to_owned();
                    let version = if request.version() == Version::HTTP_2 { 2 } else { 1 };
                    said(format!("{version} {scheme} {shown}"))
                });
                let stream = TokioIo::new(stream);
                if is_h2 {
                    let _ = conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(stream, service)
                        .await;
                } else {
                    let _ = conn::http1::Builder::new().serve_connection(stream, service).await;
                }
            });
        }
    });
    address
}

fn checksum(certificate: &CertificateDer<'_>) -> u64 {
    certificate
        .iter()
        .fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

#[tokio::test]
async fn an_application_sees_who_the_gateway_is_and_is_known_by_another_name() {
    let authority = Authority::new();
    let first = authority.write("gateway");
    let address = telling(authority.acceptor("app.internal", true, &[])).await;
    let tls = |keys: &str| format!("upstream_tls = {{ ca_file = \"{}\"{keys} }}", authority.path("ca.pem"));
    let certificate = format!(
        ", cert_file = \"{}\", key_file = \"{}\"",
        authority.path("gateway.pem"),
        authority.path("gateway.key")
    );
    let name = ", server_name = \"app.internal\"";
    let keys = |tls: String| format!("upstream = \"https://{address}\"\n{tls}");
    let whole = keys(tls(&format!("{certificate}{name}")));
    let house = house_with(&whole).await;
    assert_eq!(ask(&house).await, (200, format!("1  {}", checksum(&first))));

    // Another certificate counts from the reload on.
    let second = authority.write("gateway");
    assert_ne!(checksum(&first), checksum(&second));
    house.reload(&house.file).unwrap();
    assert_eq!(ask(&house).await, (200, format!("1  {}", checksum(&second))));
    for lacks in [tls(&certificate), tls(name)] {
        house.reload(&house.file.replace(&whole, &keys(lacks.clone()))).unwrap();
        assert_eq!(ask(&house).await.0, 502, "{lacks}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_over_tls_with_whoever_chooses_it() {
    let authority = Authority::new();
    let keys = |address| {
        format!(
            "upstream = \"h2://{address}\"\nupstream_tls.ca_file = \"{}\"",
            authority.path("ca.pem")
        )
    };
    let address = telling(authority.acceptor("127.0.0.1", false, &["h2"])).await;
    let house = house_with(&keys(address)).await;
    for _ in 0..2 {
        assert_eq!(ask(&house).await, (200, "2 https 0".to_owned()));
    }
    for protocols in [&[] as &[_], &["http/1.1"]] {
        let address = telling(authority.acceptor("127.0.0.1", false, protocols)).await;
        let house = house_with(&keys(address)).await;
        assert_eq!(ask(&house).await.0, 502, "{protocols:?}");
    }
}

#[tokio::test]
async fn a_post_arrives_at_a_socket_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request: Request<Incoming>| {
                let body = http_body_util::BodyExt::collect(request.into_body()).await;
                said(body.unwrap().to_bytes().len().to_string())
            });
            tokio::spawn(conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let house = house_with(&format!("upstream = \"unix:{}\"", path.display())).await;
    let body = "x".repeat(300_000);
    let request = format!(
        "POST /app HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
        house.address,
        body.len()
    );
    let answer = exchange(house.address, request.as_bytes()).await;
    assert!(answer.ends_with("300000"), "{answer}");
}
