//! Whoever runs the gateway sees its sessions, and ends them.

use std::process::Command;

use crate::support::{
    browser::{Browser, client},
    house::House,
};

const TOKEN: &str = "the-token-of-the-operator";

/// A house whose sessions can be administered, and the file with the token.
async fn house(store: &str) -> (House, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let (store, path) = (store.to_owned(), file.path().to_owned());
    let house = House::open_with(move |_| {
        format!("[session]\nstore = \"{store}\"\nread_cache = \"0s\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {path:?}\n")
    })
    .await;
    (house, file)
}

async fn logged_in(house: &House, name: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    browser
}

/// What the command answers, when it answers at all.
async fn vestibule(
    house: &House,
    file: &tempfile::NamedTempFile,
    arguments: &[&str],
) -> Result<serde_json::Value, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command
        .arg("sessions")
        .args(arguments)
        .args(["--admin", &house.admin_address().to_string(), "--token-file"])
        .arg(file.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[tokio::test]
async fn sessions_are_listed_without_a_secret_and_ended_one_by_one() {
    let (house, file) = house("memory").await;
    let (mut alice, mut many) = (logged_in(&house, "alice").await, logged_in(&house, "many").await);
    let listed = vestibule(&house, &file, &["list"]).await.unwrap();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{listed}");
    for secret in [alice.session_cookie().as_str(), "department", "alice@example.com"] {
        assert!(!listed.to_string().contains(secret), "{listed}");
    }
    let of_alice = vestibule(&house, &file, &["list", "--provider", "corp", "--subject", "alice"])
        .await
        .unwrap();
    let id = of_alice["sessions"][0]["id"].as_str().unwrap();
    assert_eq!(vestibule(&house, &file, &["revoke", id]).await.unwrap()["ended"], 1);
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
    assert_eq!(many.fetch(&house.url("/")).await.status, 200);
    assert!(
        vestibule(&house, &file, &["revoke", id])
            .await
            .unwrap_err()
            .contains("no such session")
    );
}

#[tokio::test]
async fn all_of_a_person_or_of_a_provider_are_ended_wherever_they_are_kept() {
    for store in ["cookie", "memory"] {
        let (house, file) = house(store).await;
        let (mut first, mut second) = (logged_in(&house, "alice").await, logged_in(&house, "alice").await);
        let mut many = logged_in(&house, "many").await;
        vestibule(&house, &file, &["revoke", "--provider", "corp", "--subject", "alice"])
            .await
            .unwrap();
        for browser in [&mut first, &mut second] {
            assert_eq!(browser.fetch(&house.url("/")).await.status, 401, "{store}");
        }
        assert_eq!(many.fetch(&house.url("/")).await.status, 200, "{store}");
        vestibule(&house, &file, &["revoke", "--provider", "corp"])
            .await
            .unwrap();
        assert_eq!(many.fetch(&house.url("/")).await.status, 401, "{store}");
        assert!(
            vestibule(&house, &file, &["revoke", "--provider", "nobody"])
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn nobody_else_is_let_in() {
    let (house, _file) = house("memory").await;
    let url = format!("http://{}/sessions", house.admin_address());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 401);
    assert_eq!(
        client().get(&url).bearer_auth("guess").send().await.unwrap().status(),
        401
    );
    assert_eq!(
        client().get(&url).bearer_auth(TOKEN).send().await.unwrap().status(),
        200
    );
    assert_eq!(
        client().post(&url).bearer_auth(TOKEN).send().await.unwrap().status(),
        400
    );
    // The listener of the applications has no such place: there it is the application's.
    assert_eq!(
        client()
            .get(house.url("/sessions"))
            .bearer_auth(TOKEN)
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    let closed = House::open().await;
    let url = format!("http://{}/sessions", closed.admin_address());
    assert_eq!(client().get(&url).bearer_auth("").send().await.unwrap().status(), 403);
}
