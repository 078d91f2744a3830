//! Sessions end because somebody else says so.

use std::time::Duration;

use serde_json::{Value, json};
use vestibule::demo::authorization_server::Gone;

use crate::support::{
    browser::{Browser, Page, client},
    house::{Fault, House, Place},
};

/// Each story is told for sessions in cookies and for sessions in memory.
const KEEPINGS: [&str; 2] = ["store = \"cookie\"", "store = \"memory\""];
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

async fn logged_in(house: &House, user: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, user, user).await.status, 200);
    browser
}

/// The status that a script of the page gets.
async fn asks(house: &House, browser: &mut Browser) -> u16 {
    browser.fetch(&house.url("/")).await.status.as_u16()
}

/// Posts a body to the back-channel endpoint as no browser would.
async fn tell(house: &House, body: String) -> (u16, String) {
    let request = client()
        .post(house.url("/oauth2/backchannel_logout"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", "https://elsewhere.example.com")
        .body(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn tell_token(house: &House, token: &str) -> u16 {
    tell(house, format!("logout_token={token}")).await.0
}

fn everything_of(user: &str) -> Gone {
    Gone::User(user.to_owned())
}

/// A logout token of the provider with other claims.
fn token_with(house: &House, change: impl Fn(&mut Value)) -> String {
    let now = house.now();
    let mut claims = json!({
        "iss": house.provider.issuer(), "aud": "wiki", "iat": now, "exp": now + 120, "sub": "alice",
        "jti": vestibule::secret::random_text::<8>(), "events": {EVENT: {}},
    });
    change(&mut claims);
    house.sign(&json!({"alg": "RS256", "typ": "logout+jwt"}), &claims)
}

#[tokio::test]
async fn n_112_who_is_logged_out_at_the_provider_is_out_here() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut phone = logged_in(&house, "alice").await;
        let mut laptop = logged_in(&house, "alice").await;
        let mut mallory = logged_in(&house, "mallory").await;
        house.clock.advance(Duration::from_secs(60));
        assert_eq!(asks(&house, &mut phone).await, 200, "{keeping}");

        assert_eq!(house.provider.log_out("alice").await.unwrap(), [200], "{keeping}");

        assert_eq!(asks(&house, &mut phone).await, 401, "{keeping}");
        let page = laptop.open(&house.url("/")).await;
        assert!(page.text.contains("password"), "the login page: {}", page.text);
        assert_eq!(asks(&house, &mut mallory).await, 200, "{keeping}");
        house.clock.advance(Duration::from_secs(60));
        laptop.log_in(&page, "alice", "alice").await;
        assert_eq!(asks(&house, &mut laptop).await, 200, "who logs in again is in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_logged_out_while_a_login_is_under_way_is_not_in_when_it_ends() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut alice = Browser::new();
        let form = alice.open(&house.url("/")).await;
        let callback = alice.authorize(&form, "alice", "alice").await;
        house.fault(Place::Token, Fault::delay(Duration::from_secs(2)));
        let calls = house.token_calls();
        let ends = async {
            until_asked(&house, calls + 1).await;
            house.clock.advance(Duration::from_secs(1));
            let token = house.provider.logout_token("wiki", &everything_of("alice"));
            assert_eq!(tell_token(&house, &token).await, 200, "{keeping}");
        };
        let (_, ()) = tokio::join!(alice.peek(callback.as_str()), ends);
        assert_eq!(asks(&house, &mut alice).await, 401, "{keeping}");
    }
}

/// Waits until the provider was asked for tokens so often.
async fn until_asked(house: &House, calls: usize) {
    for _ in 0..500 {
        if house.token_calls() >= calls {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody asked for tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_while_a_refresh_is_under_way_is_out_and_no_token_is_left() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut alice = logged_in(&house, "alice").await;
        // The access token is over, so that the request waits.
        house.clock.advance(Duration::from_secs(5 * 60 + 1));
        house.fault(Place::Token, Fault::delay(Duration::from_secs(2)));
        let calls = house.token_calls();
        let request = client()
            .get(house.url("/"))
            .header("cookie", format!("vestibule={}", alice.session_cookie()));
        let signs_out = async {
            until_asked(&house, calls + 1).await;
            alice.post(&house.url("/oauth2/sign_out"), &[]).await;
        };
        let (answer, ()) = tokio::join!(request.send(), signs_out);
        assert_eq!(answer.unwrap().status(), 401, "{keeping}: it is over when it passes");
        // The spent refresh token, and the one that came for it.
        revocations(&house, 2).await;
    }
}

#[tokio::test]
async fn n_112_one_session_at_the_provider_ends_one_session_here() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut phone = logged_in(&house, "alice").await;
        let mut laptop = logged_in(&house, "alice").await;

        // At the provider's own page; it tells us a moment later.
        phone.open(&format!("{}/logout", house.provider.issuer())).await;

        for _ in 0..100 {
            if asks(&house, &mut phone).await == 401 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(asks(&house, &mut phone).await, 401, "{keeping}");
        assert_eq!(asks(&house, &mut laptop).await, 200, "{keeping}");
    }
}

#[tokio::test]
async fn n_110_n_111_a_logout_token_counts_once_and_also_when_nobody_is_there() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let token = house.provider.logout_token("wiki", &everything_of("nobody"));
        assert_eq!(
            tell(&house, format!("logout_token={token}")).await,
            (200, String::new())
        );
        let (status, text) = tell(&house, format!("logout_token={token}")).await;
        assert_eq!(status, 400, "{keeping}");
        assert_eq!(text, r#"{"error":"invalid_request"}"#);
        let another = house.provider.logout_token("wiki", &everything_of("nobody"));
        assert_eq!(tell_token(&house, &another).await, 200, "{keeping}");
    }
}

#[tokio::test]
async fn n_115_bad_logout_tokens_are_400_and_end_nothing() {
    let house = House::open().await;
    let mut alice = logged_in(&house, "alice").await;
    let now = house.now();
    let id_token = house.sign(
        &json!({"alg": "RS256", "typ": "JWT"}),
        &json!({"iss": house.provider.issuer(), "aud": "wiki", "sub": "alice", "iat": now, "exp": now + 60, "nonce": "n"}),
    );
    let mut tokens = vec![
        id_token,
        house.jwt("alice"),
        house.provider.logout_token("script", &everything_of("alice")),
        token_with(&house, |claims| claims["iss"] = json!("https://elsewhere.example.com")),
        token_with(&house, |claims| claims["aud"] = json!("other")),
        token_with(&house, |claims| claims["nonce"] = json!("n")),
        token_with(&house, |claims| claims["events"] = json!({})),
        token_with(&house, |claims| claims["events"] = json!({EVENT: "x"})),
        token_with(&house, |claims| claims["iat"] = json!(now - 3_600)),
        "garbage".to_owned(),
        String::new(),
    ];
    let good = token_with(&house, |_| {});
    let claims = json!({
        "iss": house.provider.issuer(), "aud": "wiki", "iat": now, "exp": now + 120, "sub": "alice", "jti": "j",
        "events": {EVENT: {}},
    });
    tokens.extend(house.confused_tokens(&claims));
    for token in &tokens {
        assert_eq!(tell_token(&house, token).await, 400, "{token}");
    }
    for body in [
        String::new(),
        format!("token={good}"),
        format!("logout_token={good}&logout_token={good}"),
        format!("x={}&logout_token={good}", "x".repeat(70_000)),
    ] {
        assert_eq!(tell(&house, body).await.0, 400);
    }
    let url = house.url("/oauth2/backchannel_logout");
    let as_json = client().post(&url).json(&json!({"logout_token": good})).send().await;
    assert_eq!(as_json.unwrap().status(), 400);
    assert_eq!(
        house
            .get(&format!("/oauth2/backchannel_logout?logout_token={good}"))
            .await,
        405
    );
    assert_eq!(asks(&house, &mut alice).await, 200);
    assert_eq!(tell_token(&house, &good).await, 200, "it is still good");
    assert_eq!(asks(&house, &mut alice).await, 401);
}

#[tokio::test]
async fn an_unknown_provider_costs_no_key_fetch_and_unknown_keys_ask_for_another_try() {
    let house = House::open().await;
    let stranger = token_with(&house, |claims| claims["iss"] = json!("https://elsewhere.example.com"));
    assert_eq!(tell_token(&house, &stranger).await, 400);
    assert_eq!(house.key_fetches(), 0);

    let token = house.provider.logout_token("wiki", &everything_of("alice"));
    house.fault(Place::Keys, Fault::answer(500, "text/plain", b""));
    assert_eq!(tell_token(&house, &token).await, 503);
    house.clear_faults();
    house.clock.advance(Duration::from_secs(31));
    assert_eq!(tell_token(&house, &token).await, 200, "not taken for a replay");
}

#[tokio::test]
async fn signing_out_everywhere_ends_the_sessions_of_all_browsers() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut phone = logged_in(&house, "alice").await;
        let mut laptop = logged_in(&house, "alice").await;
        let mut mallory = logged_in(&house, "mallory").await;

        let asked = phone.open(&house.url("/oauth2/sign_out?everywhere")).await;
        let out = match asked.text.contains("<form") {
            true => phone.submit(&asked, &[]).await,
            false => asked,
        };
        assert!(out.text.contains("in all other browsers"), "{keeping}: {}", out.text);
        assert_eq!(asks(&house, &mut phone).await, 401, "{keeping}");
        assert_eq!(asks(&house, &mut laptop).await, 401, "{keeping}");
        assert_eq!(asks(&house, &mut mallory).await, 200, "{keeping}");
        let again = laptop.post(&house.url("/oauth2/sign_out?everywhere"), &[]).await;
        assert_eq!(again.status, 200, "quietly");
    }
}

#[tokio::test]
async fn n_107_a_page_of_another_site_signs_nobody_out_everywhere() {
    let house = House::open().await;
    let mut alice = logged_in(&house, "alice").await;
    let url = url::Url::parse(&house.url("/oauth2/sign_out?everywhere")).unwrap();
    for method in [reqwest::Method::GET, reqwest::Method::POST] {
        let request = alice.client().request(method, url.clone());
        let request = request
            .header("origin", "https://evil.example.com")
            .header("sec-fetch-site", "cross-site");
        alice.send(request, url.clone()).await;
        assert_eq!(asks(&house, &mut alice).await, 200);
    }
}

#[tokio::test]
async fn signing_out_gives_the_refresh_token_back() {
    let house = House::open().await;
    let mut alice = logged_in(&house, "alice").await;
    house.fault(Place::Revocation, Fault::delay(Duration::from_secs(1)));
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    for _ in 0..100 {
        if house.provider.calls(Place::Revocation) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody revoked it");
}

async fn revocations(house: &House, expected: usize) {
    for _ in 0..200 {
        if house.provider.calls(Place::Revocation) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} instead of {expected}", house.provider.calls(Place::Revocation));
}

#[tokio::test]
async fn a_refresh_token_of_another_browser_is_given_back_when_that_browser_comes_again() {
    let house = House::open().await;
    let mut phone = logged_in(&house, "alice").await;
    let mut laptop = logged_in(&house, "alice").await;
    let asked = phone.open(&house.url("/oauth2/sign_out?everywhere")).await;
    if asked.text.contains("<form") {
        phone.submit(&asked, &[]).await;
    }
    revocations(&house, 1).await;
    let cookies = laptop.cookies.clone();
    assert_eq!(asks(&house, &mut laptop).await, 401);
    revocations(&house, 2).await;
    // A copy of the cookies is good for nothing, and not even for that a second time.
    laptop.cookies = cookies;
    assert_eq!(asks(&house, &mut laptop).await, 401);
    let mut last = logged_in(&house, "mallory").await;
    last.post(&house.url("/oauth2/sign_out"), &[]).await;
    revocations(&house, 3).await;
}

#[tokio::test]
async fn n_114_a_frame_of_the_provider_ends_the_session_that_it_names() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut alice = logged_in(&house, "alice").await;
        let sid = house.provider.sessions_of("alice").remove(0);
        let frame = async |query: &str| -> Page {
            let url = house.url(&format!("/oauth2/frontchannel_logout?{query}"));
            let mut nobody = Browser::new();
            let request = nobody.client().get(&url).header("sec-fetch-dest", "iframe");
            nobody.send(request, url::Url::parse(&url).unwrap()).await
        };
        let issuer = house.provider.issuer();
        for query in [
            String::new(),
            format!("iss={issuer}"),
            format!("sid={sid}"),
            format!("iss=https://elsewhere.example.com&sid={sid}"),
            format!("iss={issuer}&sid={sid}&sid={sid}"),
        ] {
            assert_eq!(frame(&query).await.status, 400, "{query}");
        }
        assert_eq!(frame(&format!("iss={issuer}&sid=unknown")).await.status, 200);
        assert_eq!(asks(&house, &mut alice).await, 200, "{keeping}");

        let page = frame(&format!("iss={issuer}&sid={sid}")).await;
        assert_eq!((page.status.as_u16(), page.text.as_str()), (200, ""));
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(
            page.header("content-security-policy")
                .ends_with(&format!("frame-ancestors {issuer}"))
        );
        assert!(page.headers.get("x-frame-options").is_none());
        assert_eq!(asks(&house, &mut alice).await, 401, "{keeping}");
    }
}

#[tokio::test]
async fn userinfo_tells_a_script_who_is_logged_in_and_no_token() {
    for keeping in KEEPINGS {
        let house = House::open_keeping(keeping).await;
        let mut admin = logged_in(&house, "admin").await;
        let page = admin.fetch(&house.url("/oauth2/userinfo")).await;
        assert_eq!(page.status, 200, "{keeping}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("content-type"), "application/json");
        assert_eq!(
            page.json(),
            json!({
                "sub": "admin", "username": "admin", "email": "admin@example.com", "groups": ["staff", "admins"],
                "provider": "corp", "expires_at": house.now() + 30 * 60,
            })
        );
        let nobody = Browser::new().open(&house.url("/oauth2/userinfo")).await;
        assert_eq!(nobody.status, 401);
        assert_eq!(nobody.header("content-type"), "application/problem+json");
        let request = client()
            .get(house.url("/oauth2/userinfo"))
            .bearer_auth(house.jwt("alice"));
        assert_eq!(request.send().await.unwrap().status(), 401, "sessions only");
        house.provider.log_out("admin").await.unwrap();
        assert_eq!(
            admin.fetch(&house.url("/oauth2/userinfo")).await.status,
            401,
            "{keeping}"
        );
    }
}
