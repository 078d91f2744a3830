//! A page that still streams when its session is over stops streaming.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, time::timeout};

use crate::support::{
    browser::{Browser, client},
    house::House,
    lasting::{Lasting, NEVER, SLOW, SLOWNESS, application},
    redis::{Redis, redis_is_installed},
    relay::{Fault, Relay},
    wire::PATIENCE,
};

const CLOSED_BY_POLICY: [u8; 4] = [0x88, 2, 0x03, 0xF0];

/// A house whose routes at `/live` and `/public/live` lead to an application that goes on and on.
async fn house_keeping(store: &str) -> House {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    house_serving(upstream, &format!("store = \"{store}\"")).await
}

async fn house_serving(upstream: SocketAddr, session: &str) -> House {
    House::open_with(|address| {
        format!(
            r#"
[session]
{session}

[route.live]
url = "http://{address}/live"
upstream = "http://{upstream}"
auth = ["session", "bearer"]

[route.public-live]
url = "http://{address}/public/live"
upstream = "http://{upstream}"
auth = ["public"]
"#
        )
    })
    .await
}

async fn house() -> House {
    house_keeping("cookie").await
}

async fn logged_in(house: &House, name: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    let page = browser.log_in(&form, name, name).await;
    assert_eq!(page.status, 200);
    browser
}

fn cookie(browser: &Browser) -> String {
    format!("Cookie: vestibule={}\r\n", browser.session_cookie())
}

/// An event stream and a WebSocket of one browser.
struct Both {
    events: Lasting,
    socket: Lasting,
}

impl Both {
    async fn open(house: &House, credential: &str) -> Self {
        Self {
            events: Lasting::events(house.address, "/live/events", credential).await,
            socket: Lasting::websocket(house.address, "/live/socket", credential).await,
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
async fn signing_out_closes_what_this_browser_has_open_and_nothing_else() {
    sign_out("cookie").await;
}

#[tokio::test]
async fn signing_out_closes_what_this_browser_has_open_and_nothing_else_where_a_store_keeps_it() {
    sign_out("memory").await;
}

async fn sign_out(store: &str) {
    let house = house_keeping(store).await;
    let mut alice = logged_in(&house, "alice").await;
    let mallory = logged_in(&house, "mallory").await;
    let hers = Both::open(&house, &cookie(&alice)).await;
    let mut his = Both::open(&house, &cookie(&mallory)).await;
    let mut anybodys = Lasting::events(house.address, "/public/live", &cookie(&alice)).await;
    his.goes_on().await;
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    hers.ends().await;
    tokio::join!(his.goes_on(), anybodys.goes_on());
}

/// What a command to Redis takes on the way there, and the same back.
const LATE: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_and_goes_away_is_signed_out_all_the_same() {
    if !redis_is_installed() {
        return;
    }
    let redis = Redis::start();
    let relay = Relay::to(redis.port).await;
    let url = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(url.path(), format!("redis://127.0.0.1:{}", relay.port)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    let keeping = format!(
        "store = \"redis\"\nread_cache = \"1h\"\nredis = {{ url_file = {:?}, timeout = \"10s\" }}",
        url.path()
    );
    let house = house_serving(upstream, &keeping).await;
    let alice = logged_in(&house, "alice").await;
    let events = Lasting::events(house.address, "/live/events", &cookie(&alice)).await;

    relay.set(Fault::Late(LATE));
    let request = client().post(house.url("/oauth2/sign_out"));
    let request = request.header("cookie", format!("vestibule={}", alice.session_cookie()));
    // The first command is on its way then, and others are to follow.
    let gone = request.timeout(LATE / 2).send().await;

    assert!(gone.is_err_and(|error| error.is_timeout()));
    events.end().await;
}

#[tokio::test]
async fn n_112_a_logout_at_the_provider_closes_what_all_browsers_of_a_person_have_open() {
    for store in ["cookie", "memory"] {
        let house = house_keeping(store).await;
        let (phone, laptop) = (logged_in(&house, "alice").await, logged_in(&house, "alice").await);
        let mallory = logged_in(&house, "mallory").await;
        let on_phone = Both::open(&house, &cookie(&phone)).await;
        let on_laptop = Both::open(&house, &cookie(&laptop)).await;
        let mut his = Both::open(&house, &cookie(&mallory)).await;
        his.goes_on().await;
        assert_eq!(house.provider.log_out("alice").await.unwrap(), [200]);
        tokio::join!(on_phone.ends(), on_laptop.ends());
        his.goes_on().await;
    }
}

#[tokio::test]
async fn an_answer_that_begins_after_its_session_has_ended_does_not_go_on() {
    let house = house().await;
    let mut alice = logged_in(&house, "alice").await;
    let credential = cookie(&alice);
    let (url, slow) = (house.url("/oauth2/sign_out"), format!("/live/{SLOW}"));
    let sign_out = async {
        tokio::time::sleep(SLOWNESS / 2).await;
        alice.post(&url, &[]).await
    };
    let (events, _) = tokio::join!(Lasting::events(house.address, &slow, &credential), sign_out);
    events.end().await;
}

#[tokio::test]
async fn an_answer_that_is_long_in_coming_is_not_waited_for_when_its_session_has_ended() {
    let house = house().await;
    let mut alice = logged_in(&house, "alice").await;
    let url = house.url(&format!("/live/{NEVER}"));
    let poll = client()
        .get(url)
        .header("cookie", cookie(&alice).trim_start_matches("Cookie: ").trim());
    let poll = tokio::spawn(poll.send());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    let answer = timeout(PATIENCE, poll).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn a_session_that_nothing_is_heard_of_takes_its_streams_along() {
    idle("cookie").await;
}

#[tokio::test]
async fn a_session_that_nothing_is_heard_of_takes_its_streams_along_where_a_store_keeps_it() {
    idle("memory").await;
}

async fn idle(store: &str) {
    let house = house_keeping(store).await;
    let alice = logged_in(&house, "alice").await;
    let mut hers = Both::open(&house, &cookie(&alice)).await;
    let mut anybodys = Lasting::events(house.address, "/public/live", "").await;
    house.clock.advance(Duration::from_secs(29 * 60));
    hers.goes_on().await;
    house.clock.advance(Duration::from_secs(60));
    hers.ends().await;
    anybodys.goes_on().await;
}

#[tokio::test]
async fn whoever_goes_on_clicking_keeps_the_streams_until_the_longest_life_of_a_session() {
    click_on("cookie").await;
}

#[tokio::test]
async fn whoever_goes_on_clicking_keeps_the_streams_until_the_longest_life_of_a_session_where_a_store_keeps_it() {
    click_on("memory").await;
}

async fn click_on(store: &str) {
    let house = house_keeping(store).await;
    let mut alice = logged_in(&house, "alice").await;
    let mut hers = Both::open(&house, &cookie(&alice)).await;
    // Eight hours are 24 times twenty minutes; every click refreshes, too.
    for round in 0..23 {
        house.clock.advance(Duration::from_secs(20 * 60));
        assert_eq!(alice.open(&house.url("/")).await.status, 200, "round {round}");
        if round % 11 == 1 {
            hers.goes_on().await;
        }
    }
    assert_eq!(house.token_calls(), 1 + 23);
    hers.goes_on().await;
    house.clock.advance(Duration::from_secs(20 * 60));
    hers.ends().await;
}

#[tokio::test]
async fn a_session_that_the_provider_ended_takes_its_streams_along() {
    let house = house().await;
    let mut alice = logged_in(&house, "alice").await;
    let hers = Both::open(&house, &cookie(&alice)).await;
    house.forget_refresh_tokens();
    house.clock.advance(Duration::from_secs(5 * 60));
    alice.fetch(&house.url("/")).await;
    hers.ends().await;
}

#[tokio::test]
async fn what_a_token_opened_ends_with_the_token() {
    let house = house().await;
    let token = house.jwt("alice");
    let mut its = Both::open(&house, &format!("Authorization: Bearer {token}\r\n")).await;
    house.clock.advance(Duration::from_secs(5 * 60 - 1));
    its.goes_on().await;
    // A minute for clocks that disagree.
    house.clock.advance(Duration::from_secs(61));
    its.ends().await;
}
