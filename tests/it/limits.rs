//! Who tries too often from one address waits, and nobody else does.

use std::time::Duration;

use reqwest::Client;
use serde_json::json;

use crate::support::{
    browser::{Browser, client, client_at},
    house::{House, Place},
};

const OTHER: &str = "127.0.0.9";

async fn house() -> House {
    House::open_with(|_| {
        "\n[server.limits]\nlogins_per_minute = 3\nfailed_credentials_per_minute = 3\nlogouts_per_minute = 3\n"
            .to_owned()
    })
    .await
}

/// Status, and how long to wait.
async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let wait = response.headers().get("retry-after");
    let wait = wait.map_or("", |value| value.to_str().unwrap()).to_owned();
    (response.status().as_u16(), wait)
}

async fn show(house: &House, from: &Client, token: &str) -> (u16, String) {
    answer(from.get(house.url("/")).bearer_auth(token)).await
}

fn refused() -> (u16, String) {
    (429, "20".to_owned())
}

async fn counted(house: &House, kind: &str) -> bool {
    let line = format!("vestibule_rate_limited_total{{kind=\"{kind}\"}} ");
    let (_, text) = house.admin("/metrics").await;
    text.lines()
        .any(|text| text.starts_with(&line) && !text.ends_with(" 0"))
}

#[tokio::test]
async fn whose_tokens_keep_turning_out_bad_has_nobody_asked_about_the_next() {
    let house = house().await;
    let (known, unknown) = (house.opaque("alice"), house.opaque("admin"));
    assert_eq!(house.ask(&known).await, 200);
    for number in 0..3 {
        assert_eq!(house.ask(&format!("bad-{number}")).await, 401);
    }
    let asked = house.introspections();
    for number in 3..6 {
        assert_eq!(show(&house, &client(), &format!("bad-{number}")).await, refused());
    }
    assert_eq!(
        show(&house, &client(), &unknown).await,
        refused(),
        "nobody knows it yet"
    );
    assert_eq!(house.ask("bad-1").await, 401, "what is known to be bad costs nothing");
    assert_eq!(house.ask(&known).await, 200, "what is known to be good has no limit");
    assert_eq!(house.ask(&house.jwt("alice")).await, 200, "nor what proves itself");
    assert_eq!(house.introspections(), asked);
    assert!(counted(&house, "bearer_token").await);

    assert_eq!(show(&house, &client_at(OTHER), &unknown).await.0, 200, "somebody else");
    house.clock.advance(Duration::from_secs(20));
    assert_eq!(house.ask("bad-7").await, 401);
    assert_eq!(show(&house, &client(), "bad-8").await, refused());
    house.clock.advance(Duration::from_secs(60));
    for number in 9..12 {
        assert_eq!(house.ask(&format!("bad-{number}")).await, 401);
    }
}

#[tokio::test]
async fn one_bad_token_of_many_requests_counts_once() {
    let house = house().await;
    house.slow_introspection(Duration::from_millis(100));
    let statuses = house.ask_at_once(50, "bad", None).await;
    assert!(statuses.iter().all(|status| *status == Some(401)), "{statuses:?}");
    assert_eq!(house.ask(&house.opaque("alice")).await, 200);
}

#[tokio::test]
async fn who_does_not_wait_for_the_answer_is_counted_all_the_same() {
    let house = house().await;
    house.slow_introspection(Duration::from_millis(500));
    for number in 0..3 {
        let request = client().get(house.url("/")).bearer_auth(format!("bad-{number}"));
        let hung_up = request.timeout(Duration::from_millis(100)).send().await;
        assert!(hung_up.is_err_and(|error| error.is_timeout()));
    }
    for number in 0..3 {
        assert_eq!(
            house.ask(&format!("bad-{number}")).await,
            401,
            "which the provider has said by now"
        );
    }
    assert_eq!(house.introspections(), 3);
    assert_eq!(show(&house, &client(), "bad-3").await, refused());
    assert_eq!(house.introspections(), 3);
}

#[tokio::test]
async fn signatures_that_are_wrong_count_and_good_ones_do_not() {
    let house = house().await;
    let forged = |number: usize| {
        let good = house.jwt_with_scope("alice", &format!("scope-{number}"));
        let (message, _) = good.rsplit_once('.').unwrap();
        format!("{message}.{}", "A".repeat(342))
    };
    for number in 0..3 {
        assert_eq!(house.ask(&forged(number)).await, 401);
    }
    assert_eq!(show(&house, &client(), &forged(3)).await, refused());
    for _ in 0..10 {
        assert_eq!(house.ask(&house.jwt("alice")).await, 200);
    }
}

#[tokio::test]
async fn logins_begin_only_so_often_and_go_on_after_the_minute() {
    let house = house().await;
    let start = |client: Client| answer(client.get(house.url("/oauth2/start?rd=/")));
    for _ in 0..3 {
        assert_eq!(start(client()).await.0, 302);
    }
    assert_eq!(start(client()).await, refused());
    assert_eq!(start(client_at(OTHER)).await.0, 302);
    let mut browser = Browser::new();
    let page = browser.open(&house.url("/")).await;
    assert!(page.text.contains("<form"), "to be sent to log in has no limit");
    assert!(counted(&house, "login_start").await);
    house.clock.advance(Duration::from_secs(20));
    assert_eq!(start(client()).await.0, 302);
    assert_eq!(start(client()).await, refused());
}

#[tokio::test]
async fn a_login_that_comes_too_soon_can_be_finished_later() {
    let house = house().await;
    for name in ["alice", "mallory", "admin"] {
        let mut browser = Browser::new();
        let form = browser.open(&house.url("/")).await;
        assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    }
    let mut late = Browser::new();
    let form = late.open(&house.url("/")).await;
    let response = late.authorize(&form, "many", "many").await;
    let redeemed = house.token_calls();
    let page = late.peek(response.as_str()).await;
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (429, "20"));
    assert!(page.text.contains("Too many at once"));
    assert_eq!(house.token_calls(), redeemed, "nobody asked the provider");
    assert!(counted(&house, "login").await);
    house.clock.advance(Duration::from_secs(20));
    assert_eq!(late.open(response.as_str()).await.status, 200);
}

async fn tell(house: &House, from: &Client, token: &str) -> (u16, String) {
    let request = from.post(house.url("/oauth2/backchannel_logout"));
    answer(request.form(&[("logout_token", token)])).await
}

/// A logout token of the provider for somebody who never logged in.
fn good_logout_token(house: &House) -> String {
    let now = house.now();
    let claims = json!({
        "iss": house.provider.issuer(), "aud": "wiki", "iat": now, "exp": now + 120, "sub": "nobody",
        "jti": vestibule::secret::random_text::<8>(),
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    house.sign(&json!({"alg": "RS256", "typ": "logout+jwt"}), &claims)
}

#[tokio::test]
async fn n_113_bad_logout_tokens_are_limited_and_good_ones_are_not() {
    let house = house().await;
    for _ in 0..3 {
        assert_eq!(tell(&house, &client(), "nonsense").await.0, 400);
    }
    assert_eq!(tell(&house, &client(), "nonsense").await, refused());
    assert_eq!(tell(&house, &client_at(OTHER), "nonsense").await.0, 400);
    for _ in 0..10 {
        let token = good_logout_token(&house);
        assert_eq!(tell(&house, &client(), &token).await.0, 200);
        assert_eq!(tell(&house, &client(), &token).await, refused(), "used before");
    }
    assert!(counted(&house, "backchannel_logout").await);
    house.clock.advance(Duration::from_secs(20));
    assert_eq!(tell(&house, &client(), "nonsense").await.0, 400);
}

#[tokio::test]
async fn n_114_frames_that_end_sessions_are_limited() {
    let house = house().await;
    let issuer = house.provider.issuer().to_owned();
    let url = house.url(&format!("/oauth2/frontchannel_logout?iss={issuer}&sid=guess"));
    for _ in 0..3 {
        assert_eq!(answer(client().get(&url)).await.0, 200);
    }
    assert_eq!(answer(client().get(&url)).await, refused());
    assert_eq!(answer(client_at(OTHER).get(&url)).await.0, 200);
    assert!(counted(&house, "frontchannel_logout").await);
}

#[tokio::test]
async fn an_ipv6_network_counts_as_one_address_and_a_stranger_cannot_name_one() {
    let house = house().await;
    let start = |from: Client, address: &'static str| {
        let request = from.get(house.url("/oauth2/start?rd=/"));
        answer(request.header("x-forwarded-for", address))
    };
    let proxy = || client_at(crate::support::browser::PROXY);
    for address in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:3::4"] {
        assert_eq!(start(proxy(), address).await.0, 302);
    }
    assert_eq!(start(proxy(), "2001:db8:1:2:9::9").await, refused());
    assert_eq!(start(proxy(), "2001:db8:1:3::1").await.0, 302);
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        assert_eq!(start(client(), address).await.0, 302);
    }
    assert_eq!(
        start(client(), "203.0.113.4").await,
        refused(),
        "what a stranger says is nothing"
    );
}

#[tokio::test]
async fn no_limit_can_be_had() {
    let house = House::open_with(|_| {
        "\n[server.limits]\nlogins_per_minute = 0\nfailed_credentials_per_minute = 0\nlogouts_per_minute = 0\n"
            .to_owned()
    })
    .await;
    for number in 0..100 {
        assert_eq!(house.ask(&format!("bad-{number}")).await, 401);
    }
    assert_eq!(house.introspections(), 100);
    assert_eq!(house.provider.calls(Place::Introspection), 100);
}

const RIGHT: &str = "the-token-of-the-operator";

#[tokio::test]
async fn an_administrators_token_cannot_be_guessed_for_long() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), RIGHT).unwrap();
    let path = file.path().to_owned();
    let house = House::open_with(move |_| {
        format!(
            "\n[server.limits]\nfailed_credentials_per_minute = 3\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {path:?}\n"
        )
    })
    .await;
    let url = format!("http://{}/sessions", house.admin_address());
    let ask = |from: Client, token: &'static str| answer(from.get(&url).bearer_auth(token));
    for guess in ["a", "b", "c"] {
        assert_eq!(ask(client(), guess).await.0, 401);
    }
    assert_eq!(ask(client(), "d").await, refused());
    assert_eq!(
        ask(client(), RIGHT).await,
        refused(),
        "a guess that is right is not told"
    );
    assert_eq!(ask(client_at(OTHER), RIGHT).await.0, 200);
    assert!(counted(&house, "admin_token").await);
    house.clock.advance(Duration::from_secs(20));
    assert_eq!(ask(client(), RIGHT).await.0, 200);
}
