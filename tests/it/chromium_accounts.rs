//! Who somebody is, in a real Chromium: as another account, at a provider of choice, and more strongly.

use crate::{
    chooser::house_with_a_partner_and,
    decisions::{decisions, vestibule_decisions, watched_house},
    support::{
        chromium::{Chromium, chromium_is_installed},
        house::House,
        upstream::EchoUpstream,
    },
};

/// The reference id that the page shows.
async fn reference(chromium: &Chromium) -> String {
    let text = chromium.text().await;
    let (_, rest) = text.split_once("Reference ").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

/// What the application was told of who it is.
async fn wait_for_user(chromium: &Chromium, name: &str) {
    chromium.wait_for_text("x-forwarded-user").await;
    let text = chromium.text().await;
    let told: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    assert!(told.to_string().contains(&format!("\"{name}\"")), "{told}");
}

async fn log_in_at(chromium: &Chromium, house: &House, name: &str) {
    chromium.wait_for_login_page(house.provider.issuer()).await;
    chromium.log_in(name, name).await;
}

#[tokio::test]
async fn who_is_denied_goes_on_as_somebody_else_and_the_operator_sees_why() {
    if !chromium_is_installed() {
        return;
    }
    let (house, file) = watched_house("", "").await;
    let chromium = Chromium::start().await;
    let page = house.url("/admin/users?page=2");
    chromium.open(&page).await;
    log_in_at(&chromium, &house, "alice").await;
    chromium.wait_for_text("You may not enter here").await;
    chromium.wait_for_text("alice").await;
    chromium.pictures("account-1-denied").await;
    let id = reference(&chromium).await;

    chromium.click("form[action^='/oauth2/other_account'] button").await;
    log_in_at(&chromium, &house, "admin").await;
    wait_for_user(&chromium, "admin").await;
    assert_eq!(chromium.address().await, page, "back at the page that was denied");
    chromium.picture("account-2-arrived").await;

    let (status, found) = decisions(&house, &format!("/{id}")).await;
    assert_eq!((status, &found["username"]), (200, &"alice".into()), "{found}");
    assert_eq!(found["asked"]["requirements"][0]["wanted"], "admins");
    let said = vestibule_decisions(&house, &file, &[&id]).await.unwrap();
    assert!(said.contains("no   groups: admins"), "{said}");
}

#[tokio::test]
async fn a_person_chooses_a_provider_and_is_asked_for_a_stronger_login_there() {
    if !chromium_is_installed() {
        return;
    }
    let vault = EchoUpstream::start().await;
    let route = format!(
        "[route.vault]\nurl = \"http://ADDRESS/vault\"\nupstream = \"http://{}\"\nallow.acr = [\"urn:demo:mfa\"]\n",
        vault.address
    );
    let (house, partner) = house_with_a_partner_and(&route).await;
    let chromium = Chromium::start().await;
    let page = house.url("/page?x=1");
    chromium.open(&page).await;
    chromium.wait_for_text("How do you want to log in?").await;
    chromium.pictures("choice-1-chooser").await;
    chromium.click("a[href*='provider=partner']").await;
    chromium.wait_for_login_page(partner.issuer()).await;
    chromium.log_in("paula", "paula").await;
    wait_for_user(&chromium, "paula").await;
    assert_eq!(chromium.address().await, page);

    // Where she logged in is where she steps up: nobody asks her again.
    let gold = house.url("/vault/gold?bar=1");
    chromium.open(&gold).await;
    chromium.wait_for_login_page(partner.issuer()).await;
    chromium.wait_for_text("One-time code").await;
    chromium.pictures("choice-2-step-up").await;
    assert_eq!(vault.requests(), 0);
    chromium.type_into("code", "123456").await;
    chromium.log_in("paula", "paula").await;
    wait_for_user(&chromium, "paula").await;
    assert_eq!(chromium.address().await, gold);
    chromium.picture("choice-3-arrived").await;

    chromium.open(&house.url("/oauth2/sign_in?rd=%2Fpage")).await;
    chromium.wait_for_text("as last time").await;
    chromium.pictures("choice-4-remembered").await;
}
