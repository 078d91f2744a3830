//! What each step of the walk takes, without sockets but for Redis: `cargo bench --bench pieces`.

#[path = "shared/decision.rs"]
mod decision;
#[path = "shared/login.rs"]
mod login;
#[path = "shared/redis.rs"]
mod redis;

use std::{
    hint::black_box,
    net::Ipv4Addr,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, request::Parts};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::{
    config::{self, Settings, Surroundings},
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, User},
    identity::{Identity, Issuer, ProviderId},
    oauth::{
        access_token,
        jwks::KeySet,
        jwt::{Algorithm, Unverified},
    },
    policy::{self, Authentication, Initiator, Lookup, Origin, RequestFacts, Route, Scheme},
    provider::Providers,
    secret::Secret,
    session::{self, Presented, RedisSettings, Session, Sessions, StoreSettings},
    time::{Clock, SystemClock, Timestamp},
    upstream::{headers::Scrubber, target::Target},
};

criterion_group! {
    name = pieces;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
    targets = targets, routes, decisions, scrubbing, tokens, sessions, stored_sessions
}
criterion_main!(pieces);

fn targets(criterion: &mut Criterion) {
    for (name, path) in [
        ("target/plain", "/wiki/pages/1234?view=full&page=2"),
        ("target/encoded", "/wiki/%7Eann/caf%c3%a9/%41bc?view=full&page=2"),
    ] {
        let parts = head(path);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| Target::read(black_box(&parts)).unwrap())
        });
    }
}

fn routes(criterion: &mut Criterion) {
    let site = Site::with_routes(1_000);
    let routes = &site.settings.routes;
    let facts = facts("/team-700/pages/1234");
    criterion.bench_function("routes/find among 1000", |bencher| {
        bencher.iter(|| matches!(routes.find(black_box(&facts)), Lookup::Found(_)));
    });
    criterion.bench_function("routes/origin", |bencher| {
        bencher.iter(|| routes.origin(black_box("wiki.example.com"), None).unwrap());
    });

    let token = site.server.issue_jwt("ann", AUDIENCE, "read");
    let identity = site.runtime.block_on(identity(&site.providers(), &token));
    let route = found(&site.settings, &facts);
    criterion.bench_function("decide/protected", |bencher| {
        bencher.iter(|| {
            let who = Authentication::Verified(identity.clone());
            policy::decide(black_box(route), &facts, who, now())
        });
    });
}

fn decisions(criterion: &mut Criterion) {
    let scene = decision::Scene::new();
    for (name, path) in [
        ("decide/ten requirements, 200 groups", "/ten"),
        ("decide/an expression", "/cel"),
        ("decide/an expression, 200 groups", "/groups"),
    ] {
        let visit = scene.at(path);
        assert!(matches!(visit.decide(), policy::Decision::Allow(_)), "{path}");
        criterion.bench_function(name, |bencher| bencher.iter(|| black_box(&visit).decide()));
    }
}

fn scrubbing(criterion: &mut Criterion) {
    let scrubber = Scrubber::new(Site::with_routes(1).settings.scrub);
    let headers = thirty_headers();
    criterion.bench_function("scrub/30 headers", |bencher| {
        let clean = |mut headers: HeaderMap| {
            scrubber.clean(&mut headers);
            headers
        };
        bencher.iter_batched(|| headers.clone(), clean, BatchSize::SmallInput);
    });
}

fn tokens(criterion: &mut Criterion) {
    let site = Site::with_routes(1);
    let (providers, corp) = (site.providers(), [ProviderId::new("corp")]);
    let token = site.server.issue_jwt("ann", AUDIENCE, "read");
    let ask = || providers.authenticate_bearer(&corp, black_box(&token), now());
    site.runtime.block_on(ask()).unwrap();
    criterion.bench_function("jwt/remembered", |bencher| {
        // A runtime's own work at each entry would be most of it.
        bencher.iter(|| futures_are_ready(ask()));
    });
    let opaque = site.server.issue_opaque("ann", AUDIENCE, "read");
    let ask = || providers.authenticate_bearer(&corp, black_box(&opaque), now());
    site.runtime.block_on(ask()).unwrap();
    criterion.bench_function("opaque/remembered", |bencher| bencher.iter(|| futures_are_ready(ask())));

    let keys = keys_of(&site.server);
    let rules = access_token::Rules {
        issuer: Issuer::new(site.server.issuer()),
        audiences: vec![AUDIENCE.to_owned()],
        kind: Some("at+jwt".to_owned()),
        clock_skew: Duration::from_secs(30),
        missing_audience_until: None,
    };
    for (name, algorithm) in [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256)] {
        let token = site
            .server
            .sign(&json!({ "typ": "at+jwt", "alg": name }), &claims(site.server.issuer()));
        let verify = || {
            let verified = Unverified::read(black_box(&token))?.verify(&keys, &[algorithm])?;
            access_token::from_jwt(verified, &rules, now())
        };
        criterion.bench_function(&format!("jwt/new, {name}"), |bencher| {
            bencher.iter(|| verify().unwrap())
        });
    }
}

fn sessions(criterion: &mut Criterion) {
    let settings = Site::with_routes(1).settings.session;
    let forgetful = || Sessions::new(settings.clone()).unwrap();
    for kibibytes in KIBIBYTES {
        let sessions = forgetful();
        let cookies = at_once(cookies_of(&sessions, 1_024 * kibibytes));
        criterion.bench_function(&format!("session/remembered, {kibibytes} KiB"), |bencher| {
            bencher.iter(|| at_once(presented(&sessions, &cookies)));
        });
        criterion.bench_function(&format!("session/opened, {kibibytes} KiB"), |bencher| {
            let open = |sessions: Sessions| (at_once(presented(&sessions, &cookies)), sessions);
            bencher.iter_batched(forgetful, open, BatchSize::SmallInput);
        });
    }
}

/// Read from the store and opened, each time: in this process, and in a Redis of which only the asking counts.
fn stored_sessions(criterion: &mut Criterion) {
    let mut settings = Site::with_routes(1).settings.session;
    settings.read_cache = Duration::ZERO;
    settings.store = StoreSettings::Memory { max_bytes: 1 << 20 };
    read_each_time(criterion, "memory", &settings);
    match redis::Redis::start() {
        Ok(server) => {
            settings.store = StoreSettings::Redis(Box::new(RedisSettings::parse(&server.url()).unwrap()));
            read_each_time(criterion, "Redis", &settings);
        }
        Err(complaint) => eprintln!("\nLEFT OUT: {complaint}\n"),
    }
}

fn read_each_time(criterion: &mut Criterion, place: &str, settings: &session::Settings) {
    // As a gateway's worker: it sends, waits and reads in one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    let _entered = runtime.enter();
    for kibibytes in KIBIBYTES {
        let sessions = Sessions::new(settings.clone()).unwrap();
        let cookies = runtime.block_on(cookies_of(&sessions, 1_024 * kibibytes));
        let name = format!("read from {place}, {kibibytes} KiB, processor time");
        let mut group = criterion.benchmark_group("session");
        // The kernel counts a running thread's time a few milliseconds late.
        group.sample_size(10);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let before = processor_time();
                    for _ in 0..count {
                        presented(&sessions, &cookies).await;
                    }
                    processor_time() - before
                })
            });
        });
    }
}

async fn presented(sessions: &Sessions, cookies: &[(String, String)]) -> Presented {
    let origin = origin();
    let jar = sessions.jar(&origin, black_box(cookies));
    sessions.present(&jar, &origin, now()).await.unwrap().unwrap()
}

/// What this thread has used of processors so far, in its own code and in the kernel.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this needs Linux");
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Of claims and tokens; what fits into cookies ends soon after the last.
const KIBIBYTES: [usize; 3] = [1, 3, 8];

const AUDIENCE: &str = "https://wiki.example.com";

/// A gateway's settings, and the authorization server that they name.
struct Site {
    runtime: Runtime,
    server: AuthorizationServer,
    settings: Settings,
}

impl Site {
    fn with_routes(count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = AuthorizationServer::builder(Arc::new(SystemClock))
            .client(script())
            .user(User::named("ann"))
            .access_token_lifetime(Duration::from_secs(3_600));
        let server = runtime
            .block_on(server.listen((Ipv4Addr::LOCALHOST, 0).into()))
            .unwrap();
        let surroundings = Surroundings {
            directory: Path::new(""),
            variable: |_| None,
        };
        let settings = config::parse(&file(server.issuer(), count), "bench.toml", surroundings, now());
        Self {
            settings: settings.unwrap_or_else(|problems| panic!("{problems}")),
            runtime,
            server,
        }
    }

    fn providers(&self) -> Providers {
        Providers::new(self.settings.providers.clone(), &Arc::default(), None).unwrap()
    }
}

fn file(issuer: &str, routes: usize) -> String {
    let mut text = format!(
        r#"version = 1
[provider.corp]
issuer = "{issuer}"
client_id = "script"
client_secret = "script"
[provider.corp.bearer]
audiences = ["{AUDIENCE}"]
"#
    );
    for number in 0..routes {
        text.push_str(&format!(
            r#"[route.team-{number}]
url = "https://wiki.example.com/team-{number}"
upstream = "http://127.0.0.1:9"
auth = ["session", "bearer"]
[route.team-{number}.allow]
scopes = ["read"]
"#
        ));
    }
    text
}

fn script() -> Client {
    Client {
        id: "script".to_owned(),
        secret: Some(Secret::new("script")),
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: AUDIENCE.to_owned(),
        access_tokens: AccessTokenKind::Jwt,
        scopes: vec!["read".to_owned()],
    }
}

fn keys_of(server: &AuthorizationServer) -> KeySet {
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    let answer = answer.body(Bytes::from(server.jwks().to_string())).unwrap();
    KeySet::read(&answer).unwrap()
}

async fn identity(providers: &Providers, token: &str) -> Arc<Identity> {
    let corp = [ProviderId::new("corp")];
    providers.authenticate_bearer(&corp, token, now()).await.unwrap()
}

/// Polls once; what is remembered needs no more.
fn futures_are_ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it is not remembered"),
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn head(path: &str) -> Parts {
    let request = Request::get(path).header(header::HOST, "wiki.example.com");
    request.body(()).unwrap().into_parts().0
}

fn facts(path: &'static str) -> RequestFacts<'static> {
    RequestFacts {
        method: &Method::GET,
        host: "wiki.example.com",
        port: None,
        path,
        query: None,
        client: policy::Client::Programmatic,
        initiator: Initiator::OwnSite,
        address: Ipv4Addr::LOCALHOST.into(),
        certificate: None,
    }
}

fn found<'a>(settings: &'a Settings, facts: &RequestFacts<'_>) -> &'a Route {
    match settings.routes.find(facts) {
        Lookup::Found(route) => route,
        other => panic!("{other:?}"),
    }
}

fn origin() -> Origin {
    Origin {
        scheme: Scheme::Https,
        host: "wiki.example.com".into(),
        port: None,
    }
}

/// What a browser and two proxies send, and six that are taken out.
fn thirty_headers() -> HeaderMap {
    let taken = [
        "authorization",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-auth-request-user",
        "connection",
        "host",
    ];
    let others = (taken.len()..30).map(|number| format!("x-some-header-{number}"));
    let names = taken.into_iter().map(str::to_owned).chain(others);
    let value = HeaderValue::from_static("a value of ordinary length");
    names
        .map(|name| (HeaderName::try_from(name).unwrap(), value.clone()))
        .collect()
}

fn claims(issuer: &str) -> Value {
    json!({
        "iss": issuer, "sub": "ann", "aud": AUDIENCE, "client_id": "script", "jti": "1", "scope": "read write",
        "iat": now().unix(), "exp": now().plus(Duration::from_secs(3_600)).unix(), "name": "Ann Example",
        "email": "ann@example.com", "email_verified": true, "groups": ["staff", "admins", "wiki-editors"],
    })
}

/// What never waits, without a runtime's own work around it.
fn at_once<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waited"),
    }
}

/// The cookies of a login with so many bytes of claims and tokens.
async fn cookies_of(sessions: &Sessions, bytes: usize) -> Vec<(String, String)> {
    let (origin, session) = (origin(), Session::begin(login::login(1, bytes, now()), now()));
    let jar = sessions.jar(&origin, &[]);
    let lines = sessions.begin(&session, &jar, &origin, now()).await.unwrap();
    let cookie = |line: &HeaderValue| cookie::Cookie::parse(line.to_str().unwrap().to_owned()).unwrap();
    let pair = |cookie: cookie::Cookie<'_>| (cookie.name().to_owned(), cookie.value().to_owned());
    let cookies: Vec<_> = lines.iter().map(cookie).map(pair).collect();
    let kept = presented(sessions, &cookies).await.held.session.login.clone();
    assert!(kept.access_token.is_some(), "something was left out to make it fit");
    cookies
}
