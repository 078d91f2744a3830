//! The question that another proxy asks, without the proxy.

use http_body_util::BodyExt;

use crate::{
    decisions::{decisions, watched_house},
    support::{
        beside::file_beside,
        browser::{client, client_at},
        h2c::{Client, body},
        house::House,
    },
};

const URL: &str = "http://wiki.example.com";

async fn house_beside() -> House {
    let house = House::open_with_h2c(|_| String::new()).await;
    be_beside(&house, "");
    house
}

/// With these lines of `[server]` besides.
fn be_beside(house: &House, server: &str) {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let file = file_beside(house, nowhere, "forward-auth").replace("http://127.0.0.1:1", URL);
    house.reload(&format!("{server}{file}")).unwrap();
}

fn question(house: &House, path: &str) -> reqwest::RequestBuilder {
    client()
        .get(house.url("/oauth2/auth/forward"))
        .bearer_auth(house.jwt("alice"))
        .header("x-forwarded-method", "GET")
        .header("x-forwarded-proto", "http")
        .header("x-forwarded-host", "wiki.example.com")
        .header("x-forwarded-uri", path)
        .header("x-forwarded-for", "203.0.113.7")
}

async fn answered(question: reqwest::RequestBuilder) -> u16 {
    let answer = question.send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(status == 200, answer.headers().contains_key("x-forwarded-user"));
    status
}

#[tokio::test]
async fn a_trusted_proxy_alone_is_answered() {
    let house = house_beside().await;
    assert_eq!(answered(question(&house, "/x")).await, 200);
    let (client, request) = question(&house, "/x").build_split();
    drop(client);
    let stranger = client_at("127.0.0.3").execute(request.unwrap()).await.unwrap();
    assert_eq!(stranger.status(), 403);
    assert!(!stranger.headers().contains_key("x-forwarded-user"));
}

#[tokio::test]
async fn a_question_that_could_be_another_is_not_answered() {
    let house = house_beside().await;
    assert_eq!(answered(question(&house, "/admin")).await, 403);
    assert_eq!(
        answered(question(&house, "/x").header("x-forwarded-uri", "/x")).await,
        400
    );
    assert_eq!(
        answered(question(&house, "/x").header("x-original-url", format!("{URL}/y"))).await,
        400
    );
    assert_eq!(
        answered(question(&house, "/x").header("x-original-url", format!("{URL}/x"))).await,
        200
    );
    assert_eq!(answered(question(&house, "/x/../admin")).await, 400);
    assert_eq!(answered(question(&house, "/oauth2/callback")).await, 404);
    // It would be told to whoever can reach the public host.
    assert_eq!(
        answered(question(&house, "/x").header("host", "wiki.example.com")).await,
        404
    );
}

#[tokio::test]
async fn a_refusal_of_grpc_is_no_yes() {
    let house = house_beside().await;
    let call = question(&house, "/admin").header("content-type", "application/grpc");
    let (client, request) = call.build_split();
    let mut request = request.unwrap();
    request
        .headers_mut()
        .insert("x-forwarded-method", "POST".parse().unwrap());
    assert_eq!(client.execute(request).await.unwrap().status(), 403);
}

#[tokio::test]
async fn nothing_is_passed_on_where_another_proxy_does() {
    let house = house_beside().await;
    let past = client().get(house.url("/x")).header("host", "wiki.example.com");
    let answer = past.bearer_auth(house.jwt("alice")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn a_call_of_anybody_but_a_trusted_proxy_is_refused() {
    let house = house_beside().await;
    let message = body("\0\0\0\0\0", &[]);
    let grpc = [("content-type", "application/grpc")];
    let check = "/envoy.service.auth.v3.Authorization/Check";
    let trusted = Client::connect(house.address).await;
    let reply = trusted.send("POST", check, &grpc, message).await;
    let reply = reply.into_body().collect().await.unwrap();
    assert_eq!(reply.trailers().unwrap()["grpc-status"], "0");
    let reply = String::from_utf8_lossy(&reply.to_bytes()).into_owned();
    assert!(reply.contains("bad_question"), "what is no question is denied: {reply}");

    let file = file_beside(&house, "127.0.0.1:1".parse().unwrap(), "ext-authz");
    house.reload(&file.replace("127.0.0.1/32", "127.0.0.2/32")).unwrap();
    let stranger = Client::connect(house.address).await;
    let answer = stranger.send("POST", check, &grpc, body("\0\0\0\0\0", &[])).await;
    assert_eq!(answer.headers()["grpc-status"], "7");
}

#[tokio::test]
async fn whoever_tries_tokens_is_counted_by_where_they_are() {
    let house = house_beside().await;
    be_beside(&house, "server.limits.failed_credentials_per_minute = 1\n");
    let tries = async |token: &str, address: &'static str| {
        let (client, request) = question(&house, "/x").build_split();
        let mut request = request.unwrap();
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        request
            .headers_mut()
            .insert("x-forwarded-for", address.parse().unwrap());
        client.execute(request).await.unwrap().status().as_u16()
    };
    assert_eq!(tries("bad-1", "203.0.113.7").await, 401);
    assert_eq!(tries("bad-2", "203.0.113.7").await, 429);
    assert_eq!(tries("bad-3", "203.0.113.8").await, 401);
    assert_eq!(
        tries("bad-4", "198.51.100.1, 203.0.113.9").await,
        401,
        "the nearest that is no proxy"
    );
    assert_eq!(tries("bad-5", "198.51.100.1, 203.0.113.8").await, 429);
}

#[tokio::test]
async fn a_refusal_is_noted_with_what_was_asked_about() {
    let (house, _file) = watched_house("decisions = 10", "").await;
    be_beside(&house, "");
    assert_eq!(answered(question(&house, "/admin/x?secret=1")).await, 403);
    let (_, noted) = decisions(&house, "").await;
    let text = noted.to_string();
    for part in [
        "\"wiki.example.com\"",
        "\"/admin/x\"",
        "\"203.0.113.7\"",
        "\"allow.groups\"",
        "\"admin\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("/oauth2/auth") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn what_vouches_for_a_request_is_told_as_well() {
    let house = house_beside().await;
    let file = file_beside(&house, "127.0.0.1:1".parse().unwrap(), "forward-auth").replace("http://127.0.0.1:1", URL);
    let keys = "[route.wiki.identity]\naccess_token = \"authorization\"\nassertion = { audience = \"wiki\" }\n";
    house.reload(&[&file, keys].concat()).unwrap();
    let answer = question(&house, "/x").header("cookie", "theme=dark; vestibule=x");
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = |name: &str| answer.headers()[name].to_str().unwrap();
    assert!(told("authorization").starts_with("Bearer ey"));
    assert_eq!(told("x-vestibule-assertion").matches('.').count(), 2);
    assert_eq!(told("cookie"), "theme=dark");
}

#[tokio::test]
async fn a_proxy_that_sees_a_status_is_told_where_the_login_begins() {
    let house = house_beside().await;
    let ask = async |accept: &str, method: &str| {
        let question = client()
            .get(house.url("/oauth2/auth"))
            .header("accept", accept)
            .header("x-original-method", method)
            .header("x-original-url", format!("{URL}/deep?x=1&y=2"))
            .header("x-forwarded-for", "203.0.113.7");
        let answer = question.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let location = answer
            .headers()
            .get("location")
            .map(|to| to.to_str().unwrap().to_owned());
        location.unwrap_or_default()
    };
    let start = format!("{URL}/oauth2/start?rd=%2Fdeep%3Fx%3D1%26y%3D2");
    assert_eq!(ask("text/html", "GET").await, start);
    assert_eq!(ask("application/json", "GET").await, "");
    assert_eq!(
        ask("text/html", "POST").await,
        "",
        "what it would send is lost on the way"
    );
}
