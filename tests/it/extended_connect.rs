//! WebSockets in streams of HTTP/2 (RFC 8441).

use std::net::SocketAddr;

use bytes::Bytes;
use h2::Reason;
use http::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

use crate::support::{
    authority::Authority,
    browser::Browser,
    chromium::{Chromium, chromium_is_installed},
    house::House,
    lasting::{application, key_in, switch},
    tunnel::{Socket, ask, connect},
    wire::{PATIENCE, answering, head},
};

const CLOSED_BY_POLICY: &[u8] = &[0x88, 2, 0x03, 0xF0];

/// A house whose routes at `/live` and `/public/live` say everything twice over WebSockets, and at `/deaf` know none.
async fn house() -> House {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    let deaf = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let liar = answering("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").await;
    House::open_with_h2c(|address| {
        let route = |name: &str, path: &str, upstream: SocketAddr, auth: &str| {
            format!(
                "\n[route.{name}]\nurl = \"http://{address}{path}\"\nupstream = \"http://{upstream}\"\nauth = [{auth}]\n"
            )
        };
        [
            route("live", "/live", upstream, "\"session\", \"bearer\""),
            route("public-live", "/public/live", upstream, "\"public\""),
            route("deaf", "/deaf", deaf, "\"public\""),
            route("liar", "/liar", liar, "\"public\""),
        ]
        .concat()
    })
    .await
}

async fn status(house: &House, path: &str, headers: &[(&str, &str)]) -> StatusCode {
    let client = connect(house.address).await;
    let (answer, _send) = ask(&client, &house.url(path), "websocket", headers).await.unwrap();
    answer.status()
}

async fn logged_in(house: &House) -> Browser {
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
    alice
}

fn cookie(browser: &Browser) -> String {
    format!("vestibule={}", browser.session_cookie())
}

#[tokio::test]
async fn n_152_bytes_flow_both_ways_in_a_stream_beside_others() {
    let house = house().await;
    let client = connect(house.address).await;
    let token = format!("Bearer {}", house.jwt("alice"));
    let mut first = Socket::open(&client, &house.url("/live/a"), &[("authorization", &token)]).await;
    let mut second = Socket::open(&client, &house.url("/public/live/b"), &[]).await;
    for name in [
        "connection",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-key",
        "content-length",
    ] {
        assert!(!first.answer.headers().contains_key(name), "{name} is of HTTP/1.1");
    }
    first.is_answered("hello").await;
    second.is_answered("again").await;
    // More than both windows, so that they have to be opened again.
    for _ in 0..40 {
        first.is_answered(&"x".repeat(20_000)).await;
    }
    first.send.send_data(Bytes::new(), true).unwrap();
    assert!(first.hear().await.is_none(), "the end is passed on");
    second.is_answered("still here").await;
}

#[tokio::test]
async fn n_009_a_stranger_and_a_foreign_page_get_no_websocket() {
    let house = house().await;
    let alice = cookie(&logged_in(&house).await);
    let own = house.url("");
    assert_eq!(status(&house, "/live", &[]).await, 401);
    assert_eq!(
        status(
            &house,
            "/live",
            &[("cookie", &alice), ("origin", own.trim_end_matches('/'))]
        )
        .await,
        200
    );
    let foreign = [("cookie", &*alice), ("origin", "https://evil.example.com")];
    assert_eq!(status(&house, "/live", &foreign).await, 403);
    let forged = [("cookie", &*alice), ("sec-fetch-site", "cross-site")];
    assert_eq!(status(&house, "/live", &forged).await, 403);
    assert_eq!(status(&house, "/nowhere-at-all/../x", &[]).await, 400);
}

#[tokio::test]
async fn whoever_signs_out_is_told_so_and_the_stream_closes() {
    let house = house().await;
    let mut alice = logged_in(&house).await;
    let client = connect(house.address).await;
    let mut hers = Socket::open(&client, &house.url("/live"), &[("cookie", &cookie(&alice))]).await;
    let mut anybodys = Socket::open(&client, &house.url("/public/live"), &[]).await;
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    assert_eq!(hers.hear().await.unwrap().unwrap(), CLOSED_BY_POLICY);
    let end = hers.hear().await;
    assert!(end.is_none(), "{end:?}");
    anybodys.is_answered("me too").await;
}

#[tokio::test]
async fn a_client_that_resets_the_stream_lets_go_of_the_application() {
    let house = house().await;
    let client = connect(house.address).await;
    let mut socket = Socket::open(&client, &house.url("/public/live"), &[]).await;
    socket.send.send_reset(Reason::CANCEL);
    let mut next = Socket::open(&client, &house.url("/public/live"), &[]).await;
    next.is_answered("the connection goes on").await;
}

#[tokio::test]
async fn an_application_that_does_not_switch_has_failed() {
    let house = house().await;
    assert_eq!(status(&house, "/deaf", &[]).await, 502, "a page is no WebSocket");
    assert_eq!(status(&house, "/liar", &[]).await, 502, "the answer to another key");
}

#[tokio::test]
async fn no_other_tunnel_is_dug() {
    let house = house().await;
    let client = connect(house.address).await;
    for protocol in ["connect-udp", "connect-ip", "webtransport", "WEBSOCKET"] {
        let asked = ask(&client, &house.url("/public/live"), protocol, &[]).await;
        let (answer, _) = asked.unwrap();
        assert!(
            answer.status().is_client_error() || answer.status().is_server_error(),
            "{protocol}"
        );
    }
    // A proxy would be asked like this.
    let (answer, _) = ask(&client, &house.address.to_string(), "", &[]).await.unwrap();
    assert!(answer.status().is_client_error(), "{}", answer.status());
    assert_eq!(house.upstream.requests(), 0);
    Socket::open(&client, &house.url("/public/live"), &[]).await;
}

#[tokio::test]
async fn a_real_browser_opens_its_websocket_in_a_stream_beside_the_page() {
    if !chromium_is_installed() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let authority = Authority::new();
    let house = House::open_at("https://localhost", &authority.tls(&["localhost"]), |address| {
        format!(
            "\n[route.socket]\nurl = \"https://localhost:{}/public/socket\"\nupstream = \"http://{upstream}\"\nauth = [\"public\"]\n",
            address.port()
        )
    })
    .await;
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        let switch = switch(&key_in(&head).unwrap());
        stream.write_all(switch.as_bytes()).await.unwrap();
        (head.to_ascii_lowercase(), stream)
    });
    let chromium = Chromium::start_trusting_everybody().await;
    chromium.open(&house.url("/public/")).await;
    let script = "const say = arguments[0];
        const socket = new WebSocket(`wss://${location.host}/public/socket`);
        socket.onopen = () => say('open');
        socket.onerror = () => say('error');";
    assert_eq!(chromium.said_by(script).await, "open");
    let (head, _stream) = timeout(PATIENCE, asked).await.unwrap().unwrap();
    assert!(head.starts_with("get /public/socket http/1.1\r\n"), "{head}");
    assert!(
        head.contains("\r\nvia: 2.0 vestibule\r\n"),
        "it came over HTTP/1.1: {head}"
    );
    assert!(head.contains("\r\norigin: https://localhost:"), "{head}");
}
