//! An application below a path that it knows nothing of.

use std::net::SocketAddr;

use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::support::{
    browser::client,
    house::House,
    upstream::told,
    wire::{exchange, head},
};

/// A house with a public route at `/admin` whose application does not see that.
async fn house_before(upstream: Option<SocketAddr>, keys: &str) -> House {
    let mut house = House::open().await;
    let upstream = upstream.unwrap_or(house.upstream.address);
    let route = format!(
        "\n[route.shop]\nurl = \"http://{}/shop\"\nupstream = \"http://{upstream}\"\nauth = [\"public\"]\n{keys}\n",
        house.address
    );
    house.file.push_str(&route);
    house.reload(&house.file).unwrap();
    house
}

/// An application that answers with these headers, in which `HERE` is its own address.
async fn answering(headers: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 302 Found\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")
        .replace("HERE", &address.to_string());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn the_application_sees_the_path_without_the_prefix_and_is_told_it() {
    let house = house_before(None, "strip_prefix = true").await;
    for (outside, inside) in [
        ("/shop", "/"),
        ("/shop/", "/"),
        ("/shop/a/b?c=/shop", "/a/b?c=/shop"),
        ("/%73hop/caf%c3%a9", "/caf%C3%A9"),
        ("/shop/shop/x", "/shop/x"),
    ] {
        let request = format!(
            "GET {outside} HTTP/1.1\r\nHost: {}\r\nX-Forwarded-Prefix: /evil\r\n\r\n",
            house.address
        );
        let answer = exchange(house.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = house.upstream.last();
        assert_eq!(seen["target"], inside, "{outside}");
        assert_eq!(told(&seen, "x-forwarded-prefix"), ["/shop"]);
    }
    // What only begins with the same letters is another route's.
    assert_eq!(house.get("/shopping").await, 401);
    for ambiguous in ["/shop/../x", "/shop//x", "/shop/%2fx", "/shop/%2e%2e/x"] {
        let request = format!("GET {ambiguous} HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
        let answer = exchange(house.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{ambiguous}: {answer}");
    }
    house.get("/public/x").await;
    assert!(told(&house.upstream.last(), "x-forwarded-prefix").is_empty());
}

/// All values of a header in the answer to `/shop/x`.
async fn said(house: &House, name: &str) -> Vec<String> {
    let response = client().get(house.url("/shop/x")).send().await.unwrap();
    let values = response.headers().get_all(name).iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_it_says_of_its_places_is_said_as_they_are_called_outside() {
    let upstream = answering(
        "Location: /login?next=/\r\nContent-Location: http://HERE/page\r\nSet-Cookie: a=1; Path=/\r\n\
         Set-Cookie: b=2; Path=/shop/b; HttpOnly\r\nSet-Cookie: __Host-c=3; Path=/; Secure\r\nSet-Cookie: vestibule=evil; Path=/\r\n",
    )
    .await;
    let house = house_before(Some(upstream), "strip_prefix = true").await;
    assert_eq!(said(&house, "location").await, ["/shop/login?next=/"]);
    assert_eq!(said(&house, "content-location").await, [house.url("/shop/page")]);
    let cookies = [
        "a=1; Path=/shop",
        "b=2; Path=/shop/b; HttpOnly",
        "__Host-c=3; Path=/; Secure",
    ];
    assert_eq!(said(&house, "set-cookie").await, cookies);

    let elsewhere = answering("Location: https://id.example.com/authorize\r\n").await;
    let house = house_before(Some(elsewhere), "strip_prefix = true").await;
    assert_eq!(said(&house, "location").await, ["https://id.example.com/authorize"]);
}

#[tokio::test]
async fn a_redirect_to_its_own_address_leads_back_to_the_gateway() {
    let upstream = answering("Location: http://HERE/shop/login\r\n").await;
    let house = house_before(Some(upstream), "preserve_host = false").await;
    assert_eq!(said(&house, "location").await, [house.url("/shop/login")]);
    // Where it is asked by its name outside, it knows what it says.
    let house = house_before(Some(upstream), "").await;
    assert_eq!(
        said(&house, "location").await,
        [format!("http://{upstream}/shop/login")]
    );
}
