//! The demo, and what ends a session, in a real Chromium.

use std::time::Duration;

use vestibule::demo::legacy_app::LegacyApp;

use crate::support::{
    chromium::{Chromium, chromium_is_installed},
    demo::Demo,
    house::House,
};

#[tokio::test]
async fn a_person_logs_in_signs_the_guestbook_and_signs_out() {
    if !chromium_is_installed() {
        return;
    }
    let demo = Demo::start();
    let chromium = Chromium::start().await;

    let deep = demo.url("/entries/archive?year=1999");
    chromium.open(&deep).await;
    chromium.wait_for_text("development").await;
    chromium.picture("1-login-form").await;
    chromium.log_in("alice", "alice").await;
    chromium.wait_for_text("alice@example.com").await;
    assert_eq!(chromium.address().await, deep, "back at the deep link");
    chromium.picture("2-deep-link").await;

    chromium.open(&demo.url("/")).await;
    chromium.type_into("message", "hello from a real browser").await;
    chromium.click("form[action='/sign'] button").await;
    chromium.wait_for_text("hello from a real browser").await;
    chromium.picture("3-guestbook").await;

    chromium.open(&demo.url("/admin")).await;
    chromium.wait_for_text("You may not enter here").await;
    chromium.wait_for_text("Reference").await;
    chromium.picture("4-denied").await;

    chromium.open(&demo.url("/")).await;
    chromium.click("form[action='/oauth2/sign_out'] button").await;
    chromium.wait_for_text("You are signed out").await;
    chromium.picture("5-signed-out").await;

    chromium.open(&demo.url("/")).await;
    chromium.wait_for_text("development").await;
    chromium.log_in("admin", "admin").await;
    chromium.wait_for_text("admin@example.com").await;
    chromium.open(&demo.url("/admin")).await;
    chromium.wait_for_text("admin").await;
    assert!(!chromium.text().await.contains("You may not enter here"));
    chromium.picture("6-admin").await;
}

/// The page's WebSocket and its event stream are connected, and say one thing after another.
async fn watch(chromium: &Chromium) {
    for wire in ["socket", "events"] {
        chromium.wait_for_text_in(wire, "connected").await;
        chromium.wait_for_text_in(wire, "the pot is").await;
        chromium.wait_for_news_in(wire).await;
    }
}

/// Both have closed: the WebSocket says why, and the event stream has tried to come back.
async fn both_close(chromium: &Chromium) {
    chromium.wait_for_text_in("socket", "closed: 1008").await;
    chromium.wait_for_text_in("events", "does not let it in again").await;
}

async fn next_click_leads_to_the_login_page(chromium: &Chromium, issuer: &str) {
    chromium.click("#again").await;
    chromium.wait_for_login_page(issuer).await;
}

#[tokio::test]
async fn a_back_channel_logout_closes_what_a_page_has_open_and_the_next_click_logs_in() {
    if !chromium_is_installed() {
        return;
    }
    let demo = Demo::start();
    let chromium = Chromium::start().await;
    chromium.open(&demo.url("/live")).await;
    chromium.wait_for_login_page(&demo.issuer()).await;
    chromium.pictures("live-1-login-page").await;
    chromium.log_in("alice", "alice").await;
    watch(&chromium).await;
    chromium.pictures("live-2-connected").await;

    let page = chromium.tab().await;
    chromium.open_in_new_tab(&demo.issuer()).await;
    chromium.wait_for_text("You are logged in here as alice").await;
    chromium.pictures("live-3-at-the-provider").await;
    chromium.click("form[action='/logout'] button").await;
    chromium.wait_for_text("You are logged out").await;

    chromium.show_tab(page).await;
    both_close(&chromium).await;
    chromium.pictures("live-4-closed").await;
    next_click_leads_to_the_login_page(&chromium, &demo.issuer()).await;
    chromium.log_in("alice", "alice").await;
    watch(&chromium).await;
    assert_eq!(chromium.address().await, demo.url("/live"));
}

/// A house with the page, whose provider asks for the password at every login.
async fn house_with_page(store: &str) -> (House, LegacyApp) {
    let application = LegacyApp::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let upstream = application.address();
    let house = House::open_with(|address| {
        format!(
            r#"
[session]
store = "{store}"

[provider.corp.authorization_params]
prompt = "login"

[route.live]
url = "http://{address}/live"
upstream = "http://{upstream}"
"#
        )
    });
    (house.await, application)
}

async fn open_page(house: &House) -> Chromium {
    let chromium = Chromium::start().await;
    chromium.open(&house.url("/live")).await;
    chromium.wait_for_login_page(house.provider.issuer()).await;
    chromium.log_in("alice", "alice").await;
    watch(&chromium).await;
    chromium
}

#[tokio::test]
async fn a_page_that_only_listens_is_closed_when_its_session_has_idled() {
    if !chromium_is_installed() {
        return;
    }
    let (house, _application) = house_with_page("cookie").await;
    let chromium = open_page(&house).await;
    house.clock.advance(Duration::from_secs(30 * 60));
    both_close(&chromium).await;
    chromium.picture("idle-1-closed").await;
    next_click_leads_to_the_login_page(&chromium, house.provider.issuer()).await;
    chromium.picture("idle-2-login-page").await;
}

#[tokio::test]
async fn signing_out_everywhere_in_one_browser_closes_what_another_has_open() {
    if !chromium_is_installed() {
        return;
    }
    let (house, _application) = house_with_page("memory").await;
    let (watching, leaving) = tokio::join!(open_page(&house), open_page(&house));
    leaving.click("button[formaction='/oauth2/sign_out?everywhere']").await;
    leaving.wait_for_text("Signed out everywhere").await;
    leaving.picture("everywhere-1-signed-out").await;
    both_close(&watching).await;
    watching.picture("everywhere-2-closed-elsewhere").await;
    next_click_leads_to_the_login_page(&watching, house.provider.issuer()).await;
    leaving.open(&house.url("/live")).await;
    leaving.wait_for_login_page(house.provider.issuer()).await;
}
