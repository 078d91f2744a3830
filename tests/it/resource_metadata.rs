//! A client that knows an address, and nothing else, finds out where to get a token for it (RFC 9728).

use reqwest::{Method, Response};
use serde_json::Value;
use url::Url;
use vestibule::{
    demo::authorization_server::{AccessTokenKind, Client},
    secret::Secret,
};

use crate::support::{browser::client, house::House, upstream::told};

/// A house with a tool server for machines at `/mcp`, which needs a scope.
async fn open() -> House {
    let house = House::open_with(|gateway| {
        format!(
            r#"
[route.tools]
url = ["http://{gateway}/mcp", "http://*.localhost:{port}/mcp"]
upstream = "http://127.0.0.1:1"
auth = ["bearer"]
allow.scopes = ["tools.call"]
resource_metadata = true
"#,
            port = gateway.port()
        )
    })
    .await;
    let upstream = format!("http://{}", house.upstream.address);
    let file = house.file.replace("http://127.0.0.1:1\"", &format!("{upstream}\""));
    let audiences = format!("bearer.audiences = [\"{}\", ", house.url("/mcp"));
    house.reload(&file.replace("bearer.audiences = [", &audiences)).unwrap();
    house.provider.register(Client {
        id: "assistant".to_owned(),
        secret: Some(Secret::new("s3cret")),
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: house.url("/mcp"),
        access_tokens: AccessTokenKind::Jwt,
        scopes: vec!["tools.call".to_owned()],
    });
    house
}

/// A parameter of the challenge.
fn parameter(response: &Response, name: &str) -> Option<String> {
    let challenge = response.headers().get("www-authenticate")?.to_str().unwrap();
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

async fn metadata(url: &str) -> Value {
    let response = client().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    response.json().await.unwrap()
}

/// Where an authorization server says what it can do (RFC 8414 §3.1).
fn server_metadata(issuer: &str) -> String {
    let issuer = Url::parse(issuer).unwrap();
    let path = issuer.path().trim_end_matches('/');
    let origin = issuer.origin().ascii_serialization();
    format!("{origin}/.well-known/oauth-authorization-server{path}")
}

#[tokio::test]
async fn a_client_that_knows_the_address_alone_finds_its_way_in() {
    let house = open().await;
    let address = house.url("/mcp");

    let refused = client().post(&address).body("{}").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(parameter(&refused, "error"), None);
    let scope = parameter(&refused, "scope").unwrap();
    let resource = metadata(&parameter(&refused, "resource_metadata").unwrap()).await;
    assert_eq!(resource["resource"], address, "§3.3: else a client must not go on");
    assert_eq!(resource["scopes_supported"], serde_json::json!([scope]));
    assert_eq!(resource["bearer_methods_supported"], serde_json::json!(["header"]));
    assert_eq!(resource["resource_name"], "tools");

    let issuer = resource["authorization_servers"][0].as_str().unwrap();
    let server = metadata(&server_metadata(issuer)).await;
    assert_eq!(server["issuer"], issuer);
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", &*scope),
        ("resource", &*address),
    ];
    let token_endpoint = server["token_endpoint"].as_str().unwrap();
    let request = client()
        .post(token_endpoint)
        .basic_auth("assistant", Some("s3cret"))
        .form(&form);
    let tokens: Value = request.send().await.unwrap().json().await.unwrap();

    let token = tokens["access_token"].as_str().unwrap();
    let request = client().post(&address).bearer_auth(token).body("{}");
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(told(&house.upstream.last(), "authorization"), [""; 0]);
}

#[tokio::test]
async fn a_token_that_does_not_do_is_shown_the_way_too() {
    let house = open().await;
    let metadata_url = house.url("/.well-known/oauth-protected-resource/mcp");
    for (token, status, error) in [
        ("nonsense".to_owned(), 401, "invalid_token"),
        (house.jwt("alice"), 403, "insufficient_scope"),
    ] {
        let refused = client().get(house.url("/mcp")).bearer_auth(token).send().await.unwrap();
        assert_eq!(refused.status(), status);
        assert_eq!(parameter(&refused, "error").as_deref(), Some(error));
        assert_eq!(parameter(&refused, "scope").as_deref(), Some("tools.call"));
        assert_eq!(parameter(&refused, "resource_metadata").as_ref(), Some(&metadata_url));
    }
}

#[tokio::test]
async fn the_resource_is_what_the_client_asked_for_below_a_prefix_and_at_any_host() {
    let house = open().await;
    for path in ["/mcp", "/mcp/", "/mcp/a/b,c=1", "/mcp/%E2%82%AC"] {
        let refused = client().get(house.url(path)).send().await.unwrap();
        let resource = metadata(&parameter(&refused, "resource_metadata").unwrap()).await;
        assert_eq!(resource["resource"], house.url(path));
    }
    // Names below a wildcard are found without a name server, and the gateway says the one that was used.
    let port = house.address.port();
    let named = client()
        .get(house.url("/mcp"))
        .header("host", format!("red.localhost:{port}"));
    let refused = named.send().await.unwrap();
    let expected = format!("http://red.localhost:{port}/.well-known/oauth-protected-resource/mcp");
    assert_eq!(parameter(&refused, "resource_metadata"), Some(expected));
    let named = client().get(house.url("/.well-known/oauth-protected-resource/mcp"));
    let described = named
        .header("host", format!("red.localhost:{port}"))
        .send()
        .await
        .unwrap();
    let described: Value = described.json().await.unwrap();
    assert_eq!(described["resource"], format!("http://red.localhost:{port}/mcp"));
}

#[tokio::test]
async fn it_is_there_for_everybody_to_read_and_for_nobody_to_write() {
    let house = open().await;
    let ask = |method: Method| {
        let url = house.url("/.well-known/oauth-protected-resource/mcp");
        let request = client()
            .request(method, url)
            .header("origin", "https://elsewhere.example");
        // A credential is not looked at.
        request.bearer_auth("nonsense").send()
    };
    for (method, status) in [
        (Method::GET, 200),
        (Method::HEAD, 200),
        (Method::OPTIONS, 204),
        (Method::POST, 405),
    ] {
        let response = ask(method.clone()).await.unwrap();
        assert_eq!(response.status(), status, "{method}");
        if status != 405 {
            assert_eq!(response.headers()["access-control-allow-origin"], "*", "{method}");
            assert_eq!(response.headers()["cache-control"], "public, max-age=300");
        }
    }
    assert_eq!(house.upstream.requests(), 0, "nothing of it is sent on");
}

#[tokio::test]
async fn where_a_route_does_not_ask_for_it_the_path_is_the_applications() {
    let house = open().await;
    let refused = client().get(house.url("/api/things")).send().await.unwrap();
    assert_eq!(
        (parameter(&refused, "resource_metadata"), parameter(&refused, "scope")),
        (None, None)
    );
    for path in ["/api/things", "", "x/mcp", "/mcpx"] {
        let url = house.url(&format!("/.well-known/oauth-protected-resource{path}"));
        let response = client().get(&url).bearer_auth(house.jwt("alice")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        assert_eq!(told(&house.upstream.last(), "x-forwarded-user"), ["alice"], "{url}");
    }
}
