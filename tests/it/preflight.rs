//! What a browser asks before a page of another site may act, and which routes let that pass without a login.

use reqwest::{Method, RequestBuilder};
use url::Url;

use crate::support::{
    browser::{Browser, client},
    house::House,
    upstream::told,
};

/// A house with one more route, at `/app`, with these keys.
async fn house_with(keys: &str) -> House {
    let mut house = House::open().await;
    let route = format!(
        "\n[route.app]\nurl = \"http://{}/app\"\nupstream = \"http://{}\"\n{keys}\n",
        house.address, house.upstream.address
    );
    house.file.push_str(&route);
    house.reload(&house.file).unwrap();
    house
}

/// What a browser asks before a page of another site may post.
fn preflight(request: RequestBuilder) -> RequestBuilder {
    request
        .header("origin", "https://elsewhere.example.com")
        .header("access-control-request-method", "POST")
        .header("sec-fetch-mode", "cors")
}

#[tokio::test]
async fn a_preflight_passes_where_the_route_says_so_and_says_nothing_of_anybody() {
    let house = house_with("auth = [\"session\"]\npreflight = \"pass\"").await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/app")).await;
    alice.log_in(&form, "alice", "alice").await;
    let url = Url::parse(&house.url("/app")).unwrap();
    let request = alice.client().request(Method::OPTIONS, url.clone());
    let request = preflight(request)
        .header("cookie", "own=1")
        .header("authorization", "Bearer x")
        .header("X_HTTP_Method-Override", "DELETE");
    assert_eq!(alice.send(request, url.clone()).await.status, 200);
    let seen = house.upstream.last();
    assert_eq!(seen["method"], "OPTIONS");
    assert_eq!(told(&seen, "origin"), ["https://elsewhere.example.com"]);
    for name in ["cookie", "authorization", "x-forwarded-user", "x-forwarded-email"] {
        assert!(told(&seen, name).is_empty(), "{name}: {seen}");
    }
    assert!(!seen.to_string().contains("DELETE"), "{seen}");

    // Nothing but a preflight passes.
    let before = house.upstream.requests();
    let options = || client().request(Method::OPTIONS, url.clone());
    let halves = [
        options(),
        options().header("origin", "https://elsewhere.example.com"),
        options().header("access-control-request-method", "POST"),
        preflight(options()).body("a body"),
        preflight(client().get(url.clone())),
        preflight(client().post(url.clone())),
    ];
    for half in halves {
        assert_eq!(half.send().await.unwrap().status(), 401);
    }
    assert_eq!(house.upstream.requests(), before);
}

#[tokio::test]
async fn elsewhere_a_preflight_needs_a_login_as_everything_does() {
    let house = house_with("auth = [\"session\"]").await;
    for path in ["/app", "/", "/api/"] {
        let request = preflight(client().request(Method::OPTIONS, house.url(path)));
        assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn a_preflight_takes_no_authorization_of_the_application_along() {
    let keys = "auth = [\"session\"]\npreflight = \"pass\"\nauthorization = \"application\"";
    let house = house_with(keys).await;
    let request = preflight(client().request(Method::OPTIONS, house.url("/app")));
    let answer = request.header("authorization", "Bearer own").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(told(&house.upstream.last(), "authorization").is_empty());
}
