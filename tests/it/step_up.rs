//! Routes that ask for a stronger or a later login than somebody has (RFC 9470).

use std::time::Duration;

use serde_json::json;

use crate::support::{
    browser::{Browser, client},
    house::House,
    upstream::told,
};

/// A house with a vault that takes a second factor, and a till that takes a login of the last five minutes.
async fn house_with_a_vault() -> House {
    House::open_with(|address| {
        let route = |name: &str, allow: &str| {
            format!(
                "\n[route.{name}]\nurl = \"http://{address}/{name}\"\nupstream = \"http://127.0.0.1:9\"\n\
                 auth = [\"session\", \"bearer\"]\n[route.{name}.allow]\n{allow}\n"
            )
        };
        [
            route("vault", "acr = [\"urn:demo:mfa\"]"),
            route("till", "max_age = \"5m\""),
            route("heaven", "acr = [\"urn:nobody:has\"]"),
        ]
        .concat()
    })
    .await
}

/// Whether the request passed the door: behind it is nobody, which is a 502.
fn passed(status: http::StatusCode) -> bool {
    status == http::StatusCode::BAD_GATEWAY
}

#[tokio::test]
async fn a_weak_login_is_made_stronger_and_comes_back_to_where_it_wanted() {
    let house = house_with_a_vault().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(told(&page.json(), "x-forwarded-user"), ["alice"]);
    let asked = alice.peek(&house.url("/vault/gold?bar=1")).await.location().1;
    assert_eq!(asked["acr_values"], "urn:demo:mfa");
    let form = alice.open(&house.url("/vault/gold?bar=1")).await;
    assert!(form.text.contains("One-time code"), "{}", form.text);
    let wrong = [("username", "alice"), ("password", "alice"), ("code", "000000")];
    assert_eq!(alice.submit(&form, &wrong).await.status, 403);
    let right = [("username", "alice"), ("password", "alice"), ("code", "123456")];
    let page = alice.submit(&form, &right).await;
    assert_eq!(page.url.path(), "/vault/gold");
    assert!(passed(page.status));
    // Stronger is good enough for what asks for less.
    assert_eq!(alice.open(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn an_old_login_is_made_again() {
    let house = house_with_a_vault().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/till")).await;
    assert!(passed(alice.log_in(&form, "alice", "alice").await.status));
    house.clock.advance(Duration::from_secs(300));
    assert!(passed(alice.open(&house.url("/till")).await.status));
    house.clock.advance(Duration::from_secs(1));
    // A login is as old here as it is at the provider, where single sign-on would have been enough before.
    let asked = alice.peek(&house.url("/till")).await.location().1;
    assert_eq!(asked["max_age"], "300");
    let form = alice.open(&house.url("/till")).await;
    assert!(form.text.contains("Password"), "{}", form.text);
    assert!(passed(alice.log_in(&form, "alice", "alice").await.status));
}

#[tokio::test]
async fn n_104_a_provider_that_cannot_do_it_leads_to_a_page_and_not_in_circles() {
    let house = house_with_a_vault().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let page = alice.open(&house.url("/heaven")).await;
    assert_eq!((page.status.as_u16(), page.url.path()), (403, "/oauth2/callback"));
    assert!(page.text.contains("A stronger login is needed"), "{}", page.text);
    assert_eq!(
        alice.open(&house.url("/")).await.status,
        200,
        "the session that she had is still there"
    );
}

#[tokio::test]
async fn n_015_what_was_asked_for_is_in_the_login_from_the_first_time_on() {
    let house = house_with_a_vault().await;
    for (path, name, value) in [("/vault", "acr_values", "urn:demo:mfa"), ("/till", "max_age", "300")] {
        let asked = Browser::new().peek(&house.url(path)).await.location().1;
        assert_eq!(asked[name], value);
        let start = format!("/oauth2/start?rd={path}");
        let asked = Browser::new().peek(&house.url(&start)).await.location().1;
        assert_eq!(asked[name], value, "also by the endpoint");
    }
}

#[tokio::test]
async fn a_token_and_a_script_are_told_what_they_lack() {
    let house = house_with_a_vault().await;
    let challenge = async |path: &str, token: &str| {
        let request = client().get(house.url(path)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate").cloned();
        (
            answer.status(),
            challenge
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default(),
        )
    };
    let (status, told) = challenge("/vault", &house.jwt("alice")).await;
    assert_eq!(status, 401);
    assert!(
        told.ends_with("error=\"insufficient_user_authentication\", acr_values=\"urn:demo:mfa\""),
        "{told}"
    );
    let (status, told) = challenge("/till", &house.jwt("alice")).await;
    assert_eq!(status, 401);
    assert!(
        told.ends_with("error=\"insufficient_user_authentication\", max_age=\"300\""),
        "{told}"
    );
    let now = house.now();
    let strong = json!({
        "iss": house.provider.issuer(), "aud": "https://wiki.example.com", "sub": "alice", "client_id": "script",
        "iat": now, "exp": now + 300, "jti": "1", "acr": "urn:demo:mfa", "auth_time": now - 300,
    });
    let token = house.sign(&json!({"alg": "RS256", "typ": "at+jwt"}), &strong);
    assert!(passed(challenge("/vault", &token).await.0));
    assert!(passed(challenge("/till", &token).await.0));
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(
        challenge("/till", &token).await.0,
        401,
        "a verdict that is kept is decided anew"
    );
}
