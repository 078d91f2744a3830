//! Somebody who may not enter goes on as somebody else, and arrives where they were.

use serde_json::{Value, json};

use crate::support::{
    browser::{Browser, Page, client},
    house::{Fault, House, Place},
    upstream::told,
};

/// Alice, where she may not be.
async fn denied(house: &House) -> (Browser, Page) {
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/admin/users?page=2")).await;
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(page.status, 403);
    (alice, page)
}

#[tokio::test]
async fn another_account_is_asked_for_and_arrives_at_the_page_that_was_denied() {
    let house = House::open_keeping("store = \"memory\"").await;
    let (mut browser, page) = denied(&house).await;
    let session_of_alice = browser.session_cookie();

    let page = browser.submit(&page, &[]).await;
    let way = page.goes_on_to();
    assert!(way.as_str().starts_with(house.provider.issuer()), "{way}");
    assert!(way.as_str().contains("prompt=select_account"), "{way}");
    assert!(
        browser
            .cookies_named("vestibule")
            .iter()
            .all(|name| name.contains("login-"))
    );
    let mut copy = Browser::new();
    copy.set_session_cookie(&session_of_alice);
    assert_eq!(
        copy.fetch(&house.url("/")).await.status,
        401,
        "her session is over, and not only forgotten"
    );

    // Alice is still logged in at the provider, which asks all the same.
    let form = browser.open(way.as_str()).await;
    assert!(form.text.contains("Password"), "{}", form.text);
    let page = browser.log_in(&form, "admin", "admin").await;
    assert_eq!(page.json()["target"], "/admin/users?page=2");
    assert_eq!(told(&page.json(), "x-forwarded-user"), ["admin"]);
}

#[tokio::test]
async fn whoever_changes_accounts_again_and_again_goes_in_no_circles() {
    let house = House::open().await;
    let (mut browser, mut page) = denied(&house).await;
    for name in ["mallory", "alice", "mallory", "nobody-special"] {
        let way = browser.submit(&page, &[]).await.goes_on_to();
        let form = browser.open(way.as_str()).await;
        page = browser.log_in(&form, name, name).await;
        assert_eq!(page.status, 403);
        assert!(page.text.contains(&format!("<strong>{name}</strong>")), "{}", page.text);
    }
}

#[tokio::test]
async fn n_107_a_page_of_another_site_changes_nobodys_account() {
    let house = House::open().await;
    let (mut alice, _) = denied(&house).await;
    let url: url::Url = house.url("/oauth2/other_account?rd=%2F").parse().unwrap();
    let form = client()
        .post(url.clone())
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate")
        .header("origin", "https://evil.example.com");
    assert_eq!(alice.send(form, url.clone()).await.status, 403);
    assert_eq!(
        alice.peek(url.as_str()).await.status,
        405,
        "a link does not do it either"
    );
    let away = house.url("/oauth2/other_account?rd=https%3A%2F%2Fevil.example.com");
    assert_eq!(alice.post(&away, &[]).await.status, 400, "and nobody is led astray");
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
}

/// What the provider says of itself, changed.
async fn metadata(house: &House, changes: &Value) -> Fault {
    let url = format!("{}/.well-known/openid-configuration", house.provider.issuer());
    let text = client().get(url).send().await.unwrap().text().await.unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    Fault::answer(200, "application/json", document.to_string().as_bytes())
}

#[tokio::test]
async fn a_provider_is_asked_in_words_that_it_knows() {
    let house = House::open().await;
    let only_login = metadata(
        &house,
        &json!({"prompt_values_supported": ["none", "login", "consent"]}),
    )
    .await;
    house.fault(Place::Discovery, only_login);
    let (mut browser, page) = denied(&house).await;
    let way = browser.submit(&page, &[]).await.goes_on_to();
    assert!(way.as_str().contains("prompt=login"), "{way}");
    assert!(browser.open(way.as_str()).await.text.contains("Password"));
}

#[tokio::test]
async fn whoever_cannot_log_in_elsewhere_keeps_the_session() {
    let house = House::open_with(|address| {
        format!(
            "[provider.away]\nissuer = \"http://127.0.0.1:9\"\nclient_id = \"x\"\nclient_secret = \"x\"\n\
             [route.away]\nurl = \"http://{address}/away\"\nupstream = \"http://127.0.0.1:9\"\nproviders = [\"away\"]\n\
             [route.here]\nurl = \"http://{address}/here\"\nupstream = \"http://127.0.0.1:9\"\nproviders = [\"corp\"]\n"
        )
    })
    .await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/here")).await;
    assert_eq!(
        alice.log_in(&form, "alice", "alice").await.status,
        502,
        "through the door"
    );
    let away = house.url("/oauth2/other_account?rd=%2Faway");
    assert_eq!(alice.post(&away, &[]).await.status, 503);
    assert_eq!(alice.open(&house.url("/here")).await.status, 502, "she is still known");
}
