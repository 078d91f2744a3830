use http::HeaderValue;

use super::*;
use crate::{
    identity::{Claims, Issuer, ProviderId, Scopes, Subject},
    oauth::token::Login,
    policy::Scheme,
    secret::Secret,
};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

fn settings() -> Settings {
    Settings {
        keys: vec![SealingKey::random()],
        ephemeral_keys: false,
        idle_timeout: Duration::from_secs(1_800),
        max_lifetime: Duration::from_secs(28_800),
        refresh_before: Duration::from_secs(60),
        cookie: CookieSettings::default(),
        store: StoreSettings::default(),
        keep_access_token: false,
        read_cache: Duration::from_secs(1),
    }
}

fn origin(host: &str) -> Origin {
    Origin {
        scheme: Scheme::Https,
        host: host.into(),
        port: None,
    }
}

fn login(groups: usize) -> Login {
    let groups: Vec<_> = (0..groups).map(|index| format!("group-{index:05}")).collect();
    Login {
        provider: ProviderId::new("corp"),
        issuer: Issuer::new("https://id.example.com"),
        subject: Subject::new("ann").unwrap(),
        claims: Claims::from_iter([("groups", serde_json::json!(groups))]),
        scopes: Scopes::parse("openid"),
        access_token: Some(Secret::new("access")),
        access_received_at: NOW,
        access_expires_at: NOW.plus(Duration::from_secs(300)),
        refresh_token: Some(Secret::new("refresh")),
        id_token: Some(Secret::new("x".repeat(1_000))),
    }
}

/// Keeps a session at `from` and presents it at `to` with the cookies that the browser then has.
async fn kept_and_presented(sessions: &Sessions, from: &Origin, to: &Origin, now: Timestamp) -> Option<Presented> {
    let session = Session::begin(login(3), NOW);
    let jar = sessions.jar(from, &[]);
    let received: Vec<_> = browser(&sessions.begin(&session, &jar, from, NOW).await.unwrap());
    sessions.present(&sessions.jar(to, &received), to, now).await.unwrap()
}

fn browser(headers: &[HeaderValue]) -> Vec<(String, String)> {
    let pair = |header: &HeaderValue| {
        let (name, value) = header
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .split_once('=')
            .unwrap();
        (name.to_owned(), value.to_owned())
    };
    headers.iter().map(pair).collect()
}

#[tokio::test]
async fn what_is_kept_is_presented() {
    let sessions = Sessions::new(settings()).unwrap();
    let here = origin("wiki.example.com");
    let presented = kept_and_presented(&sessions, &here, &here, NOW).await.unwrap();
    assert_eq!(presented.held.session.login.subject.as_str(), "ann");
    assert!(
        presented
            .held
            .session
            .login
            .refresh_token
            .as_ref()
            .unwrap()
            .matches("refresh")
    );
    assert!(!presented.stale);
}

#[tokio::test]
async fn n_120_a_session_of_one_origin_is_unknown_at_another() {
    let sessions = Sessions::new(settings()).unwrap();
    let (here, there) = (origin("wiki.example.com"), origin("other.example.com"));
    assert!(kept_and_presented(&sessions, &here, &there, NOW).await.is_none());
}

#[tokio::test]
async fn a_shared_domain_shares_the_session() {
    let cookie = CookieSettings {
        domain: Some("example.com".into()),
        ..CookieSettings::default()
    };
    let sessions = Sessions::new(Settings { cookie, ..settings() }).unwrap();
    let (here, there) = (origin("wiki.example.com"), origin("other.example.com"));
    assert!(kept_and_presented(&sessions, &here, &there, NOW).await.is_some());
}

#[tokio::test]
async fn n_126_a_session_ends_when_it_idles() {
    let sessions = Sessions::new(settings()).unwrap();
    let here = origin("wiki.example.com");
    let at = |seconds| kept_and_presented(&sessions, &here, &here, NOW.plus(Duration::from_secs(seconds)));
    assert!(at(1_799).await.unwrap().stale);
    assert!(at(1_800).await.is_none());
}

#[test]
fn n_126_a_session_ends_at_its_lifetime_however_busy() {
    let sessions = Sessions::new(settings()).unwrap();
    let session = Session::begin(login(1), NOW);
    let busy = session.seen(NOW.plus(Duration::from_secs(28_700)));
    assert_eq!(sessions.ends_at(&busy), NOW.plus(Duration::from_secs(28_800)));
}

#[test]
fn a_renewed_session_keeps_its_beginning() {
    let session = Session::begin(login(1), NOW);
    let renewed = session.renewed(login(1).into(), NOW.plus(Duration::from_secs(600)));
    assert_eq!((renewed.id, renewed.started_at), (session.id, session.started_at));
}

#[test]
fn i_15_every_login_has_a_new_id() {
    assert_ne!(Session::begin(login(1), NOW).id, Session::begin(login(1), NOW).id);
}

#[tokio::test]
async fn f_18_the_id_token_goes_first_when_room_is_short() {
    let sessions = Sessions::new(settings()).unwrap();
    let here = origin("wiki.example.com");
    let session = Session::begin(login(560), NOW);
    let received = browser(
        &sessions
            .begin(&session, &sessions.jar(&here, &[]), &here, NOW)
            .await
            .unwrap(),
    );
    let presented = sessions
        .present(&sessions.jar(&here, &received), &here, NOW)
        .await
        .unwrap()
        .unwrap();
    assert!(presented.held.session.login.id_token.is_none());
    assert_eq!(presented.held.session.login.claims, session.login.claims);
}

#[tokio::test]
async fn f_18_the_access_token_goes_next_unless_an_application_gets_it() {
    let here = origin("wiki.example.com");
    let login = || Login {
        access_token: Some(Secret::new("x".repeat(2_000))),
        ..login(560)
    };
    for keep_access_token in [false, true] {
        let settings = Settings {
            keep_access_token,
            ..settings()
        };
        let sessions = Sessions::new(settings).unwrap();
        let (session, jar) = (Session::begin(login(), NOW), sessions.jar(&here, &[]));
        let kept = sessions.begin(&session, &jar, &here, NOW).await;
        assert_eq!(kept.is_err(), keep_access_token);
    }
}

#[tokio::test]
async fn f_18_a_session_that_never_fits_is_refused() {
    let sessions = Sessions::new(settings()).unwrap();
    let here = origin("wiki.example.com");
    let session = Session::begin(login(2_000), NOW);
    assert!(
        sessions
            .begin(&session, &sessions.jar(&here, &[]), &here, NOW)
            .await
            .is_err()
    );
}

#[test]
fn f_25_a_session_of_another_version_is_ignored() {
    let mut stored: serde_json::Value = serde_json::from_slice(&stored::write(&Session::begin(login(1), NOW))).unwrap();
    assert!(stored::read(stored.to_string().as_bytes()).is_some());
    stored["v"] = 2.into();
    assert!(stored::read(stored.to_string().as_bytes()).is_none());
    stored["v"] = serde_json::json!(1);
    stored.as_object_mut().unwrap().remove("g");
    let older = stored::read(stored.to_string().as_bytes()).unwrap();
    assert_eq!(older.login.access_received_at, older.started_at);
    assert!(stored::read(br#"{"v":2,"new":"shape"}"#).is_none());
    assert!(stored::read(b"\x00\x01").is_none());
}

/// What the release before this one wrote, and what it needs to read.
#[derive(serde::Serialize, serde::Deserialize)]
struct BeforeAddresses {
    v: u32,
    id: String,
    p: String,
    i: String,
    s: String,
    c: serde_json::Value,
    o: serde_json::Value,
    a: Option<String>,
    e: i64,
    r: Option<String>,
    h: Option<String>,
    b: i64,
    l: i64,
}

#[test]
fn f_25_the_release_before_and_this_one_read_each_others_sessions() {
    let session = Session::begin(login(1), NOW).started_from("203.0.113.7".parse().unwrap());
    let session = session.seen_from("2001:db8::1".parse().unwrap());
    let new = stored::write(&session);
    let read = stored::read(&new).unwrap();
    assert_eq!(read.started_from, session.started_from);
    assert_eq!(read.seen_from, session.seen_from);

    let before: BeforeAddresses = serde_json::from_slice(&new).unwrap();
    assert_eq!((before.v, before.s.as_str(), before.b), (1, "ann", NOW.unix()));
    let old = serde_json::to_vec(&before).unwrap();
    let read = stored::read(&old).unwrap();
    assert_eq!((&read.id, read.started_at), (&session.id, NOW));
    assert_eq!((read.started_from, read.seen_from), (None, None));
    let still = read.seen(NOW).seen_from("203.0.113.8".parse().unwrap());
    let still = stored::read(&stored::write(&still)).unwrap();
    assert_eq!(
        (still.started_from, still.seen_from),
        (None, Some("203.0.113.8".parse().unwrap()))
    );
}

#[tokio::test]
async fn f_25_an_administrator_sees_sessions_of_the_release_before() {
    let sessions = Sessions::new(in_memory()).unwrap();
    let label = serde_json::json!({"provider": "corp", "subject": "ann", "started_at": 1, "seen_at": 2});
    let context = Context {
        purpose: "label",
        name: "old",
        tenant: "",
    };
    let sealed = sessions.ring.seal(context, label.to_string().as_bytes()).unwrap();
    let record = Record {
        version: 1,
        sealed: bytes::Bytes::new(),
        label: sealed.into(),
    };
    sessions
        .store
        .create("old", record, &[], Duration::from_secs(60))
        .await
        .unwrap();
    let (listed, complete) = sessions.listed(10).await.unwrap();
    assert_eq!((listed.len(), complete), (1, true));
    assert_eq!((listed[0].1.started_from, listed[0].1.seen_at.unix()), (None, 2));
}

fn in_memory() -> Settings {
    Settings {
        store: StoreSettings::Memory { max_bytes: 1 << 20 },
        ..settings()
    }
}

#[tokio::test]
async fn a_stored_session_is_presented_by_its_ticket_and_ends_at_once() {
    let sessions = Sessions::new(in_memory()).unwrap();
    let here = origin("wiki.example.com");
    let session = Session::begin(login(2_000), NOW);
    let cookies = sessions
        .begin(&session, &sessions.jar(&here, &[]), &here, NOW)
        .await
        .unwrap();
    let received = browser(&cookies);
    assert_eq!(received.len(), 1, "a ticket is one cookie, whatever the session holds");
    let jar = sessions.jar(&here, &received);
    let presented = sessions.present(&jar, &here, NOW).await.unwrap().unwrap();
    assert_eq!(presented.held.session.login.claims, session.login.claims);
    assert!(sessions.end(&jar, &here, NOW).await.unwrap().is_some());
    assert!(sessions.present(&jar, &here, NOW).await.unwrap().is_none());
    assert!(sessions.end(&jar, &here, NOW).await.unwrap().is_none(), "quietly");
}

#[tokio::test]
async fn a_stolen_store_opens_nothing_and_a_stolen_ticket_needs_the_store() {
    let sessions = Sessions::new(in_memory()).unwrap();
    let here = origin("wiki.example.com");
    let session = Session::begin(login(1), NOW);
    sessions
        .begin(&session, &sessions.jar(&here, &[]), &here, NOW)
        .await
        .unwrap();
    let listed = sessions.store.list(10).await.unwrap().found;
    let record = sessions.store.read(&listed[0].0).await.unwrap().unwrap();
    let seen = format!("{:?} {:?}", record.sealed, record.label);
    // Long enough, or spelled so, that no cipher text spells them by chance.
    for secret in ["id.example.com", "refresh", "group-00000"] {
        assert!(!seen.contains(secret), "{secret}");
    }
    assert!(
        Ticket::issue(sessions.ring())
            .read(&record, "https://wiki.example.com")
            .is_none()
    );
    // Not even the gateway's own keys open what only the browser's ticket opens.
    let name = format!("{} {}", listed[0].0, record.version);
    let context = Context {
        purpose: "record",
        name: &name,
        tenant: "https://wiki.example.com",
    };
    let sealed = std::str::from_utf8(&record.sealed).unwrap();
    assert!(sessions.ring().open(context, sealed).is_none());
}

#[tokio::test]
async fn i_15_a_new_login_ends_the_session_before_it() {
    let sessions = Sessions::new(in_memory()).unwrap();
    let here = origin("wiki.example.com");
    let begin = async |received: &[(String, String)]| {
        let session = Session::begin(login(1), NOW);
        browser(
            &sessions
                .begin(&session, &sessions.jar(&here, received), &here, NOW)
                .await
                .unwrap(),
        )
    };
    let first = begin(&[]).await;
    let second = begin(&first).await;
    assert!(
        sessions
            .present(&sessions.jar(&here, &first), &here, NOW)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        sessions
            .present(&sessions.jar(&here, &second), &here, NOW)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_copied_cookie_does_not_outlive_its_sign_out() {
    let sessions = Sessions::new(settings()).unwrap();
    let here = origin("wiki.example.com");
    let session = Session::begin(login(1), NOW);
    let received = browser(
        &sessions
            .begin(&session, &sessions.jar(&here, &[]), &here, NOW)
            .await
            .unwrap(),
    );
    let jar = sessions.jar(&here, &received);
    assert!(sessions.end(&jar, &here, NOW).await.unwrap().is_some());
    assert!(sessions.present(&jar, &here, NOW).await.unwrap().is_none());
}

async fn is_there(sessions: &Sessions, received: &[(String, String)], now: Timestamp) -> bool {
    let here = origin("wiki.example.com");
    let jar = sessions.jar(&here, received);
    sessions.present(&jar, &here, now).await.unwrap().is_some()
}

async fn logged_in(sessions: &Sessions, sid: &str, now: Timestamp) -> Vec<(String, String)> {
    let here = origin("wiki.example.com");
    let claims = Claims::from_iter([("sid", serde_json::json!(sid))]);
    let session = Session::begin(Login { claims, ..login(1) }, now);
    let jar = sessions.jar(&here, &[]);
    browser(&sessions.begin(&session, &jar, &here, now).await.unwrap())
}

#[tokio::test]
async fn n_112_sessions_end_by_the_session_at_the_provider_or_by_the_person() {
    let issuer = Issuer::new("https://id.example.com");
    let ann = Subject::new("ann").unwrap();
    for settings in [settings(), in_memory()] {
        let sessions = Sessions::new(settings).unwrap();
        let phone = logged_in(&sessions, "s1", NOW).await;
        let laptop = logged_in(&sessions, "s2", NOW).await;

        let other = Issuer::new("https://other.example.com");
        sessions.end_of(&other, Whose::Subject(&ann), NOW, NOW).await.unwrap();
        sessions.end_of(&issuer, Whose::Sid("ann"), NOW, NOW).await.unwrap();
        assert!(is_there(&sessions, &phone, NOW).await && is_there(&sessions, &laptop, NOW).await);

        sessions.end_of(&issuer, Whose::Sid("s1"), NOW, NOW).await.unwrap();
        assert!(!is_there(&sessions, &phone, NOW).await && is_there(&sessions, &laptop, NOW).await);

        sessions.end_of(&issuer, Whose::Subject(&ann), NOW, NOW).await.unwrap();
        assert!(!is_there(&sessions, &laptop, NOW).await);
        let later = NOW.plus(Duration::from_secs(1));
        let tablet = logged_in(&sessions, "s3", later).await;
        assert!(is_there(&sessions, &tablet, later).await, "who logs in again is in");
    }
}

#[tokio::test]
async fn an_earlier_ending_brings_nothing_back() {
    let sessions = Sessions::new(settings()).unwrap();
    let (issuer, ann) = (Issuer::new("https://id.example.com"), Subject::new("ann").unwrap());
    let phone = logged_in(&sessions, "s1", NOW).await;
    for at in [NOW, NOW.minus(Duration::from_secs(60))] {
        sessions.end_of(&issuer, Whose::Subject(&ann), at, NOW).await.unwrap();
        assert!(!is_there(&sessions, &phone, NOW).await);
    }
}

#[tokio::test]
async fn n_110_what_counts_once_is_used_up() {
    let sessions = Sessions::new(settings()).unwrap();
    let until = NOW.plus(Duration::from_secs(60));
    let token = ["https://id.example.com", "j1"];
    assert!(!sessions.is_used(&token).await.unwrap());
    assert!(sessions.use_up(&token, until, NOW).await.unwrap());
    assert!(sessions.is_used(&token).await.unwrap());
    assert!(!sessions.use_up(&token, until, NOW).await.unwrap());
    assert!(!sessions.is_used(&["https://id.example.com", "j2"]).await.unwrap());
}

/// Sessions under other keys in the same place.
fn rotated(sessions: &Sessions, keys: &[&SealingKey]) -> Sessions {
    let keys = keys.iter().map(|key| (*key).clone()).collect();
    let settings = Settings {
        keys,
        ..sessions.settings.clone()
    };
    Sessions {
        store: sessions.store.clone(),
        ..Sessions::new(settings).unwrap()
    }
}

/// What the browser holds after a request; nobody may be logged out.
async fn seen(sessions: &Sessions, received: &[(String, String)], now: Timestamp) -> Vec<(String, String)> {
    let here = origin("wiki.example.com");
    let jar = sessions.jar(&here, received);
    let Presented { held, stale } = sessions.present(&jar, &here, now).await.unwrap().expect("logged out");
    if !stale {
        return received.to_vec();
    }
    let cookies = sessions
        .keep(&held.session, &held.place, &jar, &here, now)
        .await
        .unwrap();
    match cookies.is_empty() {
        true => received.to_vec(),
        false => browser(&cookies),
    }
}

async fn on_old_keys(sessions: &Sessions, now: Timestamp) -> Option<usize> {
    sessions.on_old_keys(now).await.unwrap()
}

fn unread() -> Settings {
    Settings {
        keep_access_token: false,
        read_cache: Duration::ZERO,
        ..in_memory()
    }
}

#[tokio::test]
async fn whoever_is_not_counted_needs_no_old_key() {
    let (old, new) = (SealingKey::random(), SealingKey::random());
    // The new key is made known before it seals, or not: with one gateway it need not be.
    for known_before in [true, false] {
        let first = rotated(&Sessions::new(unread()).unwrap(), &[&old]);
        assert_eq!(on_old_keys(&first, NOW).await, Some(0), "there is no old key");
        let mut phone = logged_in(&first, "s1", NOW).await;
        let lost = logged_in(&first, "s2", NOW).await;
        if known_before {
            let between = rotated(&first, &[&old, &new]);
            phone = seen(&between, &phone, NOW).await;
            assert_eq!(on_old_keys(&between, NOW).await, Some(0), "nobody has the new one");
        }
        let switched = rotated(&first, &[&new, &old]);
        assert_eq!(on_old_keys(&switched, NOW).await, Some(2));
        logged_in(&switched, "s3", NOW).await;
        assert_eq!(on_old_keys(&switched, NOW).await, Some(2));

        let moved = seen(&switched, &phone, NOW).await;
        assert_ne!(moved, phone);
        assert_eq!(
            on_old_keys(&switched, NOW).await,
            Some(2),
            "who knows whether it arrived"
        );
        assert_eq!(seen(&switched, &moved, NOW).await, moved);
        assert_eq!(on_old_keys(&switched, NOW).await, Some(1));

        // An answer that never arrives leaves the browser with the old ticket, and it counts.
        seen(&switched, &lost, NOW).await;
        assert_eq!(on_old_keys(&switched, NOW).await, Some(1));
        let later = seen(&switched, &lost, NOW).await;
        assert!(!is_there(&rotated(&first, &[&new]), &lost, NOW).await);
        seen(&switched, &later, NOW).await;
        assert_eq!(on_old_keys(&switched, NOW).await, Some(0));
        let alone = rotated(&first, &[&new]);
        for received in [&moved, &later] {
            assert!(is_there(&alone, received, NOW).await, "nobody is logged out");
        }
        assert_eq!(alone.listed(10).await.unwrap().0.len(), 3);
    }
}

#[tokio::test]
async fn a_replica_that_still_seals_with_the_old_key_is_not_overlooked() {
    let (old, new) = (SealingKey::random(), SealingKey::random());
    let behind = rotated(&Sessions::new(unread()).unwrap(), &[&old, &new]);
    let ahead = rotated(&behind, &[&new, &old]);
    let phone = logged_in(&ahead, "s1", NOW).await;
    assert_eq!(on_old_keys(&ahead, NOW).await, Some(0));
    let phone = seen(&behind, &phone, NOW).await;
    assert!(
        is_there(&rotated(&behind, &[&old]), &phone, NOW).await,
        "it holds an old ticket now"
    );
    assert_eq!(on_old_keys(&ahead, NOW).await, Some(1));
    let phone = seen(&ahead, &phone, NOW).await;
    seen(&ahead, &phone, NOW).await;
    assert_eq!(on_old_keys(&ahead, NOW).await, Some(0));
}

#[tokio::test]
async fn sessions_in_cookies_are_counted_as_they_come() {
    let (old, new) = (SealingKey::random(), SealingKey::random());
    let first = rotated(&Sessions::new(settings()).unwrap(), &[&old]);
    assert_eq!(on_old_keys(&first, NOW).await, Some(0));
    let (phone, laptop) = (logged_in(&first, "s1", NOW).await, logged_in(&first, "s2", NOW).await);
    let switched = rotated(&first, &[&new, &old]);
    assert_eq!(on_old_keys(&switched, NOW).await, None, "nobody has come yet");
    let moved = seen(&switched, &phone, NOW).await;
    seen(&switched, &laptop, NOW).await;
    assert_eq!(on_old_keys(&switched, NOW).await, Some(2));
    assert_eq!(seen(&switched, &moved, NOW).await, moved);
    assert_eq!(on_old_keys(&switched, NOW).await, Some(1));
    // The answer to the laptop was lost, and it is not seen again.
    let late = NOW.plus(Duration::from_secs(1_799));
    assert_eq!(on_old_keys(&switched, late).await, Some(1));
    let later = NOW.plus(Duration::from_secs(1_800));
    assert_eq!(on_old_keys(&switched, later).await, Some(0));
    assert!(!is_there(&switched, &laptop, later).await, "it has idled");
    assert!(
        is_there(&rotated(&first, &[&new]), &moved, late).await,
        "nobody is logged out"
    );
}

#[tokio::test]
async fn what_ended_before_a_new_key_came_stays_ended() {
    let (old, new) = (SealingKey::random(), SealingKey::random());
    let first = rotated(&Sessions::new(settings()).unwrap(), &[&old]);
    let (issuer, ann) = (Issuer::new("https://id.example.com"), Subject::new("ann").unwrap());
    let phone = logged_in(&first, "s1", NOW).await;
    first.end_of(&issuer, Whose::Subject(&ann), NOW, NOW).await.unwrap();
    assert!(!is_there(&rotated(&first, &[&new, &old]), &phone, NOW).await);
}

#[tokio::test]
async fn a_session_that_moved_to_a_new_key_is_found_when_the_old_one_is_gone() {
    let (old, new) = (SealingKey::random(), SealingKey::random());
    let first = rotated(&Sessions::new(unread()).unwrap(), &[&old]);
    let (issuer, ann) = (Issuer::new("https://id.example.com"), Subject::new("ann").unwrap());
    let phone = logged_in(&first, "s1", NOW).await;
    let phone = seen(&rotated(&first, &[&new, &old]), &phone, NOW).await;
    let alone = rotated(&first, &[&new]);
    assert!(is_there(&alone, &phone, NOW).await);
    assert_eq!(alone.end_of(&issuer, Whose::Subject(&ann), NOW, NOW).await.unwrap(), 1);
    assert!(!is_there(&alone, &phone, NOW).await);
}

#[tokio::test]
async fn an_ending_is_remembered_for_the_longest_life_since_the_start() {
    let of_hours = |hours: u64| Settings {
        max_lifetime: Duration::from_secs(hours * 3_600),
        ..settings()
    };
    let started = Sessions::new(of_hours(8)).unwrap();
    let shorter = started.under(of_hours(1)).unwrap();
    assert_eq!(shorter.remembered_for(), Duration::from_secs(8 * 3_600));
    let longer = shorter.under(of_hours(9)).unwrap();
    assert_eq!(longer.remembered_for(), Duration::from_secs(9 * 3_600));
}
