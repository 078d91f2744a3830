//! Certificates of the test's own, and clients that meet a gateway behind TLS.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::wire::PATIENCE;

/// An authority, and a folder for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these hosts.
    pub fn issue(&self, hosts: &[&str]) -> Issued {
        self.issue_until(2_090, hosts)
    }

    /// One that ends with the beginning of a year.
    pub fn issue_until(&self, year: i32, hosts: &[&str]) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    /// A certificate of a client.
    pub fn issue_to(&self, common_name: &str, alternative: Option<SanType>) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = alternative.into_iter().collect();
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Puts it into two files, and says as the file of the gateway does where they are.
    pub fn keys_of(&self, name: &str, issued: &Issued) -> String {
        let [certificate, key] = ["crt", "key"].map(|end| self.folder.path().join(format!("{name}.{end}")));
        std::fs::write(&certificate, &issued.certificate).unwrap();
        std::fs::write(&key, &issued.key).unwrap();
        format!("cert_file = {certificate:?}, key_file = {key:?}")
    }

    /// Settings with one certificate, for these hosts.
    pub fn tls(&self, hosts: &[&str]) -> String {
        format!("server.tls = {{ {} }}\n", self.keys_of("tls", &self.issue(hosts)))
    }

    /// A client that trusts it.
    pub fn client(&self) -> TlsClient {
        TlsClient {
            authority: self.pem(),
            certificate: None,
            versions: vec![&TLS13, &TLS12],
            protocols: vec!["http/1.1"],
        }
    }
}

#[derive(Clone)]
pub struct TlsClient {
    authority: String,
    certificate: Option<Issued>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<&'static str>,
}

/// What somebody was answered.
#[derive(Debug)]
pub struct Answer {
    pub version: Version,
    pub status: u16,
    pub text: String,
}

impl TlsClient {
    pub fn with(mut self, certificate: &Issued) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    pub fn speaking(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    pub fn offering(mut self, protocols: &[&'static str]) -> Self {
        self.protocols = protocols.to_vec();
        self
    }

    pub fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            Some(issued) => {
                let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Connects to whoever is at an address, as if a name had led there.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        connect_by(Arc::new(self.config()), address, name).await
    }

    /// One request on a connection of its own.
    pub async fn get(&self, address: SocketAddr, name: &str, path: &str) -> io::Result<Answer> {
        let stream = self.connect(address, name).await?;
        let authority = format!("{name}:{}", address.port());
        timeout(PATIENCE, ask(stream, &authority, path, "")).await.unwrap()
    }
}

/// The same by a configuration that remembers what it resumes.
pub async fn connect_by(
    config: Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = TlsConnector::from(config).connect(name, stream);
    timeout(PATIENCE, connect).await.unwrap()
}

/// A request, and then no more, by what was agreed upon in the handshake.
pub async fn ask(stream: TlsStream<TcpStream>, authority: &str, path: &str, token: &str) -> io::Result<Answer> {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let request = Request::get(match is_h2 {
        true => format!("https://{authority}{path}"),
        false => path.to_owned(),
    });
    let request = match is_h2 {
        true => request,
        false => request.header("host", authority),
    };
    let request = match token {
        "" => request,
        token => request.header("authorization", format!("Bearer {token}")),
    };
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = if is_h2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        drop(connection);
        response
    } else {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(io::Error::other)?
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Answer {
        version: parts.version,
        status: parts.status.as_u16(),
        text: String::from_utf8_lossy(&body).into_owned(),
    })
}
