//! Somebody reads out the reference that they were shown, and whoever runs the gateway sees why.

use std::process::Command;

use serde_json::Value;

use crate::support::{
    browser::{Browser, Page, client},
    house::House,
};

pub(crate) const TOKEN: &str = "the-token-of-the-operator";

/// A house whose operator has a token, and the file with it.
pub(crate) async fn watched_house(keys: &str, more: &str) -> (House, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let path = file.path().to_owned();
    let house = House::open_with(|address| {
        let more = more.replace("ADDRESS", &address.to_string());
        format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {path:?}\n{keys}\n{more}")
    })
    .await;
    (house, file)
}

/// What `vestibule decisions` prints, or why it does not.
pub(crate) async fn vestibule_decisions(
    house: &House,
    file: &tempfile::NamedTempFile,
    arguments: &[&str],
) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command
        .arg("decisions")
        .args(arguments)
        .args(["--admin", &house.admin_address().to_string(), "--token-file"])
        .arg(file.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// The answer of the admin listener to who has the token.
pub(crate) async fn decisions(house: &House, which: &str) -> (u16, Value) {
    let url = format!("http://{}/decisions{which}", house.admin_address());
    let answer = client().get(url).bearer_auth(TOKEN).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// The reference id that a page shows.
pub(crate) fn reference(page: &Page) -> &str {
    let (_, rest) = page.text.split_once("Reference <code>").unwrap();
    rest.split_once("</code>").unwrap().0
}

async fn logged_in(house: &House, name: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    browser
}

#[tokio::test]
async fn the_reference_of_a_denied_page_leads_to_the_requirement_that_was_not_met() {
    let (house, file) = watched_house("", "").await;
    let mut alice = logged_in(&house, "alice").await;
    let page = alice.open(&house.url("/admin/keys?token=hunter2")).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("alice"), "it says who she is: {}", page.text);
    let id = reference(&page);

    let (status, found) = decisions(&house, &format!("/{id}")).await;
    assert_eq!(status, 200, "{found}");
    let expected = serde_json::json!({
        "id": id, "at": house.now(), "method": "GET", "host": "127.0.0.1", "path": "/admin/keys", "status": 403,
        "route": "admin", "decision": "deny", "would": null, "reason": "allow.groups", "authentication": "session",
        "provider": "corp", "subject": "alice", "username": "alice", "client": "127.0.0.1",
        "pseudonym": found["pseudonym"],
        "asked": {"table": "allow", "requirements": [
            {"requirement": "groups", "claim": null, "wanted": "admins", "met": false},
        ]},
    });
    assert_eq!(found, expected);
    for secret in ["hunter2", "alice@example.com", &alice.session_cookie()] {
        assert!(!found.to_string().contains(secret), "{found}");
    }

    let said = vestibule_decisions(&house, &file, &[id]).await.unwrap();
    assert!(said.starts_with("GET 127.0.0.1/admin/keys: 403\n"), "{said}");
    for words in [
        "deny\n",
        "allow.groups\n",
        "who        alice\n",
        "[allow]\n  no   groups: admins\n",
    ] {
        assert!(said.contains(words), "{said}\nlacks {words}");
    }
    let json = vestibule_decisions(&house, &file, &[id, "--json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
}

#[tokio::test]
async fn who_cannot_log_in_strongly_enough_is_found_with_what_was_wanted() {
    let heaven = "[route.heaven]\nurl = \"http://ADDRESS/heaven\"\nupstream = \"http://127.0.0.1:9\"\n\
                  allow.acr = [\"urn:nobody:has\"]\n";
    let (house, _file) = watched_house("", heaven).await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/heaven")).await;
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(page.status, 403);
    let (_, found) = decisions(&house, &format!("/{}", reference(&page))).await;
    assert_eq!(found["subject"], "alice");
    assert_eq!(found["provider"], "corp");
    assert_eq!(found["reason"], "the login does not meet acr: wanted urn:nobody:has");
}

#[tokio::test]
async fn every_refusal_is_found_and_nothing_that_was_let_in() {
    let route = |name: &str, keys: &str| {
        format!(
            "\n[route.{name}]\nurl = \"http://ADDRESS/{name}\"\nupstream = \"http://127.0.0.1:9\"\n\
             auth = [\"session\", \"bearer\"]\n{keys}\n"
        )
    };
    let more = [
        route("rehearsal", "mode = \"shadow\"\nallow.groups = [\"admins\"]"),
        route(
            "closed",
            "[[route.closed.deny]]\nclaims = { preferred_username = [\"alice\"] }",
        ),
    ];
    let (house, file) = watched_house("", &more.concat()).await;
    let mut alice = logged_in(&house, "alice").await;
    assert_eq!(alice.open(&house.url("/")).await.status, 200);
    alice.open(&house.url("/rehearsal")).await;
    let closed = alice.fetch(&house.url("/closed")).await;
    let problem = client()
        .get(house.url("/api"))
        .bearer_auth(house.jwt("alice"))
        .send()
        .await
        .unwrap();
    let problem: Value = serde_json::from_str(&problem.text().await.unwrap()).unwrap();
    let stranger = client()
        .get(house.url("/"))
        .bearer_auth("nobodys")
        .send()
        .await
        .unwrap();
    assert_eq!(stranger.status(), 401);
    let strange_login = Browser::new().open(&house.url("/oauth2/callback?code=c&state=s")).await;

    let (_, listed) = decisions(&house, "").await;
    let listed = listed["decisions"].as_array().unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|found| {
            (
                found["decision"].as_str().unwrap(),
                found["reason"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "endpoint",
                "the login attempt is unknown to this browser, or was finished before"
            ),
            (
                "challenge",
                "the authorization server says that the token is not active"
            ),
            ("challenge", "insufficient_scope"),
            ("deny", "deny[0]"),
            (
                "error",
                "the upstream cannot be reached: Connection refused (os error 111)"
            ),
            ("login", "login_needed"),
        ],
        "the newest first: {listed:#?}"
    );
    assert_eq!(listed[0]["id"], reference(&strange_login));
    assert_eq!(listed[2]["id"], problem["reference"]);
    assert_eq!(listed[3]["id"], closed.json()["reference"]);
    let asked = &listed[3]["asked"]["requirements"][0];
    assert_eq!(
        (&asked["claim"], &asked["wanted"]),
        (&"preferred_username".into(), &Value::Null)
    );
    // In the shadow, the door was open and what is behind it is not there.
    assert_eq!(listed[4]["would"], "deny");
    assert_eq!(listed[4]["asked"]["requirements"][0]["wanted"], "admins");

    let pseudonym = listed[3]["pseudonym"].as_str().unwrap();
    for (query, count) in [
        ("?subject=alice".to_owned(), 3),
        (format!("?subject={pseudonym}"), 3),
        ("?decision=deny".to_owned(), 2),
        ("?route=api".to_owned(), 1),
        ("?route=api&decision=deny".to_owned(), 0),
        ("?limit=2".to_owned(), 2),
    ] {
        let (_, found) = decisions(&house, &query).await;
        assert_eq!(found["decisions"].as_array().unwrap().len(), count, "{query}");
    }
    let said = vestibule_decisions(&house, &file, &["--route", "api"]).await.unwrap();
    let columns: Vec<_> = said.lines().nth(1).unwrap().split_whitespace().skip(1).collect();
    assert_eq!(
        columns,
        [
            "0s",
            "403",
            "challenge",
            "insufficient_scope",
            "alice",
            "GET",
            "127.0.0.1/api"
        ]
    );
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_the_refusals_of_people_where_they_are() {
    let (house, _file) = watched_house("decisions = 5", "").await;
    let mut alice = logged_in(&house, "alice").await;
    let page = alice.open(&house.url("/admin")).await;
    for _ in 0..50 {
        house.get("/admin").await;
    }
    assert_eq!(decisions(&house, &format!("/{}", reference(&page))).await.0, 200);
    let (_, listed) = decisions(&house, "?limit=1000").await;
    assert_eq!(listed["decisions"].as_array().unwrap().len(), 6);
    // A reload with less room keeps what there is room for.
    house
        .reload(&house.file.replace("decisions = 5", "decisions = 1"))
        .unwrap();
    assert_eq!(decisions(&house, &format!("/{}", reference(&page))).await.0, 200);
    assert_eq!(decisions(&house, "").await.1["decisions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn only_who_has_the_token_asks_and_only_where_refusals_are_kept() {
    let (house, file) = watched_house("", "").await;
    assert_eq!(house.admin("/decisions").await.0, 401);
    assert_eq!(house.admin("/decisions/0badcafe-1").await.0, 401);
    let (status, told) = decisions(&house, "/0badcafe-1").await;
    assert!(status == 404 && told.to_string().contains("nothing is known"), "{told}");
    let told = vestibule_decisions(&house, &file, &["--decision", "allow"])
        .await
        .unwrap_err();
    assert!(told.contains("challenge"), "{told}");
    let (house, _file) = watched_house("decisions = 0", "").await;
    house.get("/admin").await;
    let (status, told) = decisions(&house, "").await;
    assert!(status == 400 && told.to_string().contains("is 0"), "{told}");
}
