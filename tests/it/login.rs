//! A browser comes to the door.

use std::time::{Duration, Instant};

use crate::support::{browser::Browser, house::House, upstream::told};

#[tokio::test]
async fn a_stranger_logs_in_and_arrives_at_the_page_that_was_asked_for() {
    let house = House::open().await;
    let mut alice = Browser::new();

    let form = alice.open(&house.url("/reports/q3?year=2026&sort=name")).await;
    assert!(form.text.contains("development"), "{}", form.text);
    let page = alice.log_in(&form, "alice", "alice").await;

    assert_eq!(page.url.as_str(), house.url("/reports/q3?year=2026&sort=name"));
    let seen = page.json();
    assert_eq!(seen["target"], "/reports/q3?year=2026&sort=name");
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "x-forwarded-email"), ["alice@example.com"]);
}

#[tokio::test]
async fn n_001_the_authorization_request_has_every_parameter_once() {
    let house = House::open().await;
    let page = Browser::new().peek(&house.url("/")).await;
    assert_eq!(page.status, 302);
    let (location, parameters) = page.location();
    assert_eq!(
        location.query_pairs().count(),
        parameters.len(),
        "a parameter repeats: {location}"
    );
    assert!(location.as_str().starts_with(house.provider.issuer()));
    assert_eq!(parameters["response_type"], "code");
    assert_eq!(parameters["client_id"], "wiki");
    assert_eq!(parameters["redirect_uri"], house.url("/oauth2/callback"));
    assert_eq!(parameters["code_challenge_method"], "S256");
    assert_eq!(parameters["code_challenge"].len(), 43);
    assert!(parameters["scope"].split(' ').any(|scope| scope == "openid"));
    assert!(parameters["state"].len() >= 22 && parameters["nonce"].len() >= 22);
}

#[tokio::test]
async fn n_010_the_redirect_is_kept_nowhere_and_tells_nothing() {
    let house = House::open().await;
    let page = Browser::new().peek(&house.url("/")).await;
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
}

#[tokio::test]
async fn n_004_several_tabs_finish_in_any_order() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let first = alice.open(&house.url("/first")).await;
    let second = alice.open(&house.url("/second")).await;
    assert_eq!(alice.cookies_named("-login-").len(), 2);
    assert_eq!(
        alice.log_in(&second, "alice", "alice").await.json()["target"],
        "/second"
    );
    assert_eq!(alice.log_in(&first, "alice", "alice").await.json()["target"], "/first");
    assert!(alice.cookies_named("-login-").is_empty());
}

#[tokio::test]
async fn f_19_a_browser_keeps_at_most_five_attempts() {
    let house = House::open().await;
    let mut alice = Browser::new();
    for tab in 0..9 {
        alice.peek(&house.url(&format!("/tab/{tab}"))).await;
        house.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(alice.cookies_named("-login-").len(), 5);
}

#[tokio::test]
async fn n_009_a_script_gets_401_and_never_a_redirect() {
    let house = House::open().await;
    let page = Browser::new().fetch(&house.url("/data")).await;
    assert_eq!(page.status, 401);
    assert_eq!(page.header("content-type"), "application/problem+json");
    assert!(page.header("www-authenticate").starts_with("Bearer realm="));
    assert!(!page.header("www-authenticate").contains("error"), "N-065");
    assert!(page.headers.get("set-cookie").is_none());
}

#[tokio::test]
async fn n_017_a_callback_that_is_replayed_starts_nothing() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    let kept = alice.cookies.clone();
    alice.log_in(&form, "alice", "alice").await;
    let callback = alice
        .history
        .iter()
        .find(|url| url.path() == "/oauth2/callback")
        .unwrap()
        .clone();
    let calls = house.token_calls();

    let again = alice.peek(callback.as_str()).await;
    assert_eq!(again.status, 400);
    assert!(again.text.contains("start again"), "{}", again.text);

    // A hostile client keeps the cookie that a browser gave up.
    let mut hostile = Browser::new();
    hostile.cookies = kept;
    assert_eq!(hostile.peek(callback.as_str()).await.status, 400);
    assert_eq!(house.token_calls(), calls);
}

#[tokio::test]
async fn n_016_a_foreign_or_stale_or_missing_state_asks_for_no_token() {
    let house = House::open().await;
    let (mut alice, mut mallory) = (Browser::new(), Browser::new());
    let form = alice.open(&house.url("/")).await;
    mallory.open(&house.url("/")).await;
    let calls = house.token_calls();
    let location = alice.authorize(&form, "alice", "alice").await;

    assert_eq!(
        mallory.peek(location.as_str()).await.status,
        400,
        "another browser's state"
    );
    assert_eq!(
        alice.peek(&house.url("/oauth2/callback?code=abc")).await.status,
        400,
        "no state"
    );
    assert_eq!(
        alice
            .peek(&house.url("/oauth2/callback?code=abc&state=x.y"))
            .await
            .status,
        400,
        "unknown state"
    );
    assert_eq!(
        alice.peek(&format!("{location}&state=x.y")).await.status,
        400,
        "N-021: state twice"
    );
    assert_eq!(
        alice.peek(&format!("{location}&code=x")).await.status,
        400,
        "N-021: code twice"
    );
    house.clock.advance(Duration::from_secs(3_600));
    assert_eq!(alice.peek(location.as_str()).await.status, 400, "stale");
    assert_eq!(house.token_calls(), calls);
}

#[tokio::test]
async fn n_019_a_response_of_another_issuer_is_not_redeemed() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    let location = alice.authorize(&form, "alice", "alice").await;
    let calls = house.token_calls();
    let swap = |issuer: &str| {
        let mut url = location.clone();
        let kept: Vec<_> = location
            .query_pairs()
            .into_owned()
            .filter(|(name, _)| name != "iss")
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        if !issuer.is_empty() {
            url.query_pairs_mut().append_pair("iss", issuer);
        }
        url
    };
    let slashed = format!("{}/", house.provider.issuer());
    for issuer in ["", "https://evil.example.com", &slashed] {
        let mut again = Browser::new();
        again.cookies = alice.cookies.clone();
        assert!(
            again.peek(swap(issuer).as_str()).await.status.as_u16() >= 400,
            "{issuer}"
        );
    }
    assert_eq!(house.token_calls(), calls);
}

#[tokio::test]
async fn a_cancelled_login_is_told_and_can_be_begun_again() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let (_, parameters) = alice.peek(&house.url("/secret")).await.location();
    let denied = format!(
        "/oauth2/callback?error=access_denied&error_description=%3Cscript%3E&state={}&iss={}",
        parameters["state"],
        house.provider.issuer()
    );
    let page = alice.open(&house.url(&denied)).await;
    assert_eq!(page.status, 403);
    assert!(!page.text.contains("<script"), "N-022");
    assert!(alice.cookies_named("-login-").is_empty());
}

#[tokio::test]
async fn i_15_every_login_makes_a_new_session() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let first = alice.session_cookie();
    alice.open(&house.url("/oauth2/start?rd=/again")).await;
    assert_ne!(alice.session_cookie(), first);
}

#[tokio::test]
async fn i_16_no_return_url_leads_away() {
    let house = House::open().await;
    for rd in [
        "https://evil.example.com/",
        "//evil.example.com/",
        "/\\evil.example.com",
        "\\\\evil.example.com",
        "/%5cevil",
        "/%2f/evil.example.com",
        "javascript:alert(1)",
        "/a//b",
        "/../x",
        "/%00",
        "http:evil.example.com",
        "/x\r\nSet-Cookie:a=b",
        " //evil.example.com",
        "/\t/evil.example.com",
        "/.//evil.example.com",
        "evil",
    ] {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("rd", rd)
            .finish();
        let page = Browser::new().peek(&house.url(&format!("/oauth2/start?{query}"))).await;
        assert_eq!(page.status, 400, "{rd:?} → {}", page.header("location"));
    }
    let twice = Browser::new().peek(&house.url("/oauth2/start?rd=/a&rd=/b")).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn a_loop_is_told_instead_of_turned() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    for _ in 0..10 {
        // The browser forgets the session each time, as if it refused the cookie.
        alice.cookies.retain(|(_, name), _| name != "vestibule");
        let page = alice.open(&house.url("/")).await;
        if page.status == 400 {
            assert!(page.text.contains("in circles"), "{}", page.text);
            return;
        }
    }
    panic!("went round and round");
}

#[tokio::test]
async fn n_120_a_tampered_cookie_is_nobody_and_is_taken_back() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let good = alice.session_cookie();
    for position in (0..good.len()).step_by(97) {
        let mut tampered = good.clone().into_bytes();
        tampered[position] = if tampered[position] == b'A' { b'B' } else { b'A' };
        alice.set_session_cookie(&String::from_utf8(tampered).unwrap());
        let page = alice.fetch(&house.url("/")).await;
        assert_eq!(page.status, 401, "at {position}");
        assert!(
            alice.cookies_named("vestibule").iter().all(|name| *name != "vestibule"),
            "at {position}"
        );
    }
    alice.set_session_cookie(&good[..good.len() / 2]);
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
}

#[tokio::test]
async fn n_126_a_session_ends_when_it_idles_and_at_the_end_of_its_life() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    house.clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(
        alice.fetch(&house.url("/")).await.status,
        200,
        "still there after 29 minutes"
    );
    house.clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "being seen keeps it");
    house.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401, "idle for too long");
}

#[tokio::test]
async fn the_access_token_is_refreshed_ahead_of_its_end_and_once() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let calls = house.token_calls();
    // Five minutes is the token's life, one minute ahead is the time to act.
    house.clock.advance(Duration::from_secs(4 * 60 + 5));
    let before = alice.session_cookie();
    let requests = (0..20).map(|_| {
        let (mut tab, url) = (Browser::new(), house.url("/"));
        tab.cookies = alice.cookies.clone();
        async move { tab.fetch(&url).await.status }
    });
    let statuses = futures_join(requests).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(house.token_calls(), calls + 1);
    let begun = Instant::now();
    while alice.session_cookie() == before {
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(10), "she never has a new cookie");
    }
    assert_eq!(house.token_calls(), calls + 1);
}

#[tokio::test]
async fn signing_out_ends_the_session_here_and_at_the_provider() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let out = alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    assert!(out.text.contains("signed out"), "{}", out.text);
    assert!(
        alice
            .history
            .iter()
            .any(|url| url.as_str().starts_with(house.provider.issuer()))
    );
    assert!(!alice.cookies_named("vestibule").contains(&"vestibule"));
    let again = alice.open(&house.url("/")).await;
    assert!(
        again.text.contains("password"),
        "the provider asks again: {}",
        again.text
    );
}

#[tokio::test]
async fn n_108_who_comes_back_with_another_state_is_asked_and_not_signed_out() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    let back = house.url("/oauth2/sign_out?state=");
    let sent = alice.history.iter().find_map(|url| {
        let mut pairs = url.query_pairs();
        pairs.any(|(name, _)| name == "post_logout_redirect_uri").then(|| {
            let state = url.query_pairs().find(|(name, _)| name == "state").unwrap();
            let hint = url.query_pairs().find(|(name, _)| name == "id_token_hint").unwrap();
            assert_eq!(hint.1.split('.').count(), 3, "the ID token as it came");
            state.1.into_owned()
        })
    });
    let sent = sent.expect("she was sent to the provider with a way back");
    assert!(alice.history.iter().any(|url| url.as_str() == format!("{back}{sent}")));
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    for state in ["guess", &sent] {
        let url: url::Url = format!("{back}{state}").parse().unwrap();
        let sent_back = alice.client().get(url.clone()).header("accept", "text/html");
        let sent_back = sent_back.header("sec-fetch-mode", "navigate");
        let page = alice.send(sent_back.header("sec-fetch-site", "cross-site"), url).await;
        assert!(page.text.contains("Do you want to sign out?"), "{}", page.text);
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{state}");
    }
}

#[tokio::test]
async fn n_107_a_foreign_page_signs_nobody_out() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let url: url::Url = house.url("/oauth2/sign_out").parse().unwrap();
    let image = alice
        .client()
        .get(url.clone())
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-dest", "image");
    alice.send(image, url.clone()).await;
    let form = alice
        .client()
        .post(url.clone())
        .header("sec-fetch-site", "cross-site")
        .header("origin", "https://evil.example.com");
    assert_eq!(alice.send(form, url).await.status, 403);
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn signing_out_without_a_session_succeeds_quietly() {
    let house = House::open().await;
    let page = Browser::new().post(&house.url("/oauth2/sign_out"), &[]).await;
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn somebody_who_may_not_enter_is_told_who_they_are_and_can_change() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/admin/users")).await;
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("<strong>alice</strong>"), "{}", page.text);
    assert!(page.text.contains("Use another account") && page.text.contains("Reference"));
    assert_eq!(house.upstream.requests(), 0);
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
}

#[tokio::test]
async fn f_18_somebody_with_hundreds_of_groups_fits() {
    let house = House::open().await;
    let mut many = Browser::new();
    let form = many.open(&house.url("/")).await;
    let page = many.log_in(&form, "many", "many").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(
        many.cookies_named("vestibule-1").len() == 1,
        "{:?}",
        many.cookies.keys()
    );
    assert!(
        !told(&page.json(), "cookie").join("; ").contains("vestibule"),
        "N-122: our cookies are not the application's"
    );
}

#[tokio::test]
async fn n_124_a_foreign_form_cannot_act_with_the_session() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let requests = house.upstream.requests();
    let url: url::Url = house.url("/transfer").parse().unwrap();
    let foreign = alice
        .client()
        .post(url.clone())
        .header("origin", "https://evil.example.com")
        .body("amount=1");
    assert_eq!(alice.send(foreign, url.clone()).await.status, 403);
    let own = alice
        .client()
        .post(url.clone())
        .header("origin", house.url("").trim_end_matches('/'))
        .body("amount=1");
    assert_eq!(alice.send(own, url).await.status, 200);
    assert_eq!(house.upstream.requests(), requests + 1);
}

async fn futures_join<F>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut outputs = Vec::new();
    for task in tasks.drain(..) {
        outputs.push(task.await.unwrap());
    }
    outputs
}
