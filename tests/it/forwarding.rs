//! What passes through, passes whole, at once, and no further than it should.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    browser::client,
    house::House,
    upstream::told,
    wire::{PATIENCE, answering, exchange, head},
};

/// A house with one more public route, at `/raw`, to an upstream of the test's own.
async fn house_before(upstream: SocketAddr) -> House {
    House::open_with(|address| {
        format!(
            r#"
[route.raw]
url = "http://{address}/raw"
upstream = "http://{upstream}"
auth = ["public"]
"#
        )
    })
    .await
}

fn get(house: &House, headers: &str) -> Vec<u8> {
    format!("GET /raw HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", house.address).into_bytes()
}

#[tokio::test]
async fn n_138_what_concerned_the_connection_to_the_upstream_stays_there() {
    let upstream = answering(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
         X-Stays: 1\r\nX-Stays: 2\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    let house = house_before(upstream).await;
    let answer = exchange(house.address, &get(&house, "")).await.to_ascii_lowercase();
    assert!(
        answer.ends_with("hi") && answer.contains("x-stays: 1\r\nx-stays: 2\r\n"),
        "{answer}"
    );
    for gone in ["x-hop", "keep-alive", "proxy-connection", "connection:"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
}

#[tokio::test]
async fn n_122_the_upstream_cannot_set_the_gateways_cookies() {
    let upstream = answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: vestibule=evil; Path=/\r\nSet-Cookie: app=1\r\nSet-Cookie: __Host-vestibule-1=evil\r\n\
         Set-Cookie: =vestibule=evil\r\nSet-Cookie: \t= vestibule-1=evil\r\nSet-Cookie: app=2\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let house = house_before(upstream).await;
    let answer = exchange(house.address, &get(&house, "")).await;
    assert!(
        !answer.contains("evil") && answer.contains("app=1") && answer.contains("app=2"),
        "{answer}"
    );
}

#[tokio::test]
async fn n_142_a_protocol_that_nobody_asked_for_is_not_switched_to() {
    let upstream =
        answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let house = house_before(upstream).await;
    let answer = exchange(house.address, &get(&house, "")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn n_143_answers_without_a_body_have_none() {
    let upstream = answering("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n").await;
    let house = house_before(upstream).await;
    let request = get(&house, "If-None-Match: \"a\"\r\nConnection: close\r\n");
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );

    let upstream = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let house = house_before(upstream).await;
    let response = client().head(house.url("/raw")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-length"]),
        (200, &"5".parse().unwrap())
    );
}

#[tokio::test]
async fn n_131_chunks_tell_where_an_answer_ends_whatever_its_length_says() {
    let upstream =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
    let house = house_before(upstream).await;
    let response = client().get(house.url("/raw")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn n_137_an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    ] {
        let house = house_before(answering(answer).await).await;
        let response = client().get(house.url("/raw")).send().await.unwrap();
        assert!(response.text().await.is_err(), "{answer:?} looked complete");
    }
}

#[tokio::test]
async fn garbage_from_the_upstream_is_a_502() {
    for answer in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1 banana\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
    ] {
        let house = house_before(answering(answer).await).await;
        let status = client().get(house.url("/raw")).send().await.unwrap().status();
        assert_eq!(status, 502, "{answer:?}");
    }
}

/// Tells the test what arrives, piece by piece, and lets it answer.
async fn upstream_in_hand() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(stream).await.is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[tokio::test]
async fn every_piece_of_an_answer_is_passed_on_at_once() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = house_before(address).await;
    let mut browser = TcpStream::connect(house.address).await.unwrap();
    browser
        .write_all(&get(&house, "Accept: text/event-stream\r\n"))
        .await
        .unwrap();
    let mut upstream = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    head(&mut upstream).await;
    let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    upstream.write_all(start.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, head(&mut browser)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        upstream
            .write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .await
            .unwrap();
        let expected = format!("{:x}\r\n{event}\r\n", event.len());
        let mut heard = vec![0; expected.len()];
        timeout(PATIENCE, browser.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(String::from_utf8(heard).unwrap().to_lowercase(), expected);
    }
}

#[tokio::test]
async fn every_piece_of_an_upload_is_passed_on_at_once_and_n_136_a_broken_one_is_not_completed() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = house_before(address).await;
    let mut browser = TcpStream::connect(house.address).await.unwrap();
    let start = format!(
        "POST /raw HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\nfirst",
        house.address
    );
    browser.write_all(start.as_bytes()).await.unwrap();
    let mut upstream = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    let seen = timeout(PATIENCE, head(&mut upstream))
        .await
        .unwrap()
        .to_ascii_lowercase();
    assert_eq!(seen.matches("content-length: 1000").count(), 1, "{seen}");
    assert!(!seen.contains("transfer-encoding"), "{seen}");
    let mut heard = [0; 5];
    timeout(PATIENCE, upstream.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&heard, b"first");
    drop(browser);
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, upstream.read_to_end(&mut rest))
        .await
        .expect("the upstream was left waiting");
    assert!(end.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn f_26_a_slow_reader_slows_the_upstream_down() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = house_before(address).await;
    let mut browser = TcpStream::connect(house.address).await.unwrap();
    browser.write_all(&get(&house, "")).await.unwrap();
    let mut upstream = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    head(&mut upstream).await;
    let length = 64 * 1024 * 1024;
    let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    upstream.write_all(start.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let mut written = 0_usize;
    // The kernel's buffers on both sides and the gateway's own take some; then nothing moves any more.
    while let Ok(result) = timeout(Duration::from_millis(500), upstream.write(&piece)).await {
        written += result.unwrap();
        assert!(written < 32 * 1024 * 1024, "somebody keeps what nobody reads");
    }
    head(&mut browser).await;
    let read = tokio::spawn(async move { tokio::io::copy(&mut browser.take(length), &mut tokio::io::sink()).await });
    while written < usize::try_from(length).unwrap() {
        let left = (usize::try_from(length).unwrap() - written).min(piece.len());
        written += timeout(PATIENCE, upstream.write(&piece[..left]))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(read.await.unwrap().unwrap(), length);
}

#[tokio::test]
async fn n_141_a_client_that_asks_first_is_refused_before_it_sends() {
    let house = House::open().await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!(
        "POST /api/things HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n",
        house.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, head(&mut stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // What it sends all the same is nobody's request.
    let _ = stream
        .write_all(format!("GET /public/ HTTP/1.1\r\nHost: {}\r\n\r\n", house.address).as_bytes())
        .await;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("the connection stays open");
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1 200"));
    assert_eq!(house.upstream.requests(), 0);

    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!(
        "POST /public/ HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        house.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(
        timeout(PATIENCE, head(&mut stream))
            .await
            .unwrap()
            .starts_with("HTTP/1.1 100 ")
    );
    stream.write_all(b"hi").await.unwrap();
    assert!(
        timeout(PATIENCE, head(&mut stream))
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(house.upstream.last()["body"], "hi");
    assert!(told(&house.upstream.last(), "expect").is_empty());
}

#[tokio::test]
async fn n_139_a_route_that_leads_back_is_noticed() {
    let house = House::open_with(|address| {
        format!(
            "[route.mirror]\nurl = \"http://{address}/mirror\"\nupstream = \"http://{address}\"\nauth = [\"public\"]\n"
        )
    })
    .await;
    let response = client().get(house.url("/mirror")).send().await.unwrap();
    assert_eq!(response.status(), 508);
}

#[tokio::test]
async fn n_140_max_forwards_is_counted_down() {
    let house = House::open().await;
    let ask = |left: &'static str| {
        let request = client()
            .request(reqwest::Method::OPTIONS, house.url("/public/"))
            .header("max-forwards", left);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(ask("0").await, 200);
    assert_eq!(house.upstream.requests(), 0);
    assert_eq!(ask("5").await, 200);
    assert_eq!(told(&house.upstream.last(), "max-forwards"), ["4"]);
}

#[tokio::test]
async fn n_146_the_application_is_told_the_way_once_and_properly() {
    let house = House::open().await;
    house.get("/public/").await;
    let seen = house.upstream.last();
    let host = house.address.to_string();
    assert_eq!(told(&seen, "host"), [host.as_str()]);
    assert_eq!(
        told(&seen, "forwarded"),
        [format!("for=127.0.0.1;host=\"{host}\";proto=http")]
    );
    assert_eq!(told(&seen, "x-forwarded-port"), [house.address.port().to_string()]);
    assert_eq!(told(&seen, "via"), ["1.1 vestibule"]);
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused() {
    let house = House::open_with(|_| "[server.limits]\nbody_bytes = \"1KiB\"\n".to_owned()).await;
    let announced = client()
        .post(house.url("/public/"))
        .body(vec![b'x'; 2_000])
        .send()
        .await
        .unwrap();
    assert_eq!(announced.status(), 413);
    assert_eq!(house.upstream.requests(), 0);
    let fits = client()
        .post(house.url("/public/"))
        .body(vec![b'x'; 1_024])
        .send()
        .await
        .unwrap();
    assert_eq!(fits.status(), 200);
    let chunked = format!(
        "POST /public/ HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n0\r\n\r\n",
        house.address,
        "x".repeat(2_048)
    );
    let answer = exchange(house.address, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(house.upstream.requests(), 1);
}

#[tokio::test]
async fn a_slow_upstream_is_a_504_and_an_idle_answer_is_cut_off() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = House::open_with(|gateway| {
        format!(
            r#"
[route.raw]
url = "http://{gateway}/raw"
upstream = "http://{address}"
auth = ["public"]
timeouts.response = "200ms"
timeouts.idle = "200ms"
"#
        )
    })
    .await;
    let asked = tokio::spawn(client().get(house.url("/raw")).send());
    let silent = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(asked.await.unwrap().unwrap().status(), 504);
    drop(silent);
    let asked = tokio::spawn(client().get(house.url("/raw")).send());
    let mut stalls = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    head(&mut stalls).await;
    stalls
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await
        .unwrap();
    let response = asked.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        timeout(PATIENCE, response.text()).await.unwrap().is_err(),
        "it looked complete"
    );
}
