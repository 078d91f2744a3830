//! The gateway beside another proxy, which passes requests on and asks about each: with the files that are shipped.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use reqwest::Method;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use url::Url;

use crate::support::{
    beside::{Beside, Proxy, shipped_names},
    browser::{Browser, client},
    lasting::{HANDSHAKE, application},
    upstream::told,
    wire::{head, status},
};

macro_rules! stories {
    ($($name:ident: $proxy:expr),+) => { $(
        mod $name {
            use super::Proxy;

            #[tokio::test]
            async fn a_browser_logs_in_and_comes_back_to_the_deep_link() {
                super::a_browser_logs_in($proxy).await;
            }

            #[tokio::test]
            async fn who_is_in_many_groups_passes_as_well() {
                super::who_is_in_many_groups_passes($proxy).await;
            }

            #[tokio::test]
            async fn scripts_have_their_tokens_looked_at() {
                super::scripts_have_their_tokens_looked_at($proxy).await;
            }

            #[tokio::test]
            async fn i4_nobody_is_who_they_say() {
                super::nobody_is_who_they_say($proxy).await;
            }

            #[tokio::test]
            async fn i2_the_original_is_what_the_proxy_says() {
                super::the_original_is_what_the_proxy_says($proxy).await;
            }

            #[tokio::test]
            async fn a_websocket_goes_through_and_not_for_strangers() {
                super::a_websocket_goes_through($proxy).await;
            }

            #[tokio::test]
            async fn i_10_nothing_else_is_switched_to_and_no_header_is_named_away() {
                super::nothing_else_is_switched_to($proxy).await;
            }

            #[tokio::test]
            async fn a_session_is_refreshed() {
                super::a_session_is_refreshed($proxy).await;
            }

            #[tokio::test]
            async fn nobody_passes_while_the_gateway_is_away() {
                super::nobody_passes_while_the_gateway_is_away($proxy).await;
            }
        }
    )+ };
}

stories! {
    nginx: Proxy::Nginx,
    traefik: Proxy::Traefik,
    caddy: Proxy::Caddy,
    envoy_over_http: Proxy::EnvoyOverHttp,
    envoy_over_grpc: Proxy::EnvoyOverGrpc,
    haproxy: Proxy::Haproxy
}

async fn a_browser_logs_in(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let mut alice = Browser::new();
    let form = alice.open(&beside.url("/deep/link?x=1&y=%2F2")).await;
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(page.url.as_str(), beside.url("/deep/link?x=1&y=%2F2"));
    assert_eq!(page.status, 200, "{}", page.text);
    let seen = page.json();
    assert_eq!(seen["target"], "/deep/link?x=1&y=%2F2");
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "x-forwarded-email"), ["alice@example.com"]);

    // The application has its own cookies, and not the session.
    let session = format!("vestibule={}", alice.session_cookie());
    for (sent, left) in [(format!("{session}; theme=dark"), &["theme=dark"][..]), (session, &[])] {
        let request = client().get(beside.url("/again")).header("cookie", sent);
        let seen = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
        assert_eq!(told(&seen, "cookie"), left);
    }

    let denied = alice.open(&beside.url("/admin")).await;
    assert_eq!(denied.status, 403);
    let posted = alice.post(&beside.url("/form"), &[("a", "b")]).await;
    assert_eq!(posted.status, 200, "{}", posted.text);
    assert_eq!(
        (&posted.json()["method"], &posted.json()["body"]),
        (&"POST".into(), &"a=b".into())
    );

    let foreign = client()
        .post(beside.url("/form"))
        .header("origin", "https://evil.example.com")
        .header("sec-fetch-site", "cross-site")
        .body("a=b");
    let url = Url::parse(&beside.url("/form")).unwrap();
    assert_eq!(alice.send(foreign, url).await.status, 403, "N-124");

    // Who signs out is out.
    alice.open(&beside.url("/oauth2/sign_out")).await;
    assert!(alice.open(&beside.url("/deep")).await.text.contains("<form"));
}

/// With a session of several cookies, and a long header for the application.
async fn who_is_in_many_groups_passes(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let mut many = Browser::new();
    let form = many.open(&beside.url("/first")).await;
    let mut page = many.log_in(&form, "many", "many").await;
    assert!(many.cookies_named("vestibule-1").len() == 1, "the session is split");
    for path in ["/first", "/second"] {
        assert_eq!((page.status.as_u16(), page.url.path()), (200, path), "{}", page.text);
        let seen = page.json();
        let groups = told(&seen, "x-forwarded-groups")[0].split(',').count();
        assert_eq!(groups, 300);
        page = many.open(&beside.url("/second")).await;
    }
}

async fn scripts_have_their_tokens_looked_at(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let house = &beside.house;
    let ask = |method: Method, path: &str, token: &str| {
        let request = client().request(method, beside.url(path));
        match token {
            "" => request,
            token => request.bearer_auth(token),
        }
    };
    let status_of = async |method, path: &str, token: &str| {
        let answer = ask(method, path, token).send().await.unwrap();
        answer.status().as_u16()
    };
    let alice = house.jwt("alice");
    let answer = ask(Method::GET, "/x", &alice).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = answer.json().await.unwrap();
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "authorization"), [""; 0], "it stays at the door");

    let answer = ask(Method::GET, "/x", "").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Bearer realm="), "{challenge}");
    let answer = ask(Method::GET, "/x", "abc").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");

    assert_eq!(status_of(Method::GET, "/admin", &alice).await, 403);
    assert_eq!(status_of(Method::GET, "/admin", &house.jwt("admin")).await, 200);
    assert_eq!(status_of(Method::GET, "/api", &alice).await, 403);
    let reader = house.jwt_with_scope("alice", "things.read");
    assert_eq!(status_of(Method::GET, "/api", &reader).await, 200);
    assert_eq!(status_of(Method::HEAD, "/x", &alice).await, 200);
    assert_eq!(status_of(Method::OPTIONS, "/x", "").await, 401);
    assert_eq!(status_of(Method::GET, "/public", "").await, 200);

    let before = house.upstream.requests();
    for (name, value) in [
        ("cookie", "a=b; ".repeat(20_000)),
        ("content-type", "application/grpc".into()),
    ] {
        let answer = ask(Method::POST, "/x", "").header(name, value).send().await;
        // A proxy may hang up while so much is still being sent, and Envoy speaks to gRPC in its own words.
        let Ok(answer) = answer else { continue };
        let refused = answer.status().is_client_error() || answer.status().is_server_error();
        let refused_call = answer.headers().get("grpc-status").is_some_and(|status| status != "0");
        assert!(refused || refused_call, "{name}: {}", answer.status());
    }
    assert_eq!(house.upstream.requests(), before);
}

async fn nobody_is_who_they_say(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    // Whose provider knows no address of theirs.
    let token = beside.house.jwt("nobody-special");
    let forged = shipped_names();
    assert!(forged.contains(&"x-forwarded-subject".to_owned()), "{forged:?}");
    for (path, user) in [("/x", &["nobody-special"][..]), ("/public", &[])] {
        let plain = forged.clone();
        let underscored = plain.iter().map(|name| name.replace('-', "_")).collect();
        let upper = plain.iter().map(|name| name.to_uppercase()).collect();
        let half = plain.iter().map(|name| name.replacen('-', "_", 1)).collect();
        for names in [plain, upper, underscored, half] {
            let mut request = client().get(beside.url(path));
            if path == "/x" {
                request = request.bearer_auth(&token);
            }
            for name in names {
                request = request.header(name, "admin");
            }
            let answer = request.send().await.unwrap();
            if answer.status() == 400 {
                // There are proxies that take no underscore at all.
                continue;
            }
            assert_eq!(answer.status(), 200, "{path}");
            let text = answer.text().await.unwrap();
            let seen = serde_json::from_str(&text).unwrap();
            assert_eq!(told(&seen, "x-forwarded-user"), user, "{path}");
            assert_eq!(told(&seen, "x-forwarded-subject"), user, "{path}");
            assert_eq!(told(&seen, "x-forwarded-email"), [""; 0], "{path}");
            assert!(!text.contains("\"admin\""), "{text}");
        }
    }
}

async fn the_original_is_what_the_proxy_says(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let token = beside.house.jwt("alice");
    let before = beside.house.upstream.requests();
    for (name, value) in [
        ("X-Forwarded-Uri", "/public".to_owned()),
        ("X-Forwarded-Method", "GET".to_owned()),
        ("X-Forwarded-Host", "elsewhere.example.com".to_owned()),
        ("X-Forwarded-Proto", "https".to_owned()),
        ("X-Original-URL", beside.url("/public")),
        ("X-Original-URI", "/public".to_owned()),
        ("X-Original-Method", "GET".to_owned()),
        ("X-Forwarded-Prefix", "/public".to_owned()),
        ("X-HTTP-Method-Override", "GET".to_owned()),
    ] {
        let request = client().get(beside.url("/admin")).bearer_auth(&token);
        let status = request.header(name, &value).send().await.unwrap().status().as_u16();
        assert!([400, 401, 403, 404].contains(&status), "{name}: {status}");
        let request = client().post(beside.url("/admin")).header(name, &value);
        let status = request.send().await.unwrap().status().as_u16();
        assert!([400, 401, 403, 404].contains(&status), "{name}: {status}");
    }
    assert_eq!(beside.house.upstream.requests(), before, "nothing came through");
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "//admin",
        "/public%2f..%2fadmin",
        "/admin;/../public",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n",
            beside.address
        );
        let status = status(beside.address, request.as_bytes()).await;
        // There are proxies that make one path of both, for the question and for the application.
        let plain = status == 200 && beside.house.upstream.last()["target"] == "/public";
        assert!(plain || (300..500).contains(&status), "{path}: {status}");
    }

    // A browser that asks the question itself is told nothing.
    for question in [
        "/oauth2/auth",
        "/oauth2/auth/forward",
        "/oauth2/auth/envoy/x",
        "/vestibule",
    ] {
        let asked = client()
            .get(beside.url(question))
            .bearer_auth(&token)
            .header("X-Original-URL", beside.url("/x"))
            .header("X-Original-Method", "GET")
            .header("X-Forwarded-Uri", "/x")
            .header("X-Forwarded-Method", "GET");
        let answer = asked.send().await.unwrap();
        assert!(!answer.headers().contains_key("x-forwarded-user"), "{question}");
        let is_own_path = question == "/vestibule";
        assert!(
            is_own_path || [400, 403, 404].contains(&answer.status().as_u16()),
            "{question}"
        );
    }
}

async fn a_websocket_goes_through(proxy: Proxy) {
    let Some(mut beside) = Beside::behind(proxy).await else {
        return;
    };
    let mut alice = Browser::new();
    let form = alice.open(&beside.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let address = beside.address;
    beside.house.stop_upstream().await;
    tokio::spawn(application(bound(beside.house.upstream.address).await));

    let handshake = async |headers: &str| {
        let request = format!("GET /live HTTP/1.1\r\nHost: {address}\r\n{headers}{HANDSHAKE}\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        head.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let session = format!("Cookie: vestibule={}\r\n", alice.session_cookie());
    assert_eq!(handshake(&session).await, 101);
    assert_eq!(handshake("").await, 401);
    let token = beside.house.jwt("alice");
    assert_eq!(handshake(&format!("Authorization: Bearer {token}\r\n")).await, 101);
    // A page of another site would act in her name.
    assert_eq!(
        handshake(&format!("{session}Origin: https://evil.example.com\r\n")).await,
        403
    );
    assert_eq!(handshake(&format!("{session}Origin: http://{address}\r\n")).await, 101);
}

async fn nothing_else_is_switched_to(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let token = beside.house.jwt("alice");
    for headers in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: upgrade\r\nUpgrade: foo\r\n",
        "Connection: X-Forwarded-User, X-Forwarded-Email\r\n",
    ] {
        let request = format!(
            "GET /x HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n",
            beside.address
        );
        let before = beside.house.upstream.requests();
        let mut stream = TcpStream::connect(beside.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        if beside.house.upstream.requests() == before {
            // There are proxies that refuse the whole request.
            assert!(
                !head.starts_with("HTTP/1.1 2") && !head.starts_with("HTTP/1.1 1"),
                "{head}"
            );
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let seen = beside.house.upstream.last();
        for name in ["upgrade", "http2-settings"] {
            assert_eq!(told(&seen, name), [""; 0], "{headers}");
        }
        assert_eq!(told(&seen, "x-forwarded-user"), ["alice"], "{headers}");
        let connection = told(&seen, "connection").concat().to_lowercase();
        assert!(!connection.contains("x-forwarded"), "{connection}");
    }
}

#[tokio::test]
async fn haproxy_lets_nobody_pass_when_its_script_breaks() {
    let broken = |text: String| text.replace("-- Last: before this, nothing passes.", "error(\"broken\")");
    let Some(beside) = Beside::behind_altered(Proxy::Haproxy, broken).await else {
        return;
    };
    let asked = client().get(beside.url("/x")).bearer_auth(beside.house.jwt("alice"));
    let answer = asked.header("X-Forwarded-User", "admin").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(beside.house.upstream.requests(), 0);
}

/// Where somebody listened before; a connection of another test may have the port for a while.
async fn bound(address: SocketAddr) -> TcpListener {
    let since = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_session_is_refreshed(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let mut alice = Browser::new();
    let form = alice.open(&beside.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let (calls, cookie) = (beside.house.token_calls(), alice.session_cookie());
    for round in 1..=3 {
        beside.house.clock.advance(Duration::from_secs(5 * 60));
        let page = alice.open(&beside.url("/x")).await;
        assert_eq!(told(&page.json(), "x-forwarded-user"), ["alice"], "{round}");
        assert_eq!(beside.house.token_calls(), calls + round);
    }
    assert_ne!(alice.session_cookie(), cookie, "the browser was given the new one");
}

async fn nobody_passes_while_the_gateway_is_away(proxy: Proxy) {
    let Some(beside) = Beside::behind(proxy).await else {
        return;
    };
    let Beside { house, address, .. } = beside;
    let alice = house.jwt("alice");
    let status = async |path: &str, token: &str| {
        let request = client().get(format!("http://{address}{path}")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/x", &alice).await, 200);
    let before = house.upstream.requests();
    let unknown = house.opaque("alice");
    house.stop_provider().await;
    let answer = status("/x", &unknown).await;
    assert!((500..600).contains(&answer), "the provider is away: {answer}");
    let upstream = house.close().await;
    for path in ["/x", "/public", "/oauth2/start"] {
        let answer = status(path, &alice).await;
        assert!((500..600).contains(&answer), "{path}: {answer}");
    }
    assert_eq!(upstream.requests(), before);
}
