//! Whoever runs the gateway sees its sessions, and ends them.

use std::{process::Command, time::Duration};

use tokio::net::TcpListener;

use crate::support::{
    browser::{Browser, client},
    house::House,
    lasting::{Lasting, application},
    redis::InRedis,
};

const TOKEN: &str = "the-token-of-the-operator";

/// A house whose sessions can be administered, and the file with the token.
async fn house(store: &str) -> (House, tempfile::NamedTempFile) {
    house_keeping(&format!("store = \"{store}\"")).await
}

/// With sessions kept as these keys of `[session]` say.
async fn house_keeping(keys: &str) -> (House, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let (keys, path) = (keys.to_owned(), file.path().to_owned());
    let house = House::open_with(move |_| {
        format!("[session]\n{keys}\nread_cache = \"0s\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {path:?}\n")
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

/// What the command prints for people, and beside it.
struct Said {
    worked: bool,
    output: String,
    error: String,
}

async fn says(house: &House, file: &tempfile::NamedTempFile, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command
        .arg("sessions")
        .args(arguments)
        .args(["--admin", &house.admin_address().to_string(), "--token-file"])
        .arg(file.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    Said {
        worked: output.status.success(),
        output: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What the command answers to a program, when it answers at all.
async fn vestibule(
    house: &House,
    file: &tempfile::NamedTempFile,
    arguments: &[&str],
) -> Result<serde_json::Value, String> {
    let said = says(house, file, &[arguments, &["--json"]].concat()).await;
    match said.worked {
        true => Ok(serde_json::from_str(&said.output).unwrap()),
        false => Err(said.error),
    }
}

/// A person comes from another address, as the proxy in front says.
async fn logged_in_from(house: &House, name: &str, address: &str) -> Browser {
    let mut browser = Browser::behind_proxy(address);
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    browser
}

#[tokio::test]
async fn sessions_are_listed_without_a_secret_and_ended_one_by_one() {
    let (house, file) = house("memory").await;
    let (mut alice, mut many) = (logged_in(&house, "alice").await, logged_in(&house, "many").await);
    let listed = vestibule(&house, &file, &["list"]).await.unwrap();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{listed}");
    assert_eq!((&listed["complete"], &listed["left_out"]), (&true.into(), &0.into()));
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
    // Ids are drawn from an alphabet that has the hyphen.
    for gone in [id, "-hcLm3Z5Qd1vYw7RkXo0Ug", "--cLm3Z5Qd1vYw7RkXo0Ug"] {
        let error = vestibule(&house, &file, &["revoke", gone]).await.unwrap_err();
        assert!(error.contains("no such session"), "{gone}: {error}");
    }
}

#[tokio::test]
async fn the_list_for_people_says_how_old_a_session_is_and_where_it_came_from() {
    let (house, file) = house("memory").await;
    let mut alice = logged_in_from(&house, "alice", "203.0.113.7").await;
    house.clock.advance(Duration::from_secs(90 * 60));
    // Idle for too long by then, so that only the next login is there.
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
    let mut many = logged_in_from(&house, "many", "203.0.113.7").await;
    house.clock.advance(Duration::from_secs(25 * 60));
    many.forwarded_for = Some("2001:db8::1".to_owned());
    assert_eq!(many.fetch(&house.url("/")).await.status, 200);
    house.clock.advance(Duration::from_secs(65));
    let said = says(&house, &file, &["list", "--subject", "many"]).await;
    assert!(said.worked && said.error.is_empty(), "{}", said.error);
    let lines: Vec<Vec<&str>> = said
        .output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "PROVIDER", "SUBJECT", "AGE", "FROM", "IDLE", "SEEN", "FROM"]
    );
    assert_eq!(
        lines[1][1..],
        ["corp", "many", "26m5s", "203.0.113.7", "1m5s", "2001:db8::1"]
    );
    assert_eq!(lines.len(), 2);
    let said = says(&house, &file, &["revoke", lines[1][0]]).await;
    assert_eq!((said.output.as_str(), said.error.as_str()), ("1 session ended\n", ""));
}

#[tokio::test]
async fn sessions_are_found_and_ended_by_age_and_by_address() {
    let redis = InRedis::start();
    let keepings = redis.iter().map(|redis| redis.keys.as_str());
    for keeping in ["store = \"memory\""].into_iter().chain(keepings) {
        found_and_ended(keeping).await;
    }
}

async fn found_and_ended(keeping: &str) {
    let (house, file) = house_keeping(keeping).await;
    let mut old = logged_in_from(&house, "alice", "203.0.113.7").await;
    house.clock.advance(Duration::from_secs(20 * 60));
    let mut near = logged_in_from(&house, "many", "10.1.2.3").await;
    let mut far = logged_in_from(&house, "mallory", "198.51.100.9").await;
    for (filter, expected) in [
        (&["--older-than", "20m"][..], &["alice"][..]),
        (&["--older-than", "20m1s"], &[]),
        (&["--younger-than", "20m"], &["mallory", "many"]),
        (&["--idle-for", "19m"], &["alice"]),
        (&["--address", "10.0.0.0/8"], &["many"]),
        (&["--address", "198.51.100.9", "--younger-than", "1h"], &["mallory"]),
        (&["--address", "203.0.113.7", "--subject", "many"], &[]),
    ] {
        let listed = vestibule(&house, &file, &[&["list"], filter].concat()).await.unwrap();
        let mut subjects: Vec<_> = listed["sessions"].as_array().unwrap().iter().collect();
        subjects.sort_by_key(|session| session["subject"].to_string());
        let subjects: Vec<_> = subjects
            .iter()
            .map(|session| session["subject"].as_str().unwrap())
            .collect();
        assert_eq!(subjects, expected, "{filter:?}");
    }
    let revoked = vestibule(&house, &file, &["revoke", "--address", "10.0.0.0/8"])
        .await
        .unwrap();
    assert_eq!((&revoked["ended"], &revoked["complete"]), (&1.into(), &true.into()));
    assert_eq!(near.fetch(&house.url("/")).await.status, 401);
    let revoked = vestibule(&house, &file, &["revoke", "--older-than", "20m"])
        .await
        .unwrap();
    assert_eq!(revoked["ended"], 1);
    assert_eq!(old.fetch(&house.url("/")).await.status, 401);
    assert_eq!(far.fetch(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_asked_says_what_to_ask_instead() {
    let (house, file) = house("memory").await;
    for (arguments, remedy) in [
        (&["list", "--provider", "crop"][..], "the file has corp"),
        (&["list", "--address", "home"], "10.0.0.0/8"),
        (&["list", "--older-than", "yesterday"], "8h or 7d"),
        (&["revoke"], "say which sessions"),
        (&["revoke", "--subject", "alice"], "`provider`"),
        (&["revoke", "--idle-for", "soon"], "8h or 7d"),
    ] {
        let said = says(&house, &file, arguments).await;
        assert!(!said.worked && said.output.is_empty(), "{arguments:?}");
        assert!(said.error.contains(remedy), "{arguments:?}: {}", said.error);
        assert_eq!(said.error.lines().count(), 1, "in one sentence");
    }
}

#[tokio::test]
async fn a_session_that_is_not_named_is_not_all_of_a_provider() {
    let (house, _file) = house("memory").await;
    let mut alice = logged_in(&house, "alice").await;
    let url = format!("http://{}/sessions/?provider=corp", house.admin_address());
    let refused = client().delete(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn with_sessions_in_cookies_the_command_says_why_there_are_none_and_what_to_do() {
    let (house, file) = house("cookie").await;
    let mut alice = logged_in(&house, "alice").await;
    let said = says(&house, &file, &["list"]).await;
    assert!(said.worked && said.output.lines().count() == 1, "{}", said.output);
    for words in ["only the browsers have", "\"memory\" or \"redis\"", "`revoke` ends"] {
        assert!(said.error.contains(words), "{}", said.error);
    }
    for filter in [["--older-than", "0s"], ["--address", "127.0.0.1"]] {
        let said = says(&house, &file, &["revoke", filter[0], filter[1]]).await;
        assert!(
            !said.worked && said.error.contains("sessions are in cookies"),
            "{}",
            said.error
        );
    }
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
    all_of_alice_end(&house, &file, "at this gateway and until it starts anew").await;
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
}

/// Whose sessions are in cookies is told where they have ended, and no number.
async fn all_of_alice_end(house: &House, file: &tempfile::NamedTempFile, where_and_how_long: &str) {
    let said = says(house, file, &["revoke", "--provider", "corp", "--subject", "alice"]).await;
    assert!(said.worked && said.output.is_empty(), "{}", said.output);
    for words in ["nobody can count them", where_and_how_long] {
        assert!(said.error.contains(words), "{}", said.error);
    }
}

#[tokio::test]
async fn sessions_in_cookies_end_at_every_gateway_that_shares_endings_and_the_command_says_so() {
    let Some(redis) = InRedis::start() else { return };
    let (house, file) = house_keeping(&redis.keys.replace("\"redis\"", "\"cookie\"")).await;
    let mut alice = logged_in(&house, "alice").await;
    all_of_alice_end(&house, &file, "at every gateway").await;
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
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
async fn who_is_ended_loses_what_is_open_and_nobody_else_does() {
    let redis = InRedis::start();
    let stores = ["store = \"cookie\"", "store = \"memory\""].into_iter();
    for keeping in stores.chain(redis.iter().map(|redis| redis.keys.as_str())) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        tokio::spawn(application(listener));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TOKEN).unwrap();
        let house = House::open_with(|address| {
            format!(
                "[session]\n{keeping}\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {:?}\n[route.live]\n\
                 url = \"http://{address}/live\"\nupstream = \"http://{live}\"\n",
                file.path()
            )
        })
        .await;
        let [alice, many] = [logged_in(&house, "alice").await, logged_in(&house, "many").await];
        let open = async |browser: &Browser| {
            let credential: String = browser
                .cookies
                .iter()
                .map(|((_, name), value)| format!("{name}={value}; "))
                .collect();
            let credential = format!("Cookie: {}\r\n", credential.trim_end_matches("; "));
            Lasting::events(house.address, "/live/events", &credential).await
        };
        let (hers, mut others) = (open(&alice).await, open(&many).await);
        vestibule(&house, &file, &["revoke", "--provider", "corp", "--subject", "alice"])
            .await
            .unwrap();
        hers.end().await;
        others.goes_on().await;
        vestibule(&house, &file, &["revoke", "--provider", "corp"])
            .await
            .unwrap();
        others.end().await;
    }
}

#[tokio::test]
async fn nobody_else_is_let_in() {
    let (house, _file) = house("memory").await;
    let another = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(another.path(), "another").unwrap();
    let said = says(&house, &another, &["list"]).await;
    assert!(
        !said.worked && said.error.contains("the file that `token_file`"),
        "{}",
        said.error
    );
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
