//! What clients prove when they connect.

use std::{sync::Arc, time::Duration};

use rcgen::SanType;
use rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::support::{
    authority::{Authority, TlsClient, ask, connect_by},
    browser::{Browser, builder},
    house::House,
    lasting::{HANDSHAKE, application},
    wire::PATIENCE,
};

/// A gateway that asks clients for certificates, and routes that look at them.
async fn asking(authority: &Authority, clients: &Authority) -> House {
    let keys = authority.keys_of("tls", &authority.issue(&["localhost"]));
    let tls = format!("server.tls = {{ {keys}, client_ca_file = {:?} }}\n", clients.file());
    House::open_at("https://localhost", &tls, |address| {
        let route = |name: &str, more: &str| {
            let url = format!("https://localhost:{}/{name}", address.port());
            format!("\n[route.{name}]\nurl = \"{url}\"\nupstream = \"http://127.0.0.1:1\"\n{more}\n")
        };
        [
            route("needed", "client_certificate = \"require\""),
            route("machines", "client_certificate = \"require\"\nauth = [\"public\"]"),
            route("hidden", "client_certificate = \"require\"\non_forbidden = \"404\""),
            route(
                "ops",
                "allow.client_certificates = [\"CN=ops-1\", \"uri:spiffe://example.com/ops\"]",
            ),
            route("others", "[[route.others.deny]]\nclient_certificates = [\"CN=ops-1\"]"),
        ]
        .concat()
    })
    .await
}

/// The status of a request with alice's token, and the code of its problem.
async fn status_of(house: &House, client: &TlsClient, path: &str) -> (u16, String) {
    let stream = client.connect(house.address, "localhost").await.unwrap();
    let host = format!("localhost:{}", house.address.port());
    let answer = ask(stream, &host, path, &house.jwt("alice")).await.unwrap();
    let problem: serde_json::Value = serde_json::from_str(&answer.text).unwrap_or_default();
    (answer.status, problem["code"].as_str().unwrap_or_default().to_owned())
}

/// Opens a WebSocket on a connection.
async fn switch(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{HANDSHAKE}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
}

/// What somebody is answered whom nothing keeps from the application, which is not there.
const PASSED: u16 = 502;

#[tokio::test]
async fn a_certificate_is_needed_where_a_route_says_so_and_nowhere_else() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let house = asking(&authority, &clients).await;
    for protocol in ["http/1.1", "h2"] {
        let without = authority.client().offering(&[protocol]);
        let with = without.clone().with(&clients.issue_to("anybody", None));
        for (path, problem) in [
            ("/needed", "client_certificate"),
            ("/machines", "client_certificate"),
            ("/hidden", "not_found"),
        ] {
            let refused = status_of(&house, &without, path).await;
            let status = if path == "/hidden" { 404 } else { 403 };
            assert_eq!(refused, (status, problem.to_owned()), "{path}");
            assert_eq!(status_of(&house, &with, path).await.0, PASSED, "{path}");
        }
        assert_eq!(status_of(&house, &without, "/").await.0, 200);
        assert_eq!(status_of(&house, &with, "/").await.0, 200);
    }
    // Nobody is sent to log in first.
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let mut browser = Browser::with(builder().tls_certs_only([root]).build().unwrap());
    let page = browser.open(&house.url("/needed")).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("A client certificate is needed"), "{}", page.text);
}

#[tokio::test]
async fn rules_look_at_the_subject_and_at_alternative_names() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let house = asking(&authority, &clients).await;
    let uri = |uri: &str| Some(SanType::URI(uri.try_into().unwrap()));
    for (common_name, alternative, ops, others) in [
        ("ops-1", None, PASSED, 403),
        ("ops-2", uri("spiffe://example.com/ops"), PASSED, PASSED),
        ("ops-10", uri("spiffe://example.com/ops/2"), 403, PASSED),
        ("dns:ops-1", None, 403, PASSED),
    ] {
        let client = authority.client().with(&clients.issue_to(common_name, alternative));
        assert_eq!(status_of(&house, &client, "/ops").await.0, ops, "{common_name}");
        assert_eq!(status_of(&house, &client, "/others").await.0, others, "{common_name}");
    }
    let without = authority.client();
    assert_eq!(status_of(&house, &without, "/ops").await.0, 403, "none is never yes");
    assert_eq!(
        status_of(&house, &without, "/others").await.0,
        PASSED,
        "none is not denied"
    );
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_or_of_the_past_is_refused() {
    let (authority, clients, foreign) = (Authority::new(), Authority::new(), Authority::new());
    let house = asking(&authority, &clients).await;
    let ended = clients.issue_until(2_020, &["ops.test"]);
    for bad in [foreign.issue_to("ops-1", None), ended] {
        for version in [&TLS12, &TLS13] {
            let client = authority.client().speaking(version).with(&bad);
            assert!(client.get(house.address, "localhost", "/public").await.is_err());
        }
    }
    let good = authority.client().with(&clients.issue_to("ops-1", None));
    assert_eq!(
        good.get(house.address, "localhost", "/public").await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn a_certificate_that_ends_counts_no_more_on_connections_and_streams_that_are_open() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let mut house = asking(&authority, &clients).await;
    house.stop_upstream().await;
    let listener = TcpListener::bind(house.upstream.address).await.unwrap();
    tokio::spawn(application(listener));
    let behind = format!("{}\"", house.upstream.address);
    house.reload(&house.file.replace("127.0.0.1:1\"", &behind)).unwrap();
    let host = format!("localhost:{}", house.address.port());
    let client = authority.client().with(&clients.issue_until(2_030, &["ops.test"]));
    let config = Arc::new(client.config());
    let mut stream = connect_by(config.clone(), house.address, "localhost").await.unwrap();
    let mut kept = connect_by(config, house.address, "localhost").await.unwrap();
    switch(&mut stream, &host, "/machines").await;

    house.clock.advance(Duration::from_secs(5 * 366 * 86_400));
    let mut last = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut last))
        .await
        .expect("it goes on");
    let request = format!("GET /machines HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, kept.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn f_13_who_was_vouched_for_by_others_than_now_is_nobody() {
    let (authority, before, after) = (Authority::new(), Authority::new(), Authority::new());
    let mut house = asking(&authority, &before).await;
    house.stop_upstream().await;
    let listener = TcpListener::bind(house.upstream.address).await.unwrap();
    tokio::spawn(application(listener));
    let file = house
        .file
        .replace("127.0.0.1:1\"", &format!("{}\"", house.upstream.address));
    house.reload(&file).unwrap();
    let host = format!("localhost:{}", house.address.port());
    let client = authority.client().with(&before.issue_to("ops-1", None));
    let config = Arc::new(client.config());
    let websocket = async |config: &Arc<ClientConfig>, path: &str| {
        let mut stream = connect_by(config.clone(), house.address, "localhost").await.unwrap();
        switch(&mut stream, &host, path).await;
        stream
    };
    let mut held = websocket(&config, "/machines").await;
    let mut free = websocket(&config, "/public").await;
    let mut kept = connect_by(config.clone(), house.address, "localhost").await.unwrap();
    let both = format!("{}{}", before.pem(), after.pem());
    std::fs::write(before.file(), both).unwrap();
    house.reload(&file).unwrap();
    held.write_all(b"hi").await.unwrap();
    let mut heard = [0; 4];
    timeout(PATIENCE, held.read_exact(&mut heard))
        .await
        .expect("one more authority cuts nobody")
        .unwrap();

    std::fs::write(before.file(), after.pem()).unwrap();
    house.reload(&file).unwrap();
    let mut last = Vec::new();
    let _ = timeout(PATIENCE, held.read_to_end(&mut last))
        .await
        .expect("it goes on");
    free.write_all(b"hi").await.unwrap();
    timeout(PATIENCE, free.read_exact(&mut heard)).await.unwrap().unwrap();
    let request = format!("GET /machines HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, kept.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "a connection of before: {answer}");
    // A session that is resumed is asked again, and so is a new one.
    let resumed = async {
        let mut stream = connect_by(config.clone(), house.address, "localhost").await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, resumed).await.unwrap();
    assert!(answer.as_ref().map_or(true, |answer| answer.is_empty()), "{answer:?}");
    let new = authority.client().with(&after.issue_to("ops-1", None));
    websocket(&Arc::new(new.config()), "/machines").await;
}
