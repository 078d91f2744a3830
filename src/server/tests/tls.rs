//! The same limits behind TLS.

use rcgen::{CertificateParams, KeyPair as Key};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::server::tls::{Chain, Front, MinVersion, Settings as TlsSettings};

/// A server behind TLS, and a client that trusts it.
fn encrypted() -> (House, TlsConnector) {
    let key = Key::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let chain = Chain::from_pem("tls.crt".as_ref(), pem.as_bytes()).unwrap();
    let tls = TlsSettings {
        key_pairs: vec![chain.with_key(key.serialize_pem().as_bytes()).unwrap()],
        min_version: MinVersion::Tls12,
        client_authorities: None,
    };
    let (stub, metrics) = (Arc::<Stub>::default(), Arc::<Metrics>::default());
    let front = Arc::new(Front::new(&tls, metrics.clone()).unwrap());
    let server = Server::bind(settings(), Some(front), stub.clone(), metrics.clone()).unwrap();
    let house = House {
        stub,
        metrics,
        running: server.start().unwrap(),
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (house, TlsConnector::from(Arc::new(config)))
}

async fn connect(house: &House, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, house.connect().await).await.unwrap()
}

/// Waits until no connection is open.
async fn is_left(house: &House) {
    let left = async {
        while !house.metrics.encode().contains("vestibule_connections 0\n") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), left)
        .await
        .expect("it is open for ever");
}

#[tokio::test]
async fn silence_after_the_handshake_is_cut_off_with_a_word() {
    let (house, connector) = encrypted();
    let mut silent = connect(&house, &connector).await;
    let read = timeout(Duration::from_secs(20), silent.read(&mut [0; 64])).await;
    assert_eq!(read.expect("it is open for ever").unwrap(), 0);
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off() {
    let (house, connector) = encrypted();
    let mut deaf = connect(&house, &connector).await;
    deaf.write_all(get("/long").as_bytes()).await.unwrap();
    is_left(&house).await;
    drop(deaf);
}

#[tokio::test]
async fn an_answer_longer_than_any_buffer_arrives_whole() {
    let (house, connector) = encrypted();
    let mut stream = connect(&house, &connector).await;
    let request = "GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 64 << 20 && answer.ends_with(b"xxxx"));
    drop(stream);
    is_left(&house).await;
}
