//! TLS ends at the gateway.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Version;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::version::{TLS12, TLS13};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    authority::{Authority, TlsClient, ask},
    browser::{Browser, builder},
    house::House,
    lasting::{HANDSHAKE, application},
    wire::{PATIENCE, exchange},
};

async fn house(authority: &Authority) -> House {
    House::open_at("https://localhost", &authority.tls(&["localhost"]), |_| String::new()).await
}

/// Routes for everybody at these hosts.
fn public(hosts: &[&str], address: SocketAddr) -> String {
    let port = address.port();
    let urls: Vec<String> = hosts.iter().map(|host| format!("\"https://{host}:{port}\"")).collect();
    format!(
        "\n[route.open]\nurl = [{}]\nupstream = \"http://127.0.0.1:1\"\nauth = [\"public\"]\n",
        urls.join(", ")
    )
}

/// The certificate that a name is shown, in PEM without its lines.
async fn shown(client: &TlsClient, address: SocketAddr, name: &str) -> Vec<u8> {
    let stream = client.connect(address, name).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn both_versions_of_http_and_of_tls_are_spoken() {
    let authority = Authority::new();
    let house = house(&authority).await;
    for version in [&TLS12, &TLS13] {
        let client = authority.client().speaking(version);
        for (offer, spoken) in [
            (&["h2", "http/1.1"][..], Version::HTTP_2),
            (&["http/1.1"], Version::HTTP_11),
            (&[], Version::HTTP_11),
        ] {
            let client = client.clone().offering(offer);
            let answer = client.get(house.address, "localhost", "/public").await.unwrap();
            assert_eq!((answer.status, answer.version), (200, spoken), "{offer:?}");
        }
    }
    let told = house.upstream.last();
    assert!(told.to_string().contains("https"), "the application knows: {told}");
}

#[tokio::test]
async fn n_156_who_offers_only_what_is_not_spoken_is_refused() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let client = authority.client().offering(&["spdy/3"]);
    let error = client.connect(house.address, "localhost").await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

/// A hello of TLS 1.1, whose end the record tells.
const OLD_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x2f, 0x01, 0x00, 0x00, 0x2b, 0x03, 0x02, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0x00, 0x00, 0x04, 0xc0, 0x13, 0x00, 0x2f,
    0x01, 0x00,
];

#[tokio::test]
async fn n_155_older_versions_and_clear_text_are_refused() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(OLD_HELLO).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    // A fatal alert; what it is called is a matter of taste, for without extensions no common signature is left either.
    assert_eq!((answer.first(), answer.get(5)), (Some(&0x15), Some(&2)), "{answer:?}");
    let answer = exchange(house.address, b"GET /public HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!answer.contains("HTTP/"), "{answer}");
}

#[tokio::test]
async fn only_the_newest_version_where_the_file_says_so() {
    let authority = Authority::new();
    let keys = authority.keys_of("tls", &authority.issue(&["localhost"]));
    let tls = format!("server.tls = {{ {keys}, min_version = \"1.3\" }}\n");
    let house = House::open_at("https://localhost", &tls, |_| String::new()).await;
    let old = authority.client().speaking(&TLS12);
    assert!(old.connect(house.address, "localhost").await.is_err());
    assert!(authority.client().connect(house.address, "localhost").await.is_ok());
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_picks_the_certificate() {
    let authority = Authority::new();
    let issued = [
        authority.issue(&["localhost", "first.test"]),
        authority.issue(&["second.test"]),
        authority.issue(&["*.wild.test"]),
        authority.issue(&["exact.wild.test"]),
    ];
    let listed: Vec<String> = issued
        .iter()
        .enumerate()
        .map(|(index, issued)| format!("{{ {} }}", authority.keys_of(&index.to_string(), issued)))
        .collect();
    let tls = format!("server.tls.certificates = [{}]\n", listed.join(", "));
    let hosts = ["first.test", "second.test", "*.wild.test", "exact.wild.test"];
    let house = House::open_at("https://localhost", &tls, |address| public(&hosts, address)).await;
    for (name, index) in [
        ("first.test", 0),
        ("second.test", 1),
        ("any.wild.test", 2),
        ("exact.wild.test", 3),
    ] {
        let client = authority.client();
        assert_eq!(
            shown(&client, house.address, name).await,
            der(&issued[index].certificate),
            "{name}"
        );
        assert_eq!(
            client.get(house.address, name, "/").await.unwrap().status,
            502,
            "{name} has its route"
        );
    }
    for name in ["wild.test", "a.b.wild.test", "stranger.test", "127.0.0.1"] {
        let error = authority.client().connect(house.address, name).await.unwrap_err();
        assert!(
            error.to_string().contains("only valid for DnsName(\"localhost\")"),
            "{name} is shown the first: {error}"
        );
    }
}

#[tokio::test]
async fn a_login_goes_from_https_to_https_with_a_cookie_of_this_host_alone() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let mut browser = Browser::with(builder().tls_certs_only([root]).build().unwrap());
    let page = browser.peek(&house.url("/")).await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
    let page = browser.open(&house.url("/")).await;
    let page = browser.log_in(&page, "alice", "alice").await;
    assert_eq!((page.status.as_u16(), page.url.as_str()), (200, &*house.url("/")));
    let mut ours = browser.cookies.keys().filter(|(host, _)| host == "localhost");
    assert!(
        ours.all(|(_, name)| name.starts_with("__Host-")),
        "{:?}",
        browser.cookies
    );
    assert_eq!(browser.cookies_named("__Host-vestibule-tries").len(), 1);
    let page = browser.fetch(&house.url("/deep")).await;
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn clear_text_is_sent_to_the_origins_of_routes_and_nowhere_else() {
    let authority = Authority::new();
    let keys = authority.keys_of("tls", &authority.issue(&["localhost", "*.wild.test"]));
    let tls = format!("server.tls = {{ {keys}, redirect_listen = [\"127.0.0.1:0\"] }}\n");
    let house = House::open_at("https://localhost", &tls, |address| public(&["*.wild.test"], address)).await;
    let (from, port) = (house.redirect_address(), house.address.port());
    let moved = async |method: &str, host: &str, target: &str| {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        let answer = exchange(from, request.as_bytes()).await;
        let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        (status, location.unwrap_or_default().to_owned())
    };
    for (method, host, target, place) in [
        ("GET", "localhost", "/a?b=c", format!("https://localhost:{port}/a?b=c")),
        ("POST", "LOCALHOST:80", "/", format!("https://localhost:{port}/")),
        (
            "GET",
            "x.wild.test",
            "/oauth2/callback?code=1",
            format!("https://x.wild.test:{port}/oauth2/callback?code=1"),
        ),
    ] {
        assert_eq!(moved(method, host, target).await, ("308".to_owned(), place));
    }
    for (host, target, status) in [
        ("evil.test", "/", "404"),
        ("localhost.evil.test", "/", "404"),
        ("localhost@evil.test", "/", "400"),
        ("localhost", "//evil.test/..", "400"),
        ("localhost", "http://evil.test/", "400"),
    ] {
        let (answered, place) = moved("GET", host, target).await;
        assert!(!place.contains("://evil"), "{host} {target}: {place}");
        assert_eq!((&*answered, &*place), (status, ""), "{host} {target}");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn f_08_a_slow_handshake_is_cut_and_holds_nobody_up() {
    let authority = Authority::new();
    let tls = format!(
        "server.limits.handshake_timeout = \"700ms\"\n{}",
        authority.tls(&["localhost"])
    );
    let house = House::open_at("https://localhost", &tls, |_| String::new()).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(&OLD_HELLO[..7]).await.unwrap();
        slow.push(stream);
    }
    let answer = authority.client().get(house.address, "localhost", "/public").await;
    assert_eq!(answer.unwrap().status, 200);
    for mut stream in slow {
        let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await;
        assert!(matches!(read.expect("it waits for ever"), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn handshakes_count_as_connections() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let _waiting = TcpStream::connect(house.address).await.unwrap();
    let counted = async {
        while !house.admin("/metrics").await.1.contains("\nvestibule_connections 1\n") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap();
}

#[tokio::test]
async fn a_websocket_is_encrypted_too() {
    let authority = Authority::new();
    let mut house = house(&authority).await;
    let token = house.jwt("alice");
    house.stop_upstream().await;
    let listener = TcpListener::bind(house.upstream.address).await.unwrap();
    tokio::spawn(application(listener));
    let mut stream = authority.client().connect(house.address, "localhost").await.unwrap();
    let host = format!("localhost:{}", house.address.port());
    let request = format!("GET /live HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{HANDSHAKE}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    // More than fits into one record.
    let word = "x".repeat(100_000);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let speak = async {
        writer.write_all(word.as_bytes()).await.unwrap();
        writer.flush().await.unwrap();
    };
    let mut heard = vec![0; word.len() * 2];
    let listen = timeout(PATIENCE, reader.read_exact(&mut heard));
    let (heard, ()) = tokio::join!(listen, speak);
    heard.expect("not all of it came back").unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(
        reader.read(&mut [0; 8]).await.unwrap(),
        0,
        "the end is passed on, and said"
    );
}

#[tokio::test]
async fn a_drain_says_goodbye_before_it_closes() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let mut one = authority.client().connect(house.address, "localhost").await.unwrap();
    let request = format!(
        "GET /public HTTP/1.1\r\nHost: localhost:{}\r\n\r\n",
        house.address.port()
    );
    one.write_all(request.as_bytes()).await.unwrap();
    assert!(timeout(PATIENCE, one.read(&mut [0; 4_096])).await.unwrap().unwrap() > 0);
    let many = authority
        .client()
        .offering(&["h2"])
        .connect(house.address, "localhost")
        .await
        .unwrap();
    let (sender, many) = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(many))
        .await
        .unwrap();
    let many = tokio::spawn(many);
    let stopped = tokio::spawn(house.stop());
    // Without a closure alert, either would be an error (RFC 8446 §6.1).
    timeout(PATIENCE, one.read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    timeout(PATIENCE, many).await.unwrap().unwrap().unwrap();
    timeout(Duration::from_secs(20), stopped).await.unwrap().unwrap();
    drop(sender);
}

#[tokio::test]
async fn f_13_the_metrics_say_when_a_certificate_ends() {
    let authority = Authority::new();
    let keys = authority.keys_of("tls", &authority.issue_until(2_030, &["localhost", "other.test"]));
    let tls = format!("server.tls = {{ {keys} }}\n");
    let house = House::open_at("https://localhost", &tls, |_| String::new()).await;
    let metrics = house.admin("/metrics").await.1;
    let line = "vestibule_certificate_expiry_timestamp_seconds{name=\"localhost\"} 1893456000\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_reload_neither_begins_nor_ends_tls() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let without = house.file.replacen(&authority.tls(&["localhost"]), "", 1);
    assert_ne!(without, house.file);
    let error = house.reload(&without).unwrap_err().to_string();
    assert!(
        error.contains("[server.tls]") && error.contains("without a restart"),
        "{error}"
    );
    house.reload(&house.file).unwrap();
    assert!(
        authority
            .client()
            .get(house.address, "localhost", "/public")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_token_counts_behind_tls_as_well() {
    let authority = Authority::new();
    let house = house(&authority).await;
    let host = format!("localhost:{}", house.address.port());
    let stream = authority
        .client()
        .offering(&["h2"])
        .connect(house.address, "localhost")
        .await
        .unwrap();
    let answer = ask(stream, &host, "/", &house.jwt("alice")).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}
