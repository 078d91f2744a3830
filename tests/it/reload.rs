//! A file that is loaded again: what it says counts at once, and nobody is logged out or turned away for it.

use std::{fmt::Write, time::Duration};

use tempfile::TempDir;
use vestibule::{cli::reload::ReloadError, session::SealingKey};

use crate::support::{
    browser::{Browser, client},
    house::{Fault, House, Place},
    redis::{Redis, redis_is_installed},
    upstream::EchoUpstream,
};

async fn logged_in(house: &House, name: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    browser
}

/// The file with one piece of it replaced.
fn with(house: &House, old: &str, new: &str) -> String {
    assert!(house.file.contains(old), "{old}");
    house.file.replacen(old, new, 1)
}

/// The file with another route at its end.
fn with_route(house: &House, name: &str, more: &str) -> String {
    let (address, upstream) = (house.address, house.upstream.address);
    let url = format!("url = \"http://{address}/{name}\"\nupstream = \"http://{upstream}\"");
    format!("{}\n[route.{name}]\n{url}\n{more}\n", house.file)
}

/// A number of `/metrics`.
async fn metric(house: &House, name: &str) -> Option<u64> {
    let (_, text) = house.admin("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

const DONE: &str = "vestibule_config_reloads_total{outcome=\"done\"}";
const REFUSED: &str = "vestibule_config_reloads_total{outcome=\"refused\"}";
const GENERATION: &str = "vestibule_config_generation";

#[tokio::test]
async fn a_route_comes_and_goes_and_so_do_its_numbers() {
    let house = House::open().await;
    let counted = "vestibule_requests_total{route=\"new\",decision=\"allow\",status=\"2xx\"}";
    assert_eq!(house.get("/new").await, 401, "it is the wiki's");
    house.reload(&with_route(&house, "new", "auth = [\"public\"]")).unwrap();
    assert_eq!(house.get("/new").await, 200);
    assert_eq!(metric(&house, counted).await, Some(1));
    house.reload(&house.file).unwrap();
    assert_eq!(house.get("/new").await, 401);
    assert_eq!(metric(&house, counted).await, None);
    assert_eq!(metric(&house, DONE).await, Some(2));
    assert_eq!(metric(&house, GENERATION).await, Some(3));
}

#[tokio::test]
async fn a_rule_counts_from_the_next_request_and_the_session_goes_on() {
    for keeping in ["store = \"cookie\"", "store = \"memory\""] {
        let house = House::open_keeping(keeping).await;
        let mut alice = logged_in(&house, "alice").await;
        assert_eq!(alice.fetch(&house.url("/admin/")).await.status, 403, "{keeping}");
        let open = with(&house, "allow.groups = [\"admins\"]", "allow.subjects = [\"alice\"]");
        house.reload(&open).unwrap();
        assert_eq!(alice.fetch(&house.url("/admin/")).await.status, 200, "{keeping}");
        house.reload(&house.file).unwrap();
        assert_eq!(alice.fetch(&house.url("/admin/")).await.status, 403, "{keeping}");
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{keeping}");
    }
}

#[tokio::test]
async fn f_12_a_bad_file_changes_nothing_and_every_problem_has_its_place() {
    let house = House::open().await;
    let mut alice = logged_in(&house, "alice").await;
    let file = &house.file;
    let cut = file.find("[route.admin]").unwrap() + "[route.admin]\nurl = \"http".len();
    let bad = [
        ("nothing", String::new()),
        ("broken off", file[..cut].to_owned()),
        ("a syntax error", format!("{file}\n[route.x\n")),
        ("a NUL", file.replacen("[route.wiki]", "[route.wiki]\0", 1)),
        (
            "an unknown key",
            with(&house, "auth = [\"public\"]", "auht = [\"public\"]"),
        ),
        (
            "a table that is there twice",
            format!("{file}\n[route.public]\nurl = \"http://a/\"\nupstream = \"http://b\"\n"),
        ),
        (
            "two routes for one address",
            with_route(&house, "other", "").replace("/other\"", "/admin\""),
        ),
        (
            "a secret that is missing",
            with(
                &house,
                "client_secret = \"s3cret\"",
                "client_secret_file = \"/nonexistent\"",
            ),
        ),
        ("a group of nobody", with(&house, "[\"admins\"]", "[7]")),
    ];
    for (refused, (name, text)) in (1..).zip(&bad) {
        let Err(ReloadError::Problems(problems)) = house.reload(text) else {
            panic!("{name} was taken");
        };
        assert!(
            problems.iter().all(|problem| problem.line > 0 && problem.column > 0),
            "{name}"
        );
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{name}");
        assert_eq!(house.get("/public").await, 200, "{name}");
        assert_eq!(metric(&house, REFUSED).await, Some(refused), "{name}");
    }
    assert_eq!(metric(&house, GENERATION).await, Some(1));
    assert_eq!(metric(&house, DONE).await, Some(0));
}

#[tokio::test]
async fn f_12_how_the_lines_end_and_what_an_editor_puts_before_them_does_not_matter() {
    let house = House::open().await;
    house.reload(&house.file.replace('\n', "\r\n")).unwrap();
    house.reload(&format!("\u{feff}{}", house.file)).unwrap();
    assert_eq!(house.get("/public").await, 200);
}

#[tokio::test]
async fn what_belongs_to_a_start_is_refused_or_waits_and_the_rest_counts() {
    let house = House::open_keeping("store = \"memory\"").await;
    let moved = house
        .file
        .replacen("server.listen = [\"127.0.0.1:", "server.listen = [\"127.0.0.2:", 1);
    for (file, key) in [
        (moved, "`listen` in [server]"),
        (
            with(&house, "store = \"memory\"", "store = \"cookie\""),
            "`store` in [session]",
        ),
        (
            with(
                &house,
                "store = \"memory\"",
                "store = \"memory\"\ncookie.name = \"other\"",
            ),
            "`name` in [session.cookie]",
        ),
    ] {
        let refused = house.reload(&file).unwrap_err().to_string();
        assert!(
            refused.starts_with(key) && refused.ends_with("without a restart"),
            "{refused}"
        );
    }
    let mut alice = logged_in(&house, "alice").await;
    let more = with_route(&house, "new", "auth = [\"public\"]");
    house
        .reload(&more.replacen("server.workers = 2", "server.workers = 3", 1))
        .unwrap();
    assert_eq!(house.get("/new").await, 200);
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn what_has_ended_in_cookies_does_not_come_back_with_a_longer_life() {
    let house = House::open_keeping("idle_timeout = \"1m\"\nmax_lifetime = \"2m\"").await;
    let longer = |idle: &str| {
        let text = house.file.replace("max_lifetime = \"2m\"", "max_lifetime = \"1h\"");
        text.replace("idle_timeout = \"1m\"", &format!("idle_timeout = \"{idle}\""))
    };
    house.reload(&longer("2m")).unwrap();
    let refused = house.reload(&longer("121s")).unwrap_err().to_string();
    assert!(refused.starts_with("`idle_timeout` in [session], beyond"), "{refused}");
}

/// Key files with different keys.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["old", "new"] {
            std::fs::write(directory.path().join(name), SealingKey::random().to_text().expose()).unwrap();
        }
        Self(directory)
    }

    /// The key of `[session]` that names them.
    fn named(&self, names: &[&str]) -> String {
        let paths: Vec<_> = names.iter().map(|name| self.0.path().join(name)).collect();
        format!("key_files = {paths:?}")
    }
}

#[tokio::test]
async fn keys_are_replaced_and_nobody_is_logged_out() {
    let keys = Keys::new();
    let first = keys.named(&["old"]);
    let redis = redis_is_installed().then(Redis::start);
    let in_redis = redis.as_ref().map(|redis| {
        std::fs::write(keys.0.path().join("url"), redis.url()).unwrap();
        format!(
            "store = \"redis\"\nredis = {{ url_file = {:?} }}",
            keys.0.path().join("url")
        )
    });
    let stores = ["store = \"cookie\"", "store = \"memory\""].map(str::to_owned);
    for store in stores.into_iter().chain(in_redis) {
        for steps in [
            &[&["new", "old"] as &[&str], &["new"]] as &[&[&str]],
            &[&["old", "new"], &["new", "old"], &["new"]],
        ] {
            let house = House::open_keeping(&format!("{store}\n{first}")).await;
            let mut alice = logged_in(&house, "alice").await;
            let mut absent = Browser::new();
            absent.cookies = alice.cookies.clone();
            for step in steps {
                house.reload(&with(&house, &first, &keys.named(step))).unwrap();
                assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{store}, {step:?}");
            }
            // Whoever did not come by while both keys opened has the old cookie.
            assert_eq!(absent.fetch(&house.url("/")).await.status, 401, "{store}");
        }
    }
}

#[tokio::test]
async fn a_login_that_is_under_way_is_finished_under_the_next_configuration() {
    let keys = Keys::new();
    let first = keys.named(&["old"]);
    let house = House::open_keeping(&first).await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    house
        .reload(&with(&house, &first, &keys.named(&["new", "old"])))
        .unwrap();
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
}

#[tokio::test]
async fn what_has_ended_is_not_brought_back_by_other_keys() {
    let keys = Keys::new();
    let first = keys.named(&["old"]);
    let house = House::open_keeping(&first).await;
    let mut alice = logged_in(&house, "alice").await;
    let mut thief = Browser::new();
    thief.cookies = alice.cookies.clone();
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    for step in [&["old"] as &[&str], &["old", "new"], &["new", "old"]] {
        house.reload(&with(&house, &first, &keys.named(step))).unwrap();
        assert_eq!(thief.fetch(&house.url("/")).await.status, 401, "{step:?}");
    }
}

#[tokio::test]
async fn the_key_of_a_file_that_names_none_stays() {
    let house = House::open().await;
    let mut alice = logged_in(&house, "alice").await;
    for _ in 0..2 {
        house.reload(&house.file).unwrap();
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
    }
}

#[tokio::test]
async fn how_long_a_session_lasts_is_what_the_file_says_by_now() {
    for store in ["store = \"cookie\"", "store = \"memory\""] {
        let house = House::open_keeping(&format!("{store}\nidle_timeout = \"30m\"")).await;
        let mut alice = logged_in(&house, "alice").await;
        house.clock.advance(Duration::from_secs(11 * 60));
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{store}");
        house.reload(&with(&house, "\"30m\"", "\"10m\"")).unwrap();
        house.clock.advance(Duration::from_secs(9 * 60));
        assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{store}");
        house.clock.advance(Duration::from_secs(11 * 60));
        assert_eq!(alice.fetch(&house.url("/")).await.status, 401, "{store}");
    }
}

#[tokio::test]
async fn what_a_provider_said_is_kept_as_long_as_it_is_the_same_one() {
    let house = House::open().await;
    let (jwt, opaque) = (house.jwt("alice"), house.opaque("alice"));
    assert_eq!((house.ask(&jwt).await, house.ask(&opaque).await), (200, 200));
    let known = (house.key_fetches(), house.introspections());
    // Another route, which asks for a claim that nobody asked for before.
    let more = with_route(
        &house,
        "new",
        "auth = [\"bearer\"]\nallow.claims = { nickname = [\"ally\"] }",
    );
    house.reload(&more).unwrap();
    assert_eq!((house.ask(&jwt).await, house.ask(&opaque).await), (200, 200));
    assert_eq!((house.key_fetches(), house.introspections()), known);

    let audience = "bearer.audiences = [\"https://wiki.example.com\"]";
    house
        .reload(&with(
            &house,
            audience,
            "bearer.audiences = [\"https://elsewhere.example.com\"]",
        ))
        .unwrap();
    assert_eq!((house.ask(&jwt).await, house.ask(&opaque).await), (401, 401));
}

#[tokio::test]
async fn keys_outlast_a_reload_that_changes_the_provider_while_it_is_down() {
    let house = House::open().await;
    let (jwt, opaque) = (house.jwt("alice"), house.opaque("alice"));
    assert_eq!((house.ask(&jwt).await, house.ask(&opaque).await), (200, 200));
    for place in [Place::Discovery, Place::Keys, Place::Introspection] {
        house.provider.fault(place, Fault::answer(503, "text/plain", b""));
    }
    // What concerns logins alone leaves what was found out of tokens.
    let scopes = with(&house, "\"groups\", \"offline_access\"]", "\"groups\"]");
    house.reload(&scopes).unwrap();
    assert_eq!((house.ask(&jwt).await, house.ask(&opaque).await), (200, 200));
    assert_eq!(
        house.ask(&house.jwt("mallory")).await,
        200,
        "a token that nobody has seen"
    );
    // The others are judged anew, by the keys that are known.
    house
        .reload(&with(
            &house,
            "client_secret = \"s3cret\"",
            "client_secret = \"another\"",
        ))
        .unwrap();
    assert_eq!((house.ask(&jwt).await, house.ask(&opaque).await), (200, 503));
    assert_eq!(house.ask(&house.jwt("admin")).await, 200);

    let elsewhere = format!("client_id = \"wiki\"\njwks_uri = \"{}/other\"", house.provider.issuer());
    house.reload(&with(&house, "client_id = \"wiki\"", &elsewhere)).unwrap();
    assert_eq!(house.ask(&jwt).await, 503, "those keys are not known");
}

#[tokio::test]
async fn connections_to_an_application_that_did_not_move_are_kept() {
    let house = House::open().await;
    let client = client();
    let ask = async || {
        let answer = client.get(house.url("/public")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    };
    ask().await;
    assert_eq!(house.upstream.connections(), 1);
    house.reload(&with_route(&house, "new", "auth = [\"public\"]")).unwrap();
    ask().await;
    assert_eq!(house.upstream.connections(), 1);
}

#[tokio::test]
async fn a_session_of_one_issuer_is_nothing_at_another_of_the_same_name() {
    let house = House::open().await;
    let mut alice = logged_in(&house, "alice").await;
    let here = format!("issuer = \"{}\"", house.provider.issuer());
    house
        .reload(&with(&house, &here, "issuer = \"http://127.0.0.1:9/other\""))
        .unwrap();
    let calls = house.token_calls();
    house.clock.advance(Duration::from_secs(4 * 60 + 30));
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
    assert_eq!(house.token_calls(), calls);
    house.reload(&house.file).unwrap();
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn f_12_under_load_no_request_fails_and_each_sees_one_configuration() {
    let house = House::open().await;
    let other = EchoUpstream::start().await;
    let token = house.jwt("alice");
    let good = |upstream: &EchoUpstream, name: &str| {
        let route = format!("upstream = \"http://{}\"", upstream.address);
        let here = format!("upstream = \"http://{}\"", house.upstream.address);
        let header = format!("\"X-Custom-Identity\" = \"{name}\"");
        let file = with(&house, &here, &format!("{route}\npreserve_host = false"));
        file.replacen("\"X-Custom-Identity\" = \"{staff_number}\"", &header, 1)
    };
    let (a, b) = (good(&house.upstream, "a"), good(&other, "b"));
    let bad = format!("{}\n[route", house.file);
    house.reload(&a).unwrap();
    let told = |upstream: &EchoUpstream, name: &str| (upstream.address.to_string(), name.to_owned());
    let pairs = [told(&house.upstream, "a"), told(&other, "b")];
    let asking: Vec<_> = (0..8)
        .map(|_| tokio::spawn(ask_often(house.url("/"), token.clone(), pairs.clone())))
        .collect();
    for round in 0..50 {
        let outcome = house.reload([&b, &bad, &a][round % 3]);
        assert_eq!(outcome.is_err(), round % 3 == 1, "round {round}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut seen = String::new();
    for asked in asking {
        write!(seen, "{}", asked.await.unwrap()).unwrap();
    }
    assert!(
        seen.contains('a') && seen.contains('b'),
        "there was one configuration only: {seen}"
    );
}

/// Fifty requests; yields the name that each was answered under.
async fn ask_often(url: String, token: String, pairs: [(String, String); 2]) -> String {
    let client = client();
    let mut names = String::new();
    for _ in 0..50 {
        let answer = client.get(&url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let seen: serde_json::Value = answer.json().await.unwrap();
        let header = |name| crate::support::upstream::told(&seen, name).join(",");
        let pair = (header("host"), header("x-custom-identity"));
        assert!(pairs.contains(&pair), "{pair:?}");
        names.push_str(&pair.1);
    }
    names
}
