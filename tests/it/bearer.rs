//! A script comes to the door.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{browser::client, house::House, upstream::told};

/// Status and challenge of a request with this `Authorization` header.
async fn ask(house: &House, path: &str, authorization: &str) -> (u16, String) {
    let request = client().get(house.url(path)).header("authorization", authorization);
    let response = request.send().await.unwrap();
    let challenge = response
        .headers()
        .get("www-authenticate")
        .map_or("", |value| value.to_str().unwrap());
    (response.status().as_u16(), challenge.to_owned())
}

#[tokio::test]
async fn a_jwt_gets_in_and_the_application_knows_whose_it_is() {
    let house = House::open().await;
    let token = house.jwt("alice");
    let (status, _) = ask(&house, "/", &format!("Bearer {token}")).await;
    assert_eq!(status, 200);
    assert_eq!(told(&house.upstream.last(), "x-forwarded-user"), ["alice"]);
}

#[tokio::test]
async fn an_opaque_token_gets_in_and_is_asked_about_once() {
    let house = House::open().await;
    let token = house.opaque("alice");
    for _ in 0..5 {
        assert_eq!(ask(&house, "/", &format!("Bearer {token}")).await.0, 200);
    }
    assert_eq!(house.introspections(), 1);
}

#[tokio::test]
async fn n_064_the_scheme_has_any_case_and_any_number_of_spaces() {
    let house = House::open().await;
    let token = house.jwt("alice");
    for scheme in ["Bearer ", "bearer ", "BEARER   "] {
        assert_eq!(ask(&house, "/", &format!("{scheme}{token}")).await.0, 200, "{scheme:?}");
    }
}

#[tokio::test]
async fn n_066_what_cannot_be_read_is_an_invalid_request() {
    let house = House::open().await;
    for authorization in ["Bearer", "Bearer a b", "Bearer a,b", "Bearer \"a\""] {
        let (status, challenge) = ask(&house, "/", authorization).await;
        assert_eq!(status, 400, "{authorization:?}");
        assert!(challenge.contains("error=\"invalid_request\""), "{challenge}");
    }
}

#[tokio::test]
async fn n_067_a_bad_token_is_invalid_and_the_wire_does_not_say_why() {
    let house = House::open().await;
    let (status, challenge) = ask(&house, "/", "Bearer nonsense").await;
    assert_eq!(status, 401);
    assert!(
        challenge.contains("error=\"invalid_token\"") && !challenge.contains("description"),
        "{challenge}"
    );
    assert_eq!(ask(&house, "/", "Basic YWxpY2U6YWxpY2U=").await.0, 401);
}

#[tokio::test]
async fn n_068_a_missing_scope_is_named() {
    let house = House::open().await;
    let token = house.jwt("alice");
    let (status, challenge) = ask(&house, "/api/things", &format!("Bearer {token}")).await;
    assert_eq!(status, 403);
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.contains("scope=\"things.read\""), "{challenge}");
    let token = house.jwt_with_scope("alice", "things.read");
    assert_eq!(ask(&house, "/api/things", &format!("Bearer {token}")).await.0, 200);
}

#[tokio::test]
async fn n_082_a_bad_token_is_not_rescued_by_a_good_session() {
    let house = House::open().await;
    let mut alice = crate::support::browser::Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let url: url::Url = house.url("/").parse().unwrap();
    let request = alice
        .client()
        .get(url.clone())
        .header("authorization", "Bearer nonsense");
    assert_eq!(alice.send(request, url).await.status, 401);
}

#[tokio::test]
async fn of_a_good_token_and_a_good_session_the_one_that_is_named_first_counts() {
    let house = House::open_with(|address| {
        let route = |name: &str, auth: &str| {
            format!(
                "[route.{name}]\nurl = \"http://{address}/{name}\"\nupstream = \"http://127.0.0.1:9\"\nauth = {auth}\n\
                 allow.scopes = [\"email\"]\n"
            )
        };
        [
            route("by-session", "[\"session\", \"bearer\"]"),
            route("by-token", "[\"bearer\", \"session\"]"),
            route("as-ever", "[\"bearer\", \"session\"]").replace("auth = [\"bearer\", \"session\"]\n", ""),
        ]
        .concat()
    })
    .await;
    let mut alice = crate::support::browser::Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let session = alice.session_cookie();
    // The session has the scope that is asked for, and the tokens have not, but for one.
    let (hers, mallorys) = (house.jwt("alice"), house.jwt("mallory"));
    let more = house.jwt_with_scope("alice", "email");
    let (passed, lacking, bad, unreadable) = (502, 403, 401, 400);
    let asked = [
        ("session alone", Some(&*session), None, [passed, passed, passed]),
        ("token alone", None, Some(&*hers), [lacking, lacking, lacking]),
        ("both", Some(&*session), Some(&*hers), [passed, lacking, lacking]),
        (
            "both, and the token has the scope",
            Some(&*session),
            Some(&*more),
            [passed, passed, passed],
        ),
        (
            "a token of somebody else",
            Some(&*session),
            Some(&*mallorys),
            [bad, lacking, lacking],
        ),
        ("a bad token", Some(&*session), Some("nonsense"), [bad, bad, bad]),
        (
            "no token at all",
            Some(&*session),
            Some(" "),
            [unreadable, unreadable, unreadable],
        ),
        (
            "a session that is none",
            Some("1.tampered"),
            Some(&*more),
            [passed, passed, passed],
        ),
        (
            "a session that is none, and a weak token",
            Some("1.tampered"),
            Some(&*hers),
            [lacking, lacking, lacking],
        ),
        (
            "a session that is none, and a bad token",
            Some("1.tampered"),
            Some("nonsense"),
            [bad, bad, bad],
        ),
        ("a session that is none", Some("1.tampered"), None, [bad, bad, bad]),
    ];
    for (what, cookie, token, expected) in asked {
        for (path, status) in ["/by-session", "/by-token", "/as-ever"].into_iter().zip(expected) {
            let mut request = client().get(house.url(path));
            if let Some(cookie) = cookie {
                request = request.header("cookie", format!("vestibule={cookie}"));
            }
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            assert_eq!(request.send().await.unwrap().status(), status, "{what}, {path}");
        }
    }
}

/// The claims of a token that the gateway takes.
fn good(house: &House) -> Value {
    let now = house.now();
    json!({
        "iss": house.provider.issuer().to_owned(), "aud": "https://wiki.example.com", "sub": "alice", "client_id": "script",
        "iat": now, "exp": now + 300, "jti": "1", "scope": "openid",
    })
}

fn with(house: &House, change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = good(house);
    change(&mut claims);
    claims
}

fn without(house: &House, name: &str) -> Value {
    with(house, |claims| drop(claims.as_object_mut().unwrap().remove(name)))
}

#[tokio::test]
async fn hostile_tokens_do_not_get_in() {
    let house = House::open().await;
    let at = json!({"alg": "RS256", "typ": "at+jwt"});
    let typed = |typ: &str| json!({"alg": "RS256", "typ": typ});
    let issuer = house.provider.issuer().to_owned();
    let now = house.now();
    assert_eq!(house.try_token(&at, &good(&house)).await, 200, "the good one");
    let bad = [
        ("no iss", at.clone(), without(&house, "iss")),
        ("no aud", at.clone(), without(&house, "aud")),
        ("no exp", at.clone(), without(&house, "exp")),
        ("no sub", at.clone(), without(&house, "sub")),
        ("no client_id", at.clone(), without(&house, "client_id")),
        (
            "array iss",
            at.clone(),
            with(&house, |claims| {
                claims["iss"] = json!(["https://evil.example.com", issuer])
            }),
        ),
        (
            "other iss",
            at.clone(),
            with(&house, |claims| claims["iss"] = json!("https://evil.example.com")),
        ),
        (
            "slashed iss",
            at.clone(),
            with(&house, |claims| claims["iss"] = json!(format!("{issuer}/"))),
        ),
        (
            "other aud",
            at.clone(),
            with(&house, |claims| claims["aud"] = json!("https://other.example.com")),
        ),
        (
            "number aud",
            at.clone(),
            with(&house, |claims| claims["aud"] = json!(5)),
        ),
        (
            "mixed aud",
            at.clone(),
            with(&house, |claims| claims["aud"] = json!([1, "other"])),
        ),
        (
            "expired",
            at.clone(),
            with(&house, |claims| claims["exp"] = json!(now - 31)),
        ),
        (
            "string exp",
            at.clone(),
            with(&house, |claims| claims["exp"] = json!((now + 300).to_string())),
        ),
        (
            "absurd exp",
            at.clone(),
            with(&house, |claims| claims["exp"] = json!(1e18)),
        ),
        (
            "nbf ahead",
            at.clone(),
            with(&house, |claims| claims["nbf"] = json!(now + 3_600)),
        ),
        (
            "iat ahead",
            at.clone(),
            with(&house, |claims| claims["iat"] = json!(now + 3_600)),
        ),
        (
            "empty sub",
            at.clone(),
            with(&house, |claims| claims["sub"] = json!("")),
        ),
        (
            "bound to a key",
            at.clone(),
            with(&house, |claims| claims["cnf"] = json!({"jkt": "x"})),
        ),
        ("id token", typed("JWT"), good(&house)),
        ("no typ", json!({"alg": "RS256"}), good(&house)),
        ("logout token", typed("logout+jwt"), good(&house)),
        ("dpop proof", typed("dpop+jwt"), good(&house)),
        (
            "crit",
            json!({"alg": "RS256", "typ": "at+jwt", "crit": ["x-unknown"], "x-unknown": 1}),
            good(&house),
        ),
        (
            "b64",
            json!({"alg": "RS256", "typ": "at+jwt", "crit": ["b64"], "b64": false}),
            good(&house),
        ),
    ];
    for (what, header, claims) in bad {
        assert_eq!(house.try_token(&header, &claims).await, 401, "{what}");
    }
    assert_eq!(house.upstream.requests(), 1);
}

#[tokio::test]
async fn algorithms_cannot_be_confused() {
    let house = House::open().await;
    for token in house.confused_tokens(&good(&house)) {
        assert_eq!(ask(&house, "/", &format!("Bearer {token}")).await.0, 401, "{token}");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn n_075_a_cached_token_ends_when_it_ends() {
    let house = House::open().await;
    let token = house.sign(&json!({"alg": "RS256", "typ": "at+jwt"}), &good(&house));
    assert_eq!(ask(&house, "/", &format!("Bearer {token}")).await.0, 200);
    house.clock.advance(Duration::from_secs(300 + 29));
    assert_eq!(
        ask(&house, "/", &format!("Bearer {token}")).await.0,
        200,
        "within the skew"
    );
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(ask(&house, "/", &format!("Bearer {token}")).await.0, 401);
}

#[tokio::test]
async fn n_091_a_revoked_opaque_token_is_noticed_when_its_time_in_the_cache_is_over() {
    let house = House::open().await;
    let token = house.opaque("alice");
    assert_eq!(ask(&house, "/", &format!("Bearer {token}")).await.0, 200);
    house.revoke(&token);
    house.clock.advance(Duration::from_secs(61));
    assert_eq!(ask(&house, "/", &format!("Bearer {token}")).await.0, 401);
}

#[tokio::test]
async fn f_20_five_hundred_first_requests_ask_once() {
    let house = House::open().await;
    let token = house.opaque("alice");
    house.slow_introspection(Duration::from_millis(50));
    let statuses = house.ask_at_once(500, &token, None).await;
    assert!(statuses.iter().all(|status| *status == Some(200)), "{statuses:?}");
    assert_eq!(house.introspections(), 1);
}

#[tokio::test]
async fn i_18_half_of_them_hang_up_and_it_is_still_asked_once() {
    let house = House::open().await;
    let token = house.opaque("alice");
    house.slow_introspection(Duration::from_millis(200));
    let statuses = house.ask_at_once(500, &token, Some(Duration::from_millis(20))).await;
    assert!(statuses.iter().flatten().all(|status| *status == 200), "{statuses:?}");
    assert!(
        statuses.iter().flatten().count() >= 250,
        "those who stayed were answered"
    );
    assert_eq!(house.introspections(), 1);
}
