//! A connection of HTTP/2 that all requests share, and that is not what it was: who gets another one, and how many there are.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use tokio::{
    io::{copy, sink},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};

use crate::support::{
    browser::client,
    h2c::{Client, heard},
    house::House,
    wire::PATIENCE,
};

/// A server that does this with each connection, of which it is told the number. Yields how many there were.
async fn serving<S>(serve: impl Fn(TcpStream, usize) -> S + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, count.fetch_add(1, Ordering::SeqCst) + 1));
        }
    });
    (address, connections)
}

/// Does this with each stream.
async fn each(stream: TcpStream, mut see_to: impl FnMut(&str, SendResponse<Bytes>)) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        see_to(request.uri().path(), respond);
    }
}

fn well(mut respond: SendResponse<Bytes>) {
    respond.send_response(http::Response::new(()), true).unwrap();
}

/// Takes what comes, and says nothing for ever.
async fn hang(mut stream: TcpStream) {
    let _ = copy(&mut stream, &mut sink()).await;
}

async fn house_before(server: SocketAddr, keys: &str) -> House {
    House::open_with_h2c(|address| {
        format!(
            "\n[route.app]\nurl = \"http://{address}/app\"\nupstream = \"h2c://{server}\"\nauth = [\"public\"]\n{keys}\n"
        )
    })
    .await
}

async fn ask(house: &House, client: &reqwest::Client) -> u16 {
    let answer = client.get(house.url("/app/x")).send().await.unwrap();
    answer.status().as_u16()
}

#[tokio::test]
async fn a_connection_that_answers_nothing_is_not_asked_again() {
    let (server, connections) = serving(async |stream, number| match number {
        1 => hang(stream).await,
        _ => each(stream, |_, respond| well(respond)).await,
    })
    .await;
    let house = house_before(server, "timeouts.response = \"300ms\"").await;
    // One connection to the gateway, and so one worker, which has connections of its own.
    let client = client();
    assert_eq!(ask(&house, &client).await, 504);
    for _ in 0..3 {
        assert_eq!(ask(&house, &client).await, 200);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nor_is_it_where_clients_lose_patience_before_the_gateway() {
    let (server, _) = serving(async |stream, number| match number {
        1 => hang(stream).await,
        _ => each(stream, |_, respond| well(respond)).await,
    })
    .await;
    let house = house_before(server, "timeouts.response = \"1h\"").await;
    let client = Client::connect(house.address).await;
    let answered = async {
        loop {
            let asked = timeout(Duration::from_millis(1_200), client.get("/app/x", &[]));
            if let Ok(answer) = asked.await {
                return answer.status();
            }
        }
    };
    assert_eq!(timeout(PATIENCE * 2, answered).await.expect("no answer"), 200);
}

#[tokio::test]
async fn what_is_under_way_on_a_connection_that_is_not_asked_again_goes_on() {
    let go_on = Arc::new(Notify::new());
    let more = go_on.clone();
    let (server, connections) = serving(move |stream, number| {
        let more = more.clone();
        async move {
            let mut kept = Vec::new();
            each(stream, move |path, mut respond| match (number, path) {
                (1, "/app/events") => {
                    let answer = respond.send_response(http::Response::new(()), false).unwrap();
                    tokio::spawn(events(answer, more.clone()));
                }
                (1, _) => kept.push(respond),
                (_, _) => well(respond),
            })
            .await;
        }
    })
    .await;
    let house = house_before(server, "timeouts.response = \"300ms\"").await;
    let client = Client::connect(house.address).await;
    let mut events = client.get("/app/events", &[]).await;
    assert_eq!(heard(&mut events).await, Some(Ok("one".into())));
    assert_eq!(client.get("/app/x", &[]).await.status(), 504);
    assert_eq!(client.get("/app/x", &[]).await.status(), 200);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    go_on.notify_one();
    assert_eq!(heard(&mut events).await, Some(Ok("two".into())));
    assert_eq!(heard(&mut events).await, None);
}

async fn events(mut answer: SendStream<Bytes>, more: Arc<Notify>) {
    answer.send_data(Bytes::from_static(b"one"), false).unwrap();
    more.notified().await;
    answer.send_data(Bytes::from_static(b"two"), true).unwrap();
}

#[tokio::test]
async fn a_slow_answer_does_not_cost_a_connection_that_serves_others() {
    let (server, connections) = serving(async |stream, _| {
        let mut kept = Vec::new();
        each(stream, |path, respond| match path {
            "/app/slow" => kept.push(respond),
            _ => well(respond),
        })
        .await;
    })
    .await;
    let house = house_before(server, "timeouts.response = \"2s\"").await;
    let client = Client::connect(house.address).await;
    assert_eq!(client.get("/app/x", &[]).await.status(), 200);
    let slow = client.get("/app/slow", &[]);
    tokio::pin!(slow);
    let slow = loop {
        tokio::select! {
            slow = &mut slow => break slow,
            other = client.get("/app/x", &[]) => assert_eq!(other.status(), 200),
        }
    };
    assert_eq!(slow.status(), 504);
    assert_eq!(client.get("/app/x", &[]).await.status(), 200);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_health_check_that_hangs_does_not_hang_for_ever() {
    let (server, connections) = serving(async |stream, number| match number {
        1 => hang(stream).await,
        _ => each(stream, |_, respond| well(respond)).await,
    })
    .await;
    let check = "health = { path = \"/\", interval = \"50ms\", timeout = \"200ms\", healthy = 1, unhealthy = 1 }";
    let house = house_before(server, check).await;
    let line = format!("vestibule_upstream_healthy{{route=\"app\",upstream=\"h2c://{server}\"}} 1\n");
    let so = async {
        // It is well until the first check has found something else.
        while connections.load(Ordering::SeqCst) < 2 || !house.admin("/metrics").await.1.contains(&line) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE * 2, so).await.expect("it stays ill");
}

#[tokio::test]
async fn a_server_that_refuses_every_stream_is_not_buried_under_connections() {
    let (server, connections) = serving(async |stream, _| {
        each(stream, |_, mut respond| respond.send_reset(Reason::REFUSED_STREAM)).await;
    })
    .await;
    let house = house_before(server, "").await;
    let client = Client::connect(house.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/app/x", &[]).await.status(), 502);
    }
    let ask = |_| {
        let client = client.clone();
        tokio::spawn(async move { client.get("/app/x", &[]).await.status() })
    };
    for answer in (0..60).map(ask).collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), 502);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn those_whose_connection_breaks_off_share_the_next_one() {
    // The first one serves once, and breaks off when many wait for answers.
    const MANY: usize = 30;
    let (server, connections) = serving(async |stream, number| match number {
        1 => {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, first) = connection.accept().await.unwrap().unwrap();
            well(first);
            let mut waiting = Vec::new();
            while waiting.len() < MANY {
                waiting.push(connection.accept().await.unwrap().unwrap());
            }
        }
        _ => each(stream, |_, respond| well(respond)).await,
    })
    .await;
    let house = house_before(server, "").await;
    let client = Client::connect(house.address).await;
    assert_eq!(client.get("/app/x", &[]).await.status(), 200);
    let ask = |_| {
        let client = client.clone();
        tokio::spawn(async move { client.get("/app/x", &[]).await.status() })
    };
    for answer in (0..MANY).map(ask).collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
