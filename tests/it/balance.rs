//! An application that has several servers: who is asked, who is left out, and what is never asked twice.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::support::{
    browser::client,
    h2c::Application,
    house::House,
    upstream::{EchoUpstream, told},
    wire::{PATIENCE, answering, head},
};

/// A house with a public route at `/app`, to these, with these keys besides.
async fn house_before(upstreams: &[SocketAddr], keys: &str) -> House {
    let mut house = House::open().await;
    house.file.push_str(&route(&house, upstreams, keys));
    house.reload(&house.file).unwrap();
    house
}

fn route(house: &House, upstreams: &[SocketAddr], keys: &str) -> String {
    let upstreams: Vec<_> = upstreams
        .iter()
        .map(|address| format!("\"http://{address}\""))
        .collect();
    format!(
        "\n[route.app]\nurl = \"http://{}/app\"\nupstream = [{}]\nauth = [\"public\"]\n{keys}\n",
        house.address,
        upstreams.join(", ")
    )
}

/// Where nobody listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn post(house: &House) -> u16 {
    let request = client().post(house.url("/app")).body("once").send();
    request.await.unwrap().status().as_u16()
}

/// A number of `/metrics`.
async fn number(house: &House, name: &str, upstream: Option<SocketAddr>) -> Option<u64> {
    let upstream = upstream.map_or(String::new(), |address| format!(",upstream=\"http://{address}\""));
    let begin = format!("vestibule_upstream_{name}{{route=\"app\"{upstream}}} ");
    let (_, text) = house.admin("/metrics").await;
    text.lines()
        .find_map(|line| line.strip_prefix(&begin))
        .map(|number| number.parse().unwrap())
}

/// Waits until the gauge says so.
async fn until_healthy_is(house: &House, upstream: SocketAddr, expected: u64) {
    let waited = async {
        while number(house, "healthy", Some(upstream)).await != Some(expected) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE * 2, waited).await.expect("its health does not change");
}

#[tokio::test]
async fn each_has_its_turn() {
    let [one, other] = [EchoUpstream::start().await, EchoUpstream::start().await];
    let house = house_before(&[one.address, other.address], "").await;
    for _ in 0..6 {
        assert_eq!(house.get("/app").await, 200);
    }
    assert_eq!((one.requests(), other.requests()), (3, 3));
    assert_eq!(number(&house, "healthy", Some(one.address)).await, Some(1));
}

#[tokio::test]
async fn who_is_busy_is_spared_until_the_answer_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = EchoUpstream::start().await;
    let upstreams = [listener.local_addr().unwrap(), other.address];
    let house = house_before(&upstreams, "balance = \"least_requests\"").await;
    let asked = tokio::spawn(client().get(house.url("/app")).send());
    let (mut busy, _) = listener.accept().await.unwrap();
    head(&mut busy).await;
    busy.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        .await
        .unwrap();
    let response = asked.await.unwrap().unwrap();
    for _ in 0..4 {
        assert_eq!(house.get("/app").await, 200);
    }
    assert_eq!(other.requests(), 4);
    busy.write_all(b"lf").await.unwrap();
    response.bytes().await.unwrap();
    // Both are idle now, and each has its turn again; over which connection is the business of the gateway's threads.
    drop(busy);
    tokio::spawn(async move {
        while let Ok((mut idle, _)) = listener.accept().await {
            head(&mut idle).await;
            answer_well(&mut idle).await.unwrap();
        }
    });
    let statuses = [house.get("/app").await, house.get("/app").await];
    assert!(statuses.contains(&204) && statuses.contains(&200), "{statuses:?}");
}

#[tokio::test]
async fn f_07_a_dead_one_costs_nobody_a_request_and_is_left_out() {
    let (dead, alive) = (nowhere().await, EchoUpstream::start().await);
    let keys = "ejection = { failures = 2, time = \"10m\" }";
    let mut house = house_before(&[dead, alive.address], keys).await;
    for _ in 0..6 {
        assert_eq!(post(&house).await, 200);
    }
    assert_eq!(alive.requests(), 6);
    assert_eq!(number(&house, "retries_total", None).await, Some(2));
    assert_eq!(number(&house, "ejections_total", Some(dead)).await, Some(1));
    assert_eq!(number(&house, "healthy", Some(dead)).await, Some(0));
    assert_eq!(number(&house, "healthy", Some(alive.address)).await, Some(1));

    // That survives a reload, for as long as it stays in the file.
    house.reload(&house.file).unwrap();
    for _ in 0..4 {
        assert_eq!(post(&house).await, 200);
    }
    assert_eq!(number(&house, "retries_total", None).await, Some(2));
    assert_eq!(number(&house, "healthy", Some(dead)).await, Some(0));
    let third = EchoUpstream::start().await;
    let old = route(&house, &[dead, alive.address], keys);
    house.file = house
        .file
        .replace(&old, &route(&house, &[third.address, alive.address], keys));
    house.reload(&house.file).unwrap();
    assert_eq!(number(&house, "healthy", Some(dead)).await, None);
    assert_eq!(number(&house, "healthy", Some(third.address)).await, Some(1));
}

#[tokio::test]
async fn who_was_left_out_is_asked_again_later_and_takes_part() {
    let (mut one, other) = (EchoUpstream::start().await, EchoUpstream::start().await);
    let keys = "ejection = { failures = 1, time = \"100ms\" }";
    let house = house_before(&[one.address, other.address], keys).await;
    one.stop().await;
    for _ in 0..2 {
        assert_eq!(house.get("/app").await, 200);
    }
    assert_eq!(number(&house, "healthy", Some(one.address)).await, Some(0));
    one = EchoUpstream::start_at(one.address).await;
    let asked = async {
        while one.requests() == 0 {
            assert_eq!(house.get("/app").await, 200);
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE * 2, asked).await.expect("it is left out for ever");
    assert_eq!(number(&house, "healthy", Some(one.address)).await, Some(1));
}

/// Takes every request, and answers none.
async fn hanging() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn who_hangs_is_left_out_also_where_the_whole_exchange_is_the_shorter_limit() {
    let (hangs, other) = (hanging().await, EchoUpstream::start().await);
    let keys = "timeouts.stream = \"200ms\"\nejection = { failures = 2, time = \"10m\" }";
    let house = house_before(&[hangs, other.address], keys).await;
    for body in [None, Some("whole")] {
        let ask = client().post(house.url("/app")).body(body.unwrap_or_default());
        let (first, second) = (ask.try_clone().unwrap().send(), ask.send());
        let statuses = [first.await.unwrap().status(), second.await.unwrap().status()];
        assert!(statuses.iter().any(|status| *status == 504), "{statuses:?}");
    }
    assert_eq!(number(&house, "healthy", Some(hangs)).await, Some(0));
    assert_eq!(number(&house, "healthy", Some(other.address)).await, Some(1));
}

#[tokio::test]
async fn nobody_is_left_out_because_a_client_does_not_get_done() {
    let [one, other] = [EchoUpstream::start().await, EchoUpstream::start().await];
    let keys = "timeouts.stream = \"200ms\"\nejection = { failures = 1, time = \"10m\" }";
    let house = house_before(&[one.address, other.address], keys).await;
    for _ in 0..2 {
        let mut client = TcpStream::connect(house.address).await.unwrap();
        let half = format!(
            "POST /app HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\nhalf",
            house.address
        );
        client.write_all(half.as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE * 2, head(&mut client))
            .await
            .expect("it is waited for");
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    }
    for address in [one.address, other.address] {
        assert_eq!(number(&house, "healthy", Some(address)).await, Some(1));
    }
}

#[tokio::test]
async fn where_all_are_left_out_all_are_tried() {
    let (mut one, mut other) = (EchoUpstream::start().await, EchoUpstream::start().await);
    let keys = "ejection = { failures = 1, time = \"10m\" }";
    let house = house_before(&[one.address, other.address], keys).await;
    one.stop().await;
    other.stop().await;
    for _ in 0..3 {
        assert_eq!(house.get("/app").await, 502);
    }
    for address in [one.address, other.address] {
        assert_eq!(number(&house, "healthy", Some(address)).await, Some(0));
    }
    other = EchoUpstream::start_at(other.address).await;
    for _ in 0..3 {
        assert_eq!(house.get("/app").await, 200);
    }
    assert_eq!(other.requests(), 3);
}

#[tokio::test]
async fn f_07_what_may_have_been_seen_to_is_asked_again_only_where_it_does_no_harm() {
    // It reads the request, and closes without a word.
    let (breaks_off, other) = (answering("").await, EchoUpstream::start().await);
    let house = house_before(&[breaks_off, other.address], "ejection.failures = 100").await;
    for sent in 1..=3 {
        let statuses = [post(&house).await, post(&house).await];
        assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
        assert_eq!(other.requests(), sent, "a POST was sent twice");
    }
    assert_eq!(number(&house, "retries_total", None).await, Some(0));
    for _ in 0..4 {
        assert_eq!(house.get("/app").await, 200);
    }
    assert_eq!(other.requests(), 3 + 4);
    assert_eq!(number(&house, "retries_total", None).await, Some(2));
    // A POST that says nothing is one all the same.
    let ask = || client().post(house.url("/app")).send();
    let statuses = [ask().await.unwrap().status(), ask().await.unwrap().status()];
    assert!(statuses.iter().any(|status| *status == 502), "{statuses:?}");
    // A GET with a body might be anything.
    let ask = || client().get(house.url("/app")).body("x").send();
    let statuses = [ask().await.unwrap().status(), ask().await.unwrap().status()];
    assert!(statuses.iter().any(|status| *status == 502), "{statuses:?}");
}

#[tokio::test]
async fn who_says_that_it_is_ill_is_asked_for_nothing_else() {
    let (ill, well) = (
        answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await,
        EchoUpstream::start().await,
    );
    let keys = "health = { path = \"/healthz?deep=1\", interval = \"50ms\", unhealthy = 2 }";
    let house = house_before(&[ill, well.address], keys).await;
    until_healthy_is(&house, ill, 0).await;
    for _ in 0..4 {
        assert_eq!(house.get("/app").await, 200);
    }
    assert_eq!(number(&house, "healthy", Some(well.address)).await, Some(1));

    // Where nobody asks any more, nobody is ill.
    let without = house.file.replace(keys, "");
    house.reload(&without).unwrap();
    let statuses = [house.get("/app").await, house.get("/app").await];
    assert!(statuses.contains(&503), "{statuses:?}");
    let means_well = house
        .file
        .replace(keys, &format!("{} ", keys.replace("2 }", "2, statuses = [503] }")));
    house.reload(&means_well).unwrap();
    until_healthy_is(&house, well.address, 0).await;
    assert_eq!(number(&house, "healthy", Some(ill)).await, Some(1));
}

/// A server that is always well, and hands on the first line of each request.
async fn asked_for() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel(1_000);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head(&mut stream).await;
            let _ = sender.send(head).await;
            let _ = answer_well(&mut stream).await;
        }
    });
    (address, receiver)
}

async fn answer_well(stream: &mut TcpStream) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        .await
}

#[tokio::test]
async fn health_checks_end_with_their_configuration() {
    let (address, mut heads) = asked_for().await;
    let keys = |path: &str| format!("health = {{ path = \"{path}\", interval = \"50ms\" }}");
    let house = house_before(&[address], &keys("/old")).await;
    let mut next = async || timeout(PATIENCE, heads.recv()).await.expect("nobody asks").unwrap();
    for _ in 0..3 {
        let head = next().await;
        assert!(head.starts_with("GET /old HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}\r\n", house.address)), "{head}");
        assert!(head.contains("user-agent: vestibule-health\r\n"), "{head}");
    }
    house.reload(&house.file.replace("/old", "/new")).unwrap();
    while !next().await.starts_with("GET /new ") {}
    // One question may have been on its way.
    next().await;
    for _ in 0..6 {
        let head = next().await;
        assert!(head.starts_with("GET /new "), "{head}");
    }
}

#[tokio::test]
async fn a_second_attempt_is_addressed_to_whom_it_goes_to() {
    let (dead, alive) = (nowhere().await, EchoUpstream::start().await);
    let house = house_before(&[dead, alive.address], "preserve_host = false").await;
    for _ in 0..2 {
        assert_eq!(post(&house).await, 200);
        let seen = alive.last();
        assert_eq!(told(&seen, "host"), [alive.address.to_string()]);
        assert_eq!(seen["body"], "once");
    }
}

#[tokio::test]
async fn f_07_a_call_over_http_2_goes_past_a_dead_one_too() {
    let (dead, alive) = (nowhere().await, Application::start().await);
    for keys in ["", "preserve_host = false"] {
        let mut house = House::open().await;
        let route = route(&house, &[dead, alive.address], keys).replace("\"http://127.0.0.1:", "\"h2c://127.0.0.1:");
        house.file.push_str(&route.replace("url = \"h2c", "url = \"http"));
        house.reload(&house.file).unwrap();
        for _ in 0..2 {
            assert_eq!(post(&house).await, 200);
            let authority = match keys {
                "" => house.address,
                _ => alive.address,
            };
            assert_eq!(alive.last()["target"], format!("http://{authority}/app"));
        }
    }
}
