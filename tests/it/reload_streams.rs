//! What is open when the file is loaded again is decided again.

use std::time::Duration;

use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};
use vestibule::session::SealingKey;

use crate::support::{
    browser::{Browser, client},
    house::House,
    lasting::{Lasting, NEVER, SLOW, SLOWNESS, application},
    wire::{PATIENCE, exchange},
};

const CLOSED_BY_POLICY: [u8; 4] = [0x88, 2, 0x03, 0xF0];
const ANYBODY: &str = "auth = [\"session\", \"bearer\"] # anybody";
const PUBLIC: &str = "auth = [\"public\"] # public";

/// A house whose routes at `/live` and `/open` lead to an application that goes on and on.
async fn house(session: &str) -> House {
    let session = session.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    House::open_with(move |address| {
        format!(
            r#"
[session]
{session}

[route.live]
url = "http://{address}/live"
upstream = "http://{upstream}"
{ANYBODY}

[route.open]
url = "http://{address}/open"
upstream = "http://{upstream}"
{PUBLIC}
"#
        )
    })
    .await
}

/// The file with other lines in the place of those that say who may.
fn saying(house: &House, old: &str, new: &str) -> String {
    assert!(house.file.contains(old));
    house.file.replacen(old, new, 1)
}

async fn cookie_of(house: &House, name: &str) -> String {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    format!("Cookie: vestibule={}\r\n", browser.session_cookie())
}

fn bearer(house: &House, name: &str) -> String {
    format!("Authorization: Bearer {}\r\n", house.jwt(name))
}

/// An event stream and a WebSocket.
struct Both {
    events: Lasting,
    socket: Lasting,
}

impl Both {
    async fn open(house: &House, path: &str, credential: &str) -> Self {
        Self {
            events: Lasting::events(house.address, &format!("{path}/events"), credential).await,
            socket: Lasting::websocket(house.address, &format!("{path}/socket"), credential).await,
        }
    }

    async fn goes_on(&mut self) {
        tokio::join!(self.events.goes_on(), self.socket.goes_on());
    }

    async fn ends(self) {
        let (events, socket) = tokio::join!(self.events.end(), self.socket.end());
        assert!(
            events.is_empty(),
            "a stream that is cut off must not look complete: {events:?}"
        );
        assert_eq!(socket, CLOSED_BY_POLICY);
    }
}

#[tokio::test]
async fn whom_the_rules_refuse_by_now_is_cut_and_whom_they_let_in_is_not() {
    for store in ["store = \"cookie\"", "store = \"memory\""] {
        let house = house(store).await;
        let (alice, admin) = (cookie_of(&house, "alice").await, cookie_of(&house, "admin").await);
        let (token, better) = (bearer(&house, "alice"), bearer(&house, "admin"));
        let hers = Both::open(&house, "/live", &alice).await;
        let mut theirs = Both::open(&house, "/live", &admin).await;
        let scripts = Both::open(&house, "/live", &token).await;
        let mut better = Both::open(&house, "/live", &better).await;
        let mut anybodys = Both::open(&house, "/open", &alice).await;
        house.reload(&house.file).unwrap();
        tokio::join!(theirs.goes_on(), anybodys.goes_on());
        let rule = format!("{ANYBODY}\nallow.subjects = [\"admin\"]");
        house.reload(&saying(&house, ANYBODY, &rule)).unwrap();
        tokio::join!(hers.ends(), scripts.ends());
        tokio::join!(theirs.goes_on(), better.goes_on(), anybodys.goes_on());
    }
}

#[tokio::test]
async fn whatever_closes_a_place_closes_what_is_open_there() {
    let closed = [
        (PUBLIC, "# gone\nauth = [\"session\"]"),
        (PUBLIC, "auth = [\"public\"]\nmethods = [\"POST\"]"),
        (
            ANYBODY,
            "auth = [\"session\", \"bearer\"]\n[[route.live.deny]]\nsubjects = [\"alice\"]",
        ),
        (ANYBODY, "auth = [\"session\", \"bearer\"]\nmethods = [\"POST\"]"),
        (ANYBODY, "auth = [\"session\", \"bearer\"]\nallow.groups = [\"admins\"]"),
    ];
    for (old, new) in closed {
        let house = house("").await;
        let path = if old == PUBLIC { "/open" } else { "/live" };
        let (cookie, token) = (cookie_of(&house, "alice").await, bearer(&house, "alice"));
        let hers = Both::open(&house, path, &cookie).await;
        let scripts = Both::open(&house, path, &token).await;
        house.reload(&saying(&house, old, new)).unwrap();
        tokio::join!(hers.ends(), scripts.ends());
    }
}

#[tokio::test]
async fn the_way_one_came_in_may_be_closed_and_the_other_stay_open() {
    let house = house("").await;
    let hers = Both::open(&house, "/live", &cookie_of(&house, "alice").await).await;
    let mut scripts = Both::open(&house, "/live", &bearer(&house, "alice")).await;
    house.reload(&saying(&house, ANYBODY, "auth = [\"bearer\"]")).unwrap();
    hers.ends().await;
    scripts.goes_on().await;
}

#[tokio::test]
async fn a_token_that_would_have_to_be_seen_again_counts_no_more() {
    let house = house("").await;
    let mut hers = Both::open(&house, "/live", &cookie_of(&house, "alice").await).await;
    let scripts = Both::open(&house, "/live", &bearer(&house, "alice")).await;
    let stricter = saying(
        &house,
        "bearer.audiences = [\"https://wiki.example.com\"]",
        "bearer.audiences = [\"a\"]",
    );
    house.reload(&stricter).unwrap();
    scripts.ends().await;
    hers.goes_on().await;
}

#[tokio::test]
async fn a_provider_that_is_another_by_now_takes_its_streams_along() {
    let house = house("").await;
    let hers = Both::open(&house, "/live", &cookie_of(&house, "alice").await).await;
    let scripts = Both::open(&house, "/live", &bearer(&house, "alice")).await;
    let mut anybodys = Both::open(&house, "/open", "").await;
    let here = format!("issuer = \"{}\"", house.provider.issuer());
    house
        .reload(&saying(&house, &here, "issuer = \"http://127.0.0.1:9/other\""))
        .unwrap();
    tokio::join!(hers.ends(), scripts.ends());
    anybodys.goes_on().await;
}

/// A new key in a file, as `key_files` names it.
fn key(directory: &TempDir, name: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, SealingKey::random().to_text().expose()).unwrap();
    format!("{path:?}")
}

#[tokio::test]
async fn a_key_that_is_gone_takes_the_streams_along_that_it_had_opened() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (key(&directory, "old"), key(&directory, "new"));
    for store in ["cookie", "memory"] {
        let keys = format!("key_files = [{old}]");
        let house = house(&format!("store = \"{store}\"\n{keys}")).await;
        let mut hers = Both::open(&house, "/live", &cookie_of(&house, "alice").await).await;
        house
            .reload(&saying(&house, &keys, &format!("key_files = [{new}, {old}]")))
            .unwrap();
        hers.goes_on().await;
        house
            .reload(&saying(&house, &keys, &format!("key_files = [{new}]")))
            .unwrap();
        hers.ends().await;
    }
}

#[tokio::test]
async fn an_end_that_is_told_after_the_keys_changed_is_heard_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (key(&directory, "old"), key(&directory, "new"));
    for store in ["cookie", "memory"] {
        let keys = format!("key_files = [{old}]");
        let house = house(&format!("store = \"{store}\"\n{keys}")).await;
        let hers = Both::open(&house, "/live", &cookie_of(&house, "alice").await).await;
        house
            .reload(&saying(&house, &keys, &format!("key_files = [{new}, {old}]")))
            .unwrap();
        assert_eq!(house.provider.log_out("alice").await.unwrap(), [200], "{store}");
        hers.ends().await;
    }
}

#[tokio::test]
async fn an_answer_that_begins_after_it_is_refused_does_not_go_on() {
    let house = house("").await;
    let address = house.address;
    for (path, old, credential) in [
        ("open", PUBLIC, String::new()),
        ("live", ANYBODY, bearer(&house, "alice")),
    ] {
        let request = format!("GET /{path}/{SLOW} HTTP/1.1\r\nHost: {address}\r\n{credential}\r\n");
        let reload = async {
            tokio::time::sleep(SLOWNESS / 2).await;
            let closed = saying(&house, old, "auth = [\"session\"]\nallow.groups = [\"admins\"]");
            house.reload(&closed).unwrap();
        };
        let (answer, ()) = tokio::join!(exchange(address, request.as_bytes()), reload);
        assert!(!answer.contains("data: hello"), "{answer}");
        house.reload(&house.file).unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_long_in_coming_is_not_waited_for_when_it_is_refused_by_now() {
    let house = house("").await;
    let polls = [("open", String::new()), ("live", house.jwt("alice"))].map(|(path, token)| {
        let poll = client().get(house.url(&format!("/{path}/{NEVER}")));
        tokio::spawn(poll.bearer_auth(token).send())
    });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let closed = saying(&house, PUBLIC, "auth = [\"session\"]").replacen(ANYBODY, "auth = [\"session\"]", 1);
    house.reload(&closed).unwrap();
    for poll in polls {
        let answer = timeout(PATIENCE, poll).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.status(), 403);
    }
}

#[tokio::test]
async fn a_shorter_patience_takes_the_streams_of_idle_sessions_along() {
    for store in [
        "store = \"cookie\"\nidle_timeout = \"30m\"",
        "store = \"memory\"\nidle_timeout = \"30m\"",
    ] {
        let house = house(store).await;
        let mut hers = Both::open(&house, "/live", &cookie_of(&house, "alice").await).await;
        house.clock.advance(Duration::from_secs(15 * 60));
        hers.goes_on().await;
        house.reload(&saying(&house, "\"30m\"", "\"10m\"")).unwrap();
        hers.ends().await;
    }
}
