//! Two providers at one door.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use url::Url;
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Place, User},
    secret::Secret,
    time::ManualClock,
};

use crate::support::{
    browser::{Browser, client},
    house::{Fault, House, OPENING},
    upstream::told,
};

/// A house whose every route takes the people of a partner too.
async fn house_with_a_partner() -> (House, AuthorizationServer) {
    house_with_a_partner_and("").await
}

/// With more in the file, where `ADDRESS` is the gateway's own.
pub(crate) async fn house_with_a_partner_and(more: &str) -> (House, AuthorizationServer) {
    let partner = AuthorizationServer::builder(Arc::new(ManualClock::starting_at(OPENING)))
        .client(Client {
            id: "vestibule".into(),
            secret: Some(Secret::new("other")),
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            audience: "https://wiki.example.com".into(),
            access_tokens: AccessTokenKind::Jwt,
            scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
        })
        .user(User::named("paula"))
        .listen("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let issuer = partner.issuer().to_owned();
    let house = House::open_with(|address| {
        let more = more.replace("ADDRESS", &address.to_string());
        format!(
            r#"
{more}
[provider.partner]
display_name = "Partner & Sons"
issuer = "{issuer}"
client_id = "vestibule"
client_secret = "other"
client_auth = "client_secret_post"
bearer.audiences = ["https://wiki.example.com"]
"#
        )
    })
    .await;
    partner.register_redirect(
        "vestibule",
        &house.url("/oauth2/callback/partner"),
        &house.url("/oauth2/sign_out"),
    );
    (house, partner)
}

#[tokio::test]
async fn a_person_chooses_where_to_log_in_and_arrives() {
    let (house, partner) = house_with_a_partner().await;
    let mut paula = Browser::new();
    let page = paula.open(&house.url("/page?x=1")).await;
    assert_eq!(page.url.path(), "/oauth2/sign_in");
    assert!(
        page.text.contains("Partner &amp; Sons") && page.text.contains("corp"),
        "{}",
        page.text
    );
    let start = format!("/oauth2/start?provider=partner&rd={}", "%2Fpage%3Fx%3D1");
    let form = paula.open(&house.url(&start)).await;
    let page = paula.log_in(&form, "paula", "paula").await;
    assert_eq!(page.json()["target"], "/page?x=1");
    assert_eq!(told(&page.json(), "x-forwarded-user"), ["paula"]);
    assert_eq!(
        (partner.calls(Place::Token), house.token_calls()),
        (1, 0),
        "N-020: the code went where it came from"
    );
}

#[tokio::test]
async fn nobody_can_be_sent_to_a_provider_that_is_not_there() {
    let (house, _partner) = house_with_a_partner().await;
    for query in [
        "provider=evil",
        "provider=corp&provider=partner",
        "provider=https%3A%2F%2Fevil.example.com",
    ] {
        let page = Browser::new().peek(&house.url(&format!("/oauth2/start?{query}"))).await;
        assert_eq!(page.status, 400, "{query}");
    }
}

#[tokio::test]
async fn tokens_are_told_apart_by_their_issuer_before_a_key_is_fetched() {
    let (house, partner) = house_with_a_partner().await;
    let audience = "https://wiki.example.com";
    assert_eq!(house.ask(&house.jwt("alice")).await, 200);
    assert_eq!(partner.calls(Place::Keys), 0);
    assert_eq!(house.ask(&partner.issue_jwt("paula", audience, "openid")).await, 200);
    assert_eq!((house.key_fetches(), partner.calls(Place::Keys)), (1, 1));
    // An opaque token is asked about where it may be known.
    assert_eq!(house.ask(&partner.issue_opaque("paula", audience, "openid")).await, 200);
    let nobodys = client()
        .get(house.url("/"))
        .bearer_auth("nobodys")
        .send()
        .await
        .unwrap();
    assert_eq!(nobodys.status(), 401);
}

/// Logs somebody in at the partner's, where they were sent.
async fn log_in_at_partner(browser: &mut Browser, house: &House, path: &str) {
    let form = browser
        .open(&house.url(&format!("/oauth2/start?provider=partner&rd={path}")))
        .await;
    let page = browser.log_in(&form, "paula", "paula").await;
    assert_eq!(told(&page.json(), "x-forwarded-user"), ["paula"]);
}

/// Long enough for every session to be over.
fn the_next_day(house: &House) {
    house.clock.advance(Duration::from_secs(24 * 60 * 60));
}

#[tokio::test]
async fn the_provider_of_the_last_login_is_asked_first() {
    let (house, partner) = house_with_a_partner().await;
    let mut paula = Browser::new();
    log_in_at_partner(&mut paula, &house, "/").await;
    assert!(
        !house.upstream.last().to_string().contains("vestibule-provider"),
        "it goes no further"
    );
    let mut later = Browser::new();
    log_in_at_partner(&mut later, &house, "/").await;
    the_next_day(&house);
    let sent = later.peek(&house.url("/page")).await;
    assert!(
        sent.location().0.as_str().starts_with(partner.issuer()),
        "{}",
        sent.header("location")
    );

    // The way to the others stays open.
    let page = paula.open(&house.url("/oauth2/sign_in?rd=%2Fpage")).await;
    let (first, second) = (
        page.text.find("Partner &amp; Sons").unwrap(),
        page.text.find("corp</a>").unwrap(),
    );
    assert!(first < second && page.text.contains("as last time"), "{}", page.text);
    paula.post(&house.url("/oauth2/sign_out"), &[]).await;
    assert_eq!(
        paula.open(&house.url("/page")).await.url.path(),
        "/oauth2/sign_in",
        "after a sign-out"
    );
}

#[tokio::test]
async fn another_account_may_be_one_elsewhere() {
    let (house, _partner) = house_with_a_partner().await;
    let mut paula = Browser::new();
    log_in_at_partner(&mut paula, &house, "/").await;
    let denied = paula.open(&house.url("/admin/users")).await;
    assert_eq!(denied.status, 403);
    let chooser = paula.submit(&denied, &[]).await.goes_on_to();
    let page = paula.open(chooser.as_str()).await;
    assert!(!page.text.contains("as last time"), "{}", page.text);
    let start = "/oauth2/start?provider=corp&amp;rd=%2Fadmin%2Fusers&amp;prompt=select_account";
    assert!(page.text.replace("&#x2f;", "/").contains(start), "{}", page.text);
    let form = paula.open(&house.url(&start.replace("&amp;", "&"))).await;
    let page = paula.log_in(&form, "admin", "admin").await;
    assert_eq!(page.json()["target"], "/admin/users");
}

#[tokio::test]
async fn a_choice_that_means_nothing_any_more_is_none() {
    let (house, _partner) = house_with_a_partner().await;
    for value in ["evil", "", "https://evil.example.com", "corp%20", "Partner"] {
        let mut browser = Browser::new();
        let key = ("127.0.0.1".to_owned(), "vestibule-provider".to_owned());
        browser.cookies.insert(key, value.to_owned());
        assert_eq!(
            browser.open(&house.url("/page")).await.url.path(),
            "/oauth2/sign_in",
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_is_down_locks_nobody_in() {
    let (house, partner) = house_with_a_partner().await;
    let mut paula = Browser::new();
    log_in_at_partner(&mut paula, &house, "/").await;
    partner.stop().await;
    the_next_day(&house);
    // What it said of itself is known still, so it is the browser that finds nobody there; and comes back.
    let sent = paula.peek(&house.url("/page")).await;
    assert!(sent.location().0.as_str().starts_with(partner.issuer()));
    assert_eq!(paula.open(&house.url("/page")).await.url.path(), "/oauth2/sign_in");

    // Where not even that is known, the page says how to go on.
    house
        .reload(&house.file.replace(partner.issuer(), "http://127.0.0.1:1"))
        .unwrap();
    let mut paula = Browser::new();
    let key = ("127.0.0.1".to_owned(), "vestibule-provider".to_owned());
    paula.cookies.insert(key, "partner".to_owned());
    let page = paula.open(&house.url("/page?x=1")).await;
    assert_eq!(page.status, 503);
    assert!(
        page.text
            .replace("&#x2f;", "/")
            .contains("/oauth2/sign_in?rd=%2Fpage%3Fx%3D1"),
        "{}",
        page.text
    );
}

/// The partner turns hostile: it hands browsers that are to log in there on to the honest provider, with the state of
/// the login that was begun with the partner, and hopes to be brought the honest one's code.
async fn handed_on(victim: &mut Browser, house: &House, callback: &str) -> Url {
    let (_, mut asked) = victim
        .peek(&house.url("/oauth2/start?provider=partner"))
        .await
        .location();
    asked.insert("client_id".to_owned(), "wiki".to_owned());
    asked.insert("redirect_uri".to_owned(), house.url(callback));
    let honest = format!("{}/authorize", house.provider.issuer());
    let form = victim
        .open(Url::parse_with_params(&honest, asked).unwrap().as_str())
        .await;
    match form.status.as_u16() {
        200 => victim.authorize(&form, "alice", "alice").await,
        _ => form.url,
    }
}

/// As an honest provider would send it that does not say who it is.
fn without_issuer(response: &Url) -> Url {
    let mut bare = response.clone();
    let others = response.query_pairs().filter(|(name, _)| name != "iss");
    bare.query_pairs_mut().clear().extend_pairs(others);
    bare
}

#[tokio::test]
async fn n_020_a_code_of_the_honest_provider_never_reaches_the_hostile_one() {
    let (house, hostile) = house_with_a_partner().await;
    // It promises nothing of the kind, so that nothing is missed.
    let url = format!("{}/.well-known/openid-configuration", hostile.issuer());
    let text = client().get(url).send().await.unwrap().text().await.unwrap();
    let unnamed = text.replace("\"authorization_response_iss_parameter_supported\":true,", "");
    assert_ne!(text, unnamed);
    hostile.fault(
        Place::Discovery,
        Fault::answer(200, "application/json", unnamed.as_bytes()),
    );

    // The second would be taken where it is the only one.
    for callback in ["/oauth2/callback/corp", "/oauth2/callback"] {
        for names_issuer in [true, false] {
            let mut victim = Browser::new();
            let response = handed_on(&mut victim, &house, callback).await;
            assert!(response.query().unwrap().contains("code="), "{response}");
            let response = if names_issuer {
                response
            } else {
                without_issuer(&response)
            };
            let page = victim.open(response.as_str()).await;
            assert_eq!(page.status, 502, "{callback} {names_issuer}: {}", page.text);
            assert!(page.text.contains("Log in another way"), "{}", page.text);
            assert_eq!(
                (hostile.calls(Place::Token), house.token_calls()),
                (0, 0),
                "{callback} {names_issuer}"
            );
            assert_eq!(victim.fetch(&house.url("/")).await.status, 401, "nobody is logged in");
        }
    }
    // Where its own would be, the honest one does not lead.
    let mut victim = Browser::new();
    let refused = handed_on(&mut victim, &house, "/oauth2/callback/partner").await;
    assert!(refused.as_str().starts_with(house.provider.issuer()), "{refused}");
}

#[tokio::test]
async fn nobody_is_asked_about_tokens_of_an_issuer_that_is_not_in_the_file() {
    let (house, partner) = house_with_a_partner().await;
    let stranger = AuthorizationServer::builder(Arc::new(ManualClock::starting_at(OPENING)))
        .user(User::named("alice"))
        .listen("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let now = house.now();
    let claims = |issuer: &str| {
        json!({
            "iss": issuer, "aud": "https://wiki.example.com", "sub": "alice", "client_id": "script", "iat": now,
            "exp": now + 300, "jti": "1",
        })
    };
    let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "1"});
    let mut pointing = header.clone();
    for name in ["jku", "x5u"] {
        pointing[name] = format!("{}/jwks", stranger.issuer()).into();
    }
    let mut nameless = claims("");
    nameless.as_object_mut().unwrap().remove("iss");
    let mut many = claims("");
    many["iss"] = json!([house.provider.issuer(), stranger.issuer()]);
    let opaque = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let tokens = [
        stranger.issue_jwt("alice", "https://wiki.example.com", "openid"),
        stranger.sign(&header, &claims(&format!("{}/", house.provider.issuer()))),
        house.sign(&header, &nameless),
        house.sign(&header, &many),
        format!(
            "{}.{}.{}",
            opaque(&header.to_string()),
            opaque("no claims"),
            opaque("x")
        ),
        format!(
            "{}.{}.{}",
            opaque("no header"),
            opaque(&claims(partner.issuer()).to_string()),
            opaque("x")
        ),
    ];
    for token in tokens {
        // What is no token at all is no good request either.
        let status = house.ask(&token).await;
        assert!(matches!(status, 400 | 401), "{status}: {token}");
    }
    assert_eq!((house.key_fetches(), partner.calls(Place::Keys)), (0, 0));
    // Where it says that the keys are is nobody's business either: the issuer is asked, and has no such key.
    assert_eq!(
        house
            .ask(&stranger.sign(&pointing, &claims(house.provider.issuer())))
            .await,
        401
    );
    for place in [Place::Discovery, Place::Keys, Place::Introspection, Place::Userinfo] {
        assert_eq!(stranger.calls(place), 0, "{place:?}");
    }
}
