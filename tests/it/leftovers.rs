//! What an application says beyond the end of its answer, and to whom.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::Method;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::support::{browser::client, house::House, wire::head};

const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// Answers `/raw/ill` with these words, and all else well, as often as somebody asks on one connection.
async fn answering(words: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, words.clone()));
        }
    });
    (address, connections)
}

async fn serve(mut stream: TcpStream, words: String) {
    while let Ok(1..) = stream.peek(&mut [0]).await {
        let answer = match head(&mut stream).await.contains(" /raw/ill ") {
            true => &*words,
            false => WELL,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn house_before(upstream: SocketAddr) -> House {
    House::open_with(|address| {
        format!(
            "\n[route.raw]\nurl = \"http://{address}/raw\"\nupstream = \"http://{upstream}\"\nauth = [\"public\"]\n"
        )
    })
    .await
}

#[tokio::test]
async fn what_lies_beyond_the_end_of_an_answer_is_the_answer_to_nobody() {
    for (method, answer) in [
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        // These have no body, whatever their head says.
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\nContent-Length: 55\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\n\r\n"),
    ] {
        let (upstream, connections) = answering(format!("{answer}{POISON}")).await;
        let house = house_before(upstream).await;
        // One connection to the gateway, and so one of its workers, whose connections the next request would get.
        let client = client();
        for round in 1..=5 {
            let ill = client
                .request(method.clone(), house.url("/raw/ill"))
                .send()
                .await
                .unwrap();
            assert!(!ill.text().await.unwrap().contains("poison"), "{answer}");
            for method in [Method::GET, Method::POST] {
                let well = client.request(method, house.url("/raw/well")).send().await.unwrap();
                assert_eq!(
                    (well.status().as_u16(), &*well.text().await.unwrap()),
                    (200, "well"),
                    "{answer}"
                );
            }
            assert!(connections.load(Ordering::SeqCst) > round, "{answer}: it was kept");
        }
    }
}
