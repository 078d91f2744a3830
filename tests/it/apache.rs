//! A real Apache: an old site of CGI behind the gateway, and a proxy before it.

use std::time::Duration;

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::support::{
    apache::{Apache, KEEP_ALIVE, apache_is_installed},
    browser::{Browser, PROXY, client, client_at},
    house::House,
    lasting::{HANDSHAKE, application},
    upstream::told,
    wire::{PATIENCE, head},
};

/// A house before the site: for people at `/app`, for everybody at `/open`.
async fn house_before(apache: &Apache) -> House {
    let mut house = House::open().await;
    let (gateway, behind) = (house.address, apache.address);
    house.file.push_str(&format!(
        r#"
[route.app]
url = "http://{gateway}/app"
upstream = "http://{behind}"
strip_prefix = true
auth = ["session", "bearer"]
identity.headers = {{ X-Forwarded-User = "{{user}}", X-Forwarded-Groups = "{{groups}}" }}

[route.open]
url = "http://{gateway}/open"
upstream = "http://{behind}"
strip_prefix = true
auth = ["public"]
"#
    ));
    house.reload(&house.file).unwrap();
    house
}

/// What a script is told in its environment.
async fn environment(request: reqwest::RequestBuilder) -> Vec<String> {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_script_of_cgi_knows_whom_the_gateway_names_and_nobody_who_names_themselves() {
    if !apache_is_installed() {
        return;
    }
    let apache = Apache::with_a_site().await;
    let house = house_before(&apache).await;
    let forged = [
        ("X-Forwarded-User", "admin"),
        ("X_Forwarded_User", "admin"),
        ("X-Forwarded_User", "admin"),
        ("x-forwarded.user", "admin"),
        ("X-Forwarded-Groups", "staff"),
        ("X_Forwarded_Groups", "staff"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("Proxy", "http://6.6.6.6"),
    ];
    for (name, value) in forged {
        let page = client()
            .get(house.url("/app/environment.cgi"))
            .bearer_auth(house.jwt("alice"));
        let told = environment(page.header(name, value)).await;
        for line in [
            "REMOTE_USER=alice",
            "HTTP_X_FORWARDED_USER=alice",
            "HTTP_X_FORWARDED_FOR=127.0.0.1",
        ] {
            assert!(told.iter().any(|told| told == line), "{name}: no {line} in {told:?}");
        }
        let open = client().get(house.url("/open/environment.cgi"));
        let told = environment(open.header(name, value)).await;
        for variable in [
            "REMOTE_USER",
            "HTTP_X_FORWARDED_USER",
            "HTTP_X_FORWARDED_GROUPS",
            "HTTP_PROXY",
        ] {
            let begin = format!("{variable}=");
            assert!(!told.iter().any(|line| line.starts_with(&begin)), "{name}: {told:?}");
        }
        assert!(!told.iter().any(|line| line.contains("6.6.6.6")), "{name}: {told:?}");
        // Past the gateway, it believes anybody.
        let past = format!("http://{}/environment.cgi", apache.address);
        if name == "X-Forwarded-User" {
            let told = environment(client().get(past).header(name, value)).await;
            assert!(told.iter().any(|line| line == "REMOTE_USER=admin"), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_directory_that_looks_at_groups_opens_to_those_whom_the_gateway_puts_there() {
    if !apache_is_installed() {
        return;
    }
    let apache = Apache::with_a_site().await;
    let house = house_before(&apache).await;
    for (user, status) in [("admin", 200), ("alice", 403)] {
        let mut browser = Browser::new();
        let form = browser.open(&house.url("/app/staff/page.txt")).await;
        assert_eq!(browser.log_in(&form, user, user).await.status, status, "{user}");
    }
    let open = client().get(house.url("/open/staff/page.txt"));
    let open = open.header("X-Forwarded-Groups", "staff").send().await.unwrap();
    assert_eq!(open.status(), 403);
}

#[tokio::test]
async fn files_and_scripts_of_apache_come_as_they_are() {
    if !apache_is_installed() {
        return;
    }
    let apache = Apache::with_a_site().await;
    let house = house_before(&apache).await;
    let ask = |path: &str, name: &'static str, value: &str| {
        client().get(house.url(path)).header(name, value.to_owned()).send()
    };
    let part = ask("/open/digits.txt", "range", "bytes=2-4").await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].as_bytes()),
        (206, &b"bytes 2-4/10"[..])
    );
    let etag = part.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(part.text().await.unwrap(), "234");
    assert_eq!(
        ask("/open/digits.txt", "if-none-match", &etag).await.unwrap().status(),
        304
    );
    assert_eq!(
        ask("/open/digits.txt", "if-match", "\"other\"").await.unwrap().status(),
        412
    );
    let only_head = client().head(house.url("/open/digits.txt")).send().await.unwrap();
    assert_eq!(
        (
            only_head.status().as_u16(),
            only_head.headers()["content-length"].as_bytes()
        ),
        (200, &b"10"[..])
    );
    let nothing = client().get(house.url("/open/nothing.cgi")).send().await.unwrap();
    assert_eq!(
        (
            nothing.status().as_u16(),
            nothing.headers().contains_key("content-length")
        ),
        (204, false)
    );
    assert_eq!(nothing.bytes().await.unwrap().len(), 0);
    // A directory without its slash, which Apache knows by another name.
    let moved = client()
        .get(house.url("/app/staff"))
        .bearer_auth(house.jwt("admin"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()),
        (301, &*house.url("/app/staff/"))
    );
}

#[tokio::test]
async fn bodies_reach_a_script_however_they_are_framed() {
    if !apache_is_installed() {
        return;
    }
    let apache = Apache::with_a_site().await;
    let house = house_before(&apache).await;
    for (method, body, said) in [
        (Method::POST, "12345", "POST 5"),
        (Method::PUT, "12345", "PUT 5"),
        (Method::POST, "", "POST 0"),
    ] {
        let answer = client().request(method, house.url("/open/count.cgi")).body(body).send();
        assert_eq!(answer.await.unwrap().text().await.unwrap(), said);
    }
    for headers in ["", "Trailer: X-Forwarded-User\r\n", "Expect: 100-continue\r\n"] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        let request = format!(
            "POST /open/count.cgi HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{headers}\r\n\
             3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Forwarded-User: admin\r\n\r\n",
            house.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(PATIENCE * 2, stream.read_to_string(&mut answer)).await;
        read.expect("it does not end").unwrap();
        assert!(answer.contains("200 OK") && answer.contains("POST 7"), "{answer}");
    }
}

#[tokio::test]
async fn what_a_script_says_is_heard_while_it_thinks() {
    if !apache_is_installed() {
        return;
    }
    let apache = Apache::with_a_site().await;
    let house = house_before(&apache).await;
    let mut answer = client().get(house.url("/open/pieces.cgi")).send().await.unwrap();
    // Of a length that nobody knows beforehand.
    assert_eq!(answer.headers()["transfer-encoding"], "chunked");
    let first = timeout(PATIENCE, answer.chunk()).await.expect("it is kept back");
    assert_eq!(first.unwrap().unwrap(), "data: first\n\n");
    apache.put("go");
    let last = timeout(PATIENCE, answer.chunk()).await.expect("it never ends");
    assert_eq!(last.unwrap().unwrap(), "data: last\n\n");
    assert!(answer.chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn f_07_pages_come_whenever_apache_closes_the_connections_that_it_kept() {
    if !apache_is_installed() {
        return;
    }
    let apache = Apache::with_a_site().await;
    let house = house_before(&apache).await;
    let client = client();
    // At every moment around the one where it closes.
    for step in 0..40 {
        let pause = KEEP_ALIVE - Duration::from_millis(10) + Duration::from_micros(500) * step;
        sleep(pause).await;
        let page = client.get(house.url("/open/digits.txt")).send().await.unwrap();
        assert_eq!(page.status(), 200, "after {pause:?}");
        assert_eq!(page.text().await.unwrap(), "0123456789");
    }
}

#[tokio::test]
async fn i_7_behind_an_apache_the_client_is_the_one_that_apache_saw() {
    if !apache_is_installed() {
        return;
    }
    let house = House::open().await;
    let apache = Apache::before(house.address).await;
    let url = |path: &str| format!("http://{}{path}", apache.address);
    // Apache writes what it saw behind what it was told.
    for (name, value) in [
        ("X-Unforged", "1"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-For", "6.6.6.6, 127.0.0.2"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.example.com"),
        ("X-Forwarded-Server", "evil.example.com"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "6.6.6.6"),
        ("Forwarded", "for=6.6.6.6;host=evil.example.com"),
        ("X-Forwarded-User", "admin"),
        // What people carry who have a large session, and other applications' cookies.
        ("Cookie", &*format!("other={}", "x".repeat(12 * 1_024))),
    ] {
        let asked = client_at("127.0.0.7")
            .get(url("/app"))
            .header("host", house.address.to_string());
        let asked = asked.bearer_auth(house.jwt("alice")).header(name, value);
        assert_eq!(asked.send().await.unwrap().status(), 200, "{name}: {value}");
        let seen = house.upstream.last();
        assert_eq!(
            told(&seen, "x-forwarded-for"),
            [format!("127.0.0.7, {PROXY}")],
            "{name}: {value}"
        );
        assert_eq!(
            told(&seen, "x-forwarded-host"),
            [house.address.to_string()],
            "{name}: {value}"
        );
        assert_eq!(told(&seen, "x-forwarded-proto"), ["http"], "{name}: {value}");
        assert_eq!(told(&seen, "x-forwarded-user"), ["alice"], "{name}: {value}");
        let rest = ["evil.example.com", "6.6.6.6", "x-forwarded-server"];
        assert!(
            !rest.iter().any(|rest| seen.to_string().contains(rest)),
            "{name}: {seen}"
        );
    }
}

#[tokio::test]
async fn i_8_behind_an_apache_nobody_is_sent_to_log_in_for_another_host() {
    if !apache_is_installed() {
        return;
    }
    let house = House::open().await;
    let apache = Apache::before(house.address).await;
    let page = client().get(format!("http://{}/deep/link", apache.address));
    let page = page
        .header("host", house.address.to_string())
        .header("accept", "text/html");
    let page = page
        .header("X-Forwarded-Host", "evil.example.com")
        .header("sec-fetch-mode", "navigate");
    let page = page.send().await.unwrap();
    assert_eq!(page.status(), 302);
    let location = page.headers()["location"].to_str().unwrap();
    let redirect: String = form_urlencoded::byte_serialize(house.url("/oauth2/callback").as_bytes()).collect();
    assert!(location.contains(&format!("redirect_uri={redirect}")), "{location}");
    assert!(!location.contains("evil"), "{location}");
    // To a host that no route has.
    let page = client()
        .get(format!("http://{}/", apache.address))
        .header("host", "evil.example.com");
    assert_eq!(page.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_websocket_passes_an_apache_and_the_gateway() {
    if !apache_is_installed() {
        return;
    }
    let mut house = House::open().await;
    let token = house.jwt("alice");
    house.stop_upstream().await;
    let listener = TcpListener::bind(house.upstream.address).await.unwrap();
    tokio::spawn(application(listener));
    let apache = Apache::before(house.address).await;
    let mut stream = TcpStream::connect(apache.address).await.unwrap();
    let request = format!(
        "GET /live HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n{HANDSHAKE}\r\n",
        house.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, head(&mut stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 10];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"hellohello");
}
