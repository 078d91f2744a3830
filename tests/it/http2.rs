//! HTTP/2 in front and behind: the same door, and streams that end one by one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    browser::{Browser, client},
    h2c::{Application, Client, body, data, fields, flow, heard, whole},
    house::House,
    lasting::HANDSHAKE,
    upstream::told,
    wire::{PATIENCE, status},
};

/// A house whose routes at `/live` and `/public/live` lead to an application of HTTP/2.
async fn house_before(upstream: SocketAddr) -> House {
    House::open_with_h2c(|address| {
        format!(
            r#"
[route.live]
url = "http://{address}/live"
upstream = "h2c://{upstream}"
auth = ["session", "bearer"]

[route.public-live]
url = "http://{address}/public/live"
upstream = "h2c://{upstream}"
auth = ["public"]
"#
        )
    })
    .await
}

async fn house() -> (House, Application) {
    let application = Application::start().await;
    (house_before(application.address).await, application)
}

fn bearer(house: &House, user: &str) -> String {
    format!("Bearer {}", house.jwt(user))
}

async fn logged_in(house: &House, name: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    browser
}

fn cookie(browser: &Browser) -> String {
    format!("vestibule={}", browser.session_cookie())
}

#[tokio::test]
async fn a_request_of_http_2_walks_like_any_other() {
    let (house, _application) = house().await;
    let client = Client::connect(house.address).await;
    let token = bearer(&house, "alice");
    let answer = client
        .get("/", &[("authorization", &token), ("x-forwarded-user", "root")])
        .await;
    assert_eq!(answer.status(), 200);
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "via"), ["2.0 vestibule"]);
    assert_eq!(told(&seen, "host"), [house.address.to_string()]);
    let stranger = client.get("/", &[]).await;
    assert_eq!(stranger.status(), 401);
    assert!(stranger.headers().contains_key("www-authenticate"));
    assert_eq!(client.get("/", &[("accept", "text/html")]).await.status(), 302);
    let posted = client.send("POST", "/public/x", &[], body("words", &[("x-forwarded-user", "root")]));
    assert_eq!(posted.await.status(), 200);
    let seen = house.upstream.last();
    assert_eq!((&seen["body"], &seen["trailers"]), (&"words".into(), &0.into()));
}

#[tokio::test]
async fn cookies_that_come_one_by_one_are_one_line_to_the_application() {
    let (house, _application) = house().await;
    let alice = logged_in(&house, "alice").await;
    let client = Client::connect(house.address).await;
    let (session, mut request) = (cookie(&alice), http::HeaderMap::new());
    for line in ["theme=dark", &session, "a=b"] {
        request.append("cookie", line.parse().unwrap());
    }
    let lines: Vec<_> = request
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(client.get("/", &lines).await.status(), 200);
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "cookie"), ["theme=dark; a=b"]);
}

#[tokio::test]
async fn n_129_two_names_of_one_host_are_one_too_many() {
    let (house, _application) = house().await;
    let client = Client::connect(house.address).await;
    let host = house.address.to_string();
    assert_eq!(client.get("/public/", &[("host", &host)]).await.status(), 200);
    assert_eq!(
        client
            .get("/public/", &[("host", "elsewhere.example.com")])
            .await
            .status(),
        400
    );
}

#[tokio::test]
async fn i_4_trailers_pass_both_ways_without_what_only_the_gateway_may_say() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    let token = bearer(&house, "alice");
    let trailers = [
        ("checksum", "123"),
        ("x-forwarded-user", "root"),
        ("authorization", "x"),
        ("cookie", "a=b"),
    ];
    let headers = [("authorization", &*token), ("te", "trailers")];
    let answer = client
        .send("POST", "/live/x?y", &headers, body("words", &trailers))
        .await;
    assert_eq!(answer.status(), 200);
    let (_, trailers) = whole(answer).await;
    assert_eq!(trailers, fields(&[("checksum", "abc")]));
    let seen = application.last();
    assert_eq!(seen["trailers"], serde_json::json!([["checksum", "123"]]));
    assert_eq!(seen["version"], "HTTP/2.0");
    assert_eq!(seen["body"], "words");
    assert_eq!(seen["target"], house.url("/live/x?y"));
    assert_eq!(told(&seen, "te"), ["trailers"]);
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert!(told(&seen, "host").is_empty() && told(&seen, "authorization").is_empty());
}

#[tokio::test]
async fn whoever_speaks_http_1_reaches_an_application_of_http_2() {
    let (house, application) = house().await;
    let ask = client()
        .post(house.url("/live/x"))
        .bearer_auth(house.jwt("alice"))
        .body("words");
    assert_eq!(ask.send().await.unwrap().status(), 200);
    let seen = application.last();
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "via"), ["1.1 vestibule"]);
    assert_eq!(seen["body"], "words");
}

#[tokio::test]
async fn both_sides_may_speak_in_turn() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    let (pen, flow) = flow();
    pen.send(data("one")).await.unwrap();
    let token = bearer(&house, "alice");
    let mut answer = client
        .send("POST", "/live/parrot", &[("authorization", &token)], flow)
        .await;
    assert_eq!(heard(&mut answer).await, Some(Ok("one".into())));
    pen.send(data("two")).await.unwrap();
    assert_eq!(heard(&mut answer).await, Some(Ok("two".into())));
    drop(pen);
    assert_eq!(heard(&mut answer).await, None);
    application.is_let_go().await;
}

#[tokio::test]
async fn signing_out_resets_the_streams_of_this_browser_and_nothing_else() {
    let (house, application) = house().await;
    let mut alice = logged_in(&house, "alice").await;
    let mallory = logged_in(&house, "mallory").await;
    let (hers, his) = (cookie(&alice), cookie(&mallory));
    // All on one connection.
    let client = Client::connect(house.address).await;
    let mut her_events = client.get("/live/events", &[("cookie", &hers)]).await;
    let mut his_events = client.get("/live/events", &[("cookie", &his)]).await;
    let mut anybodys = client.get("/public/live/events", &[("cookie", &hers)]).await;
    let (pen, words) = flow();
    pen.send(data("one")).await.unwrap();
    let mut her_words = client.send("POST", "/live/parrot", &[("cookie", &hers)], words).await;
    assert_eq!(heard(&mut her_words).await, Some(Ok("one".into())));
    for answer in [&mut her_events, &mut his_events, &mut anybodys] {
        assert_eq!(heard(answer).await, Some(Ok("hello".into())));
    }
    assert_eq!(application.open.load(Ordering::SeqCst), 4);
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    for answer in [&mut her_events, &mut her_words] {
        assert_eq!(heard(answer).await, Some(Err(Reason::CANCEL)));
    }
    for answer in [&mut his_events, &mut anybodys] {
        let more = timeout(
            Duration::from_millis(2_500),
            http_body_util::BodyExt::frame(answer.body_mut()),
        );
        assert!(more.await.is_err(), "it does not go on");
    }
    // The application has heard of it too, though the client would have said more.
    let two_left = async {
        while application.open.load(Ordering::SeqCst) != 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), two_left).await.unwrap();
    assert_eq!(client.get("/", &[("cookie", &his)]).await.status(), 200);
    drop((her_events, her_words, his_events, anybodys));
    application.is_let_go().await;
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_ends_with_its_session_all_the_same() {
    let (house, application) = house().await;
    let mut alice = logged_in(&house, "alice").await;
    let stream = TcpStream::connect(house.address).await.unwrap();
    // Four bytes are taken, and then no more.
    let handshake = h2::client::Builder::new()
        .initial_window_size(4)
        .handshake::<_, Bytes>(stream);
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(house.url("/live/parrot")).header("cookie", cookie(&alice));
    let mut client = client.ready().await.unwrap();
    let (answer, mut words) = client.send_request(request.body(()).unwrap(), false).unwrap();
    words
        .send_data(Bytes::from_static(b"more than four bytes"), false)
        .unwrap();
    let mut answer = timeout(PATIENCE, answer).await.unwrap().unwrap().into_body();
    assert_eq!(answer.data().await.unwrap().unwrap().len(), 4);
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    let end = timeout(Duration::from_secs(5), answer.data())
        .await
        .expect("it goes on");
    assert_eq!(end.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    application.is_let_go().await;
}

#[tokio::test]
async fn what_a_token_opened_ends_with_the_token_and_its_siblings_go_on() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    let token = bearer(&house, "alice");
    let mut first = client.get("/live/events", &[("authorization", &token)]).await;
    assert_eq!(heard(&mut first).await, Some(Ok("hello".into())));
    house.clock.advance(Duration::from_secs(4 * 60));
    let token = bearer(&house, "alice");
    let mut second = client.get("/live/events", &[("authorization", &token)]).await;
    assert_eq!(heard(&mut second).await, Some(Ok("hello".into())));
    house.clock.advance(Duration::from_secs(60 + 30));
    assert_eq!(heard(&mut first).await, Some(Err(Reason::CANCEL)));
    let more = timeout(
        Duration::from_millis(2_500),
        http_body_util::BodyExt::frame(second.body_mut()),
    );
    assert!(more.await.is_err(), "it does not go on");
    assert_eq!(application.open.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_that_its_client_lets_go_is_let_go_behind() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    let mut events = client.get("/public/live/events", &[]).await;
    assert_eq!(heard(&mut events).await, Some(Ok("hello".into())));
    let (pen, words) = flow();
    pen.send(data("one")).await.unwrap();
    let mut parrot = client.send("POST", "/public/live/parrot", &[], words).await;
    assert_eq!(heard(&mut parrot).await, Some(Ok("one".into())));
    drop((events, parrot, pen));
    application.is_let_go().await;
}

#[tokio::test]
async fn many_at_once_share_a_connection_to_the_application() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    let ask = |number: usize| {
        let client = client.clone();
        tokio::spawn(async move { client.get(&format!("/public/live/{number}"), &[]).await.status() })
    };
    for answer in (0..60).map(ask).collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!(application.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_application_that_takes_few_streams_gets_more_connections() {
    let application = Application::start_taking(2).await;
    let house = house_before(application.address).await;
    let client = Client::connect(house.address).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut events = client.get("/public/live/events", &[]).await;
        assert_eq!(heard(&mut events).await, Some(Ok("hello".into())));
        open.push(events);
    }
    assert_eq!(application.connections.load(Ordering::SeqCst), 3);
    open.remove(0);
    let one_less = async {
        while application.open.load(Ordering::SeqCst) > 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), one_less).await.unwrap();
    assert_eq!(client.get("/public/live/x", &[]).await.status(), 200);
    assert_eq!(application.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn n_148_a_body_of_another_length_than_it_says_goes_nowhere() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    for words in ["four", "much more than ten bytes"] {
        for path in ["/public/x", "/public/live/x"] {
            let answer = client
                .try_send("POST", path, &[("content-length", "10")], body(words, &[]))
                .await;
            assert!(answer.is_err_and(|error| !error.is_timeout()), "{path}");
        }
    }
    application.is_let_go().await;
    assert!(application.last().is_null());
    assert_eq!(house.upstream.requests(), 0);
    assert_eq!(client.get("/public/x", &[]).await.status(), 200);
}

#[tokio::test]
async fn a_websocket_cannot_be_opened_with_an_application_of_http_2() {
    let (house, application) = house().await;
    let request = format!(
        "GET /public/live/x HTTP/1.1\r\nHost: {}\r\n{HANDSHAKE}\r\n",
        house.address
    );
    // What the application says to a request that asks for nothing special.
    assert_eq!(status(house.address, request.as_bytes()).await, 200);
    let seen = application.last();
    assert!(told(&seen, "upgrade").is_empty() && told(&seen, "connection").is_empty());
}

/// An application that refuses the first stream of its life, and answers the others. Yields how many there were.
async fn reluctant(listener: TcpListener, reason: Reason) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if count.fetch_add(1, Ordering::SeqCst) == 0 {
                        respond.send_reset(reason);
                        continue;
                    }
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            });
        }
    });
    asked
}

#[tokio::test]
async fn f_07_what_the_application_refused_to_look_at_is_asked_once_more() {
    for (reason, method, words, status, times) in [
        (Reason::REFUSED_STREAM, "GET", "", 200, 2),
        (Reason::INTERNAL_ERROR, "GET", "", 502, 1),
        (Reason::REFUSED_STREAM, "POST", "words", 502, 1),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let house = house_before(listener.local_addr().unwrap()).await;
        let asked = reluctant(listener, reason).await;
        let client = Client::connect(house.address).await;
        let answer = client.send(method, "/public/live/x", &[], body(words, &[])).await;
        assert_eq!(
            (answer.status().as_u16(), asked.load(Ordering::SeqCst)),
            (status, times),
            "{method} {reason}"
        );
    }
}

/// Says farewell to the first stream of its life, and answers the others. The last one that it has seen to was this.
async fn leaving(listener: TcpListener, last: u8, reason: u8) {
    // RFC 9113 §6.5, §6.8: settings, and a GOAWAY.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, reason];
    let (mut first, _) = listener.accept().await.unwrap();
    first.write_all(&SETTINGS).await.unwrap();
    let mut read = Vec::new();
    // A frame of the type HEADERS, which is the end of the head and of the request.
    while !read.windows(2).any(|head| head == [1, 5]) {
        assert!(first.read_buf(&mut read).await.unwrap() > 0);
    }
    first.write_all(&goaway).await.unwrap();
    // Closed in order; whatever the other side still says is read.
    first.shutdown().await.unwrap();
    tokio::spawn(async move { while first.read_buf(&mut read).await.is_ok_and(|length| length > 0) {} });
    let (second, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(second).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        respond.send_response(http::Response::new(()), true).unwrap();
    }
}

#[tokio::test]
async fn f_07_what_a_farewell_left_out_is_asked_once_more() {
    // The first stream has the number 1.
    for (method, last, reason, status) in [
        ("GET", 0, 0, 200),
        ("DELETE", 0, 0, 200),
        ("DELETE", 0, 2, 200),
        ("GET", 1, 0, 502),
        ("DELETE", 1, 0, 502),
        ("DELETE", 1, 2, 502),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let house = house_before(listener.local_addr().unwrap()).await;
        tokio::spawn(leaving(listener, last, reason));
        let client = Client::connect(house.address).await;
        let answer = client.send(method, "/public/live/x", &[], body("", &[])).await;
        assert_eq!(answer.status(), status, "{method}, {last}, {reason}");
    }
}

#[tokio::test]
async fn an_application_that_is_not_there_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let house = house_before(address).await;
    assert_eq!(house.get("/public/live/x").await, 502);
}

#[tokio::test]
async fn n_137_an_answer_that_breaks_off_behind_does_not_look_complete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let house = house_before(listener.local_addr().unwrap()).await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut answer = respond.send_response(http::Response::new(()), false).unwrap();
            answer.send_data(Bytes::from_static(b"half"), false).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                answer.send_reset(Reason::REFUSED_STREAM);
            });
        }
    });
    let client = Client::connect(house.address).await;
    let mut answer = client.get("/public/live/x", &[]).await;
    assert_eq!(heard(&mut answer).await, Some(Ok("half".into())));
    // Not the reason from behind, after which the client would ask again by itself.
    assert_eq!(heard(&mut answer).await, Some(Err(Reason::INTERNAL_ERROR)));
}

#[tokio::test]
async fn a_request_that_breaks_off_is_not_completed_behind() {
    let (house, application) = house().await;
    let client = Client::connect(house.address).await;
    let (pen, words) = flow();
    pen.send(data("half")).await.unwrap();
    let asked = {
        let client = client.clone();
        tokio::spawn(async move { client.send("POST", "/public/live/x", &[], words).await })
    };
    let begun = async {
        while application.open.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), begun).await.unwrap();
    asked.abort();
    application.is_let_go().await;
    assert!(application.last().is_null());
    let _ = pen.send(Frame::data(Bytes::new())).await;
}
