//! Certificates are renewed while the gateway runs.

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, sleep, timeout},
};
use tokio_rustls::client::TlsStream;

use crate::support::{
    authority::{Authority, Issued, TlsClient},
    process::{Process, free_address},
};

/// As long as a slow machine may take to notice.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with its certificate in this folder.
fn start(folder: &Path, more: &str) -> Process {
    let (address, admin) = (free_address(), free_address());
    let text = format!(
        r#"
[server]
listen = ["{address}"]
{more}

[server.tls]
cert_file = {:?}
key_file = {:?}

[admin]
listen = "{admin}"

[route.open]
url = "https://localhost:{}"
upstream = "http://127.0.0.1:1"
auth = ["public"]
"#,
        folder.join("tls.crt"),
        folder.join("tls.key"),
        address.port()
    );
    Process::start(&text, &[], address, admin)
}

fn put(folder: &Path, issued: &Issued) {
    fs::write(folder.join("tls.key"), &issued.key).unwrap();
    fs::write(folder.join("tls.crt"), &issued.certificate).unwrap();
}

async fn shown(client: &TlsClient, address: SocketAddr) -> Vec<u8> {
    let stream = client.connect(address, "localhost").await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Waits until it shows another certificate than this one.
async fn shows_another(client: &TlsClient, address: SocketAddr, before: &[u8]) {
    let wait = async {
        while shown(client, address).await == before {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("it shows the old certificate for ever");
}

async fn is_served(stream: &mut TlsStream<TcpStream>, address: SocketAddr) {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", address.port());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64 * 1_024];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(
        answer[..length].starts_with(b"HTTP/1.1 502 "),
        "{}",
        String::from_utf8_lossy(&answer[..length])
    );
}

#[tokio::test]
async fn f_13_a_new_pair_is_taken_up_and_open_connections_go_on() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &authority.issue_until(2_090, &["localhost"]));
    let gateway = start(folder.path(), "");
    let client = authority.client();
    let mut open = client.connect(gateway.address, "localhost").await.unwrap();
    is_served(&mut open, gateway.address).await;
    let before = shown(&client, gateway.address).await;
    put(folder.path(), &authority.issue_until(2_080, &["localhost"]));
    shows_another(&client, gateway.address, &before).await;
    is_served(&mut open, gateway.address).await;
    let metrics = reqwest::get(format!("http://{}/metrics", gateway.admin)).await.unwrap();
    let line = "vestibule_certificate_expiry_timestamp_seconds{name=\"localhost\"} 3471292800\n";
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn f_13_a_link_that_an_orchestrator_flips_is_noticed() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["..1", "..2"] {
        fs::create_dir(at(version)).unwrap();
        put(&at(version), &authority.issue(&["localhost"]));
    }
    symlink("..1", at("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), at(name)).unwrap();
    }
    let gateway = start(folder.path(), "");
    let client = authority.client();
    let before = shown(&client, gateway.address).await;
    symlink("..2", at("..next")).unwrap();
    fs::rename(at("..next"), at("..data")).unwrap();
    shows_another(&client, gateway.address, &before).await;
}

#[tokio::test]
async fn f_13_a_bad_pair_keeps_the_old_one_and_says_so() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &authority.issue(&["localhost"]));
    let mut gateway = start(folder.path(), "watch = false");
    let client = authority.client();
    let before = shown(&client, gateway.address).await;
    let (one, other) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    let half = one.certificate[..one.certificate.len() / 2].to_owned();
    let certificate = |certificate: String, key: &Issued| Issued {
        certificate,
        key: key.key.clone(),
    };
    for (bad, said) in [
        (
            certificate(one.certificate.clone(), &other),
            "tls.key cannot be used: it is the key of another",
        ),
        (certificate(half, &one), "tls.crt cannot be used: not a PEM file"),
        (
            certificate(String::new(), &one),
            "tls.crt cannot be used: it holds no certificate",
        ),
        (authority.issue_until(2_020, &["localhost"]), "tls.crt has ended"),
    ] {
        put(folder.path(), &bad);
        gateway.signal("-HUP");
        gateway.line_with(said);
        gateway.line_with("the earlier one serves on");
        assert_eq!(shown(&client, gateway.address).await, before, "{said}");
    }
    put(folder.path(), &one);
    gateway.signal("-HUP");
    gateway.line_with("the configuration was reloaded");
    assert_ne!(shown(&client, gateway.address).await, before);
}
