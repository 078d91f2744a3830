//! Who somebody is, in a real Chromium: as another account, at a provider of choice, and more strongly.

use crate::{
    decisions::{decisions, vestibule_decisions, watched_house},
    support::{
        chromium::{Chromium, chromium_is_installed},
        house::House,
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
