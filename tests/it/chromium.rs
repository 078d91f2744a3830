//! The demo, logged into with a real Chromium.

use crate::support::{
    chromium::{Chromium, chromium_is_installed},
    demo::Demo,
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
