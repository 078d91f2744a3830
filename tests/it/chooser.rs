//! Two providers at one door.

use std::sync::Arc;

use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Place, User},
    secret::Secret,
    time::ManualClock,
};

use crate::support::{
    browser::{Browser, client},
    house::{House, OPENING},
    upstream::told,
};

/// A house whose every route takes the people of a partner too.
async fn house_with_a_partner() -> (House, AuthorizationServer) {
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
    let house = House::open_with(|_| {
        format!(
            r#"
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
        &house.url("/oauth2/callback"),
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
