//! Headers that the operator edits.

use std::net::SocketAddr;

use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::support::{browser::client, house::House, upstream::told, wire::head};

/// A house with one more route, at `/app`, with these keys.
async fn house_with(upstream: Option<SocketAddr>, keys: &str) -> House {
    let mut house = House::open().await;
    let upstream = upstream.unwrap_or(house.upstream.address);
    let route = format!(
        "\n[route.app]\nurl = \"http://{}/app\"\nupstream = \"http://{upstream}\"\n{keys}\n",
        house.address
    );
    house.file.push_str(&route);
    house.reload(&house.file).unwrap();
    house
}

#[tokio::test]
async fn the_application_gets_what_the_operator_sets_adds_and_removes() {
    let keys = "auth = [\"public\"]\nrequest_headers = { set = { X-Api-Key = \"k1\" }, add = { X-Tag = \"gateway\" }, \
                remove = [\"Referer\"] }";
    let house = house_with(None, keys).await;
    let request = client().get(house.url("/app")).header("x-api-key", "forged");
    let request = request.header("X_Api-Key", "forged").header("X_API_KEY", "forged");
    let request = request.header("x-tag", "mine").header("referer", "https://secret/");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "x-api-key"), ["k1"]);
    assert!(!seen.to_string().contains("forged"), "{seen}");
    assert_eq!(told(&seen, "x-tag"), ["mine", "gateway"]);
    assert!(told(&seen, "referer").is_empty());
    house.get("/public/").await;
    assert!(told(&house.upstream.last(), "x-api-key").is_empty());
}

#[tokio::test]
async fn the_browser_is_told_to_be_careful_where_the_application_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            let answer = "HTTP/1.1 200 OK\r\nServer: old/1.0\r\nReferrer-Policy: no-referrer\r\nX-A: 1\r\nX-A: 2\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let keys = "auth = [\"public\"]\nsecurity_headers = true\n\
                response_headers = { set = { X-A = \"3\" }, remove = [\"Server\"], add = { Vary = \"Accept\" } }";
    let house = house_with(Some(upstream), keys).await;
    let response = client().get(house.url("/app")).send().await.unwrap();
    let said = |name: &str| {
        let values = response.headers().get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(said("x-a"), ["3"]);
    assert!(said("server").is_empty());
    assert_eq!(said("vary"), ["Accept"]);
    assert_eq!(said("referrer-policy"), ["no-referrer"]);
    assert_eq!(said("x-content-type-options"), ["nosniff"]);
    assert_eq!(said("x-frame-options"), ["SAMEORIGIN"]);
    assert!(said("strict-transport-security").is_empty(), "there is no https here");
}
