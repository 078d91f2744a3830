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
    assert!(stored::read(br#"{"v":2,"new":"shape"}"#).is_none());
    assert!(stored::read(b"\x00\x01").is_none());
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
    let listed = sessions.store.list(10).await.unwrap();
    let record = sessions.store.read(&listed[0].0).await.unwrap().unwrap();
    let seen = format!("{:?} {:?}", record.sealed, record.label);
    for secret in ["ann", "refresh", "corp", "group-00000"] {
        assert!(!seen.contains(secret), "{secret}");
    }
    assert!(
        Ticket::issue(sessions.ring())
            .read(&record, "https://wiki.example.com")
            .is_none()
    );
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
