//! Providers over a transport that answers as a test says, and counts.

mod documents;
mod introspection;
mod jwts;
mod logins;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use super::{
    BearerError, BearerKind, BearerSettings, CallLimits, EndpointOverrides, Provider, Providers, Settings, UseUserinfo,
    transport::{Answer, SendError, Transport},
};
use crate::{
    identity::{ClaimNames, Issuer, ProviderId, Scopes},
    oauth::{
        client::{ClientAuth, ClientRegistration},
        jwt::Algorithm,
        tests::{NOW, answer, signer::jwk},
    },
    secret::{FingerprintKey, Secret},
    telemetry::Metrics,
    time::Timestamp,
    trust::TrustRoots,
};

/// What the fake provider does with a request to a path.
type Behaviour = Box<dyn FnMut(&str) -> Reply + Send>;

/// What a request meets.
enum Reply {
    Answer(u16, Value),
    /// After this time.
    Later(Duration, Value),
    Unreachable,
    Panic,
    Never,
}

/// A provider's server: what was asked of it, and what it does.
struct Server {
    asked: Mutex<Vec<String>>,
    behaviour: Mutex<Behaviour>,
    under_way: AtomicUsize,
}

impl Server {
    fn new(behaviour: impl FnMut(&str) -> Reply + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            behaviour: Mutex::new(Box::new(behaviour)),
            under_way: AtomicUsize::new(0),
        })
    }

    /// From now on it does something else.
    fn behaves(&self, behaviour: impl FnMut(&str) -> Reply + Send + 'static) {
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    /// How often a path was asked for that ends like this.
    fn calls(&self, ending: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|path| path.ends_with(ending)).count()
    }

    fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    async fn answer(&self, path: &str) -> Result<Response<Bytes>, SendError> {
        let reply = (self.behaviour.lock().unwrap())(path);
        match reply {
            Reply::Answer(status, body) => Ok(answer(status, &body)),
            Reply::Later(pause, body) => {
                tokio::time::sleep(pause).await;
                Ok(answer(200, &body))
            }
            Reply::Unreachable => Err(SendError::Unreachable("nobody is there".into())),
            Reply::Panic => panic!("the transport broke"),
            Reply::Never => std::future::pending().await,
        }
    }
}

/// The way to a server.
struct Fake(Arc<Server>);

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Transport for Fake {
    fn send(&self, request: Request<Bytes>) -> Answer<'_> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            self.0.asked.lock().unwrap().push(path.clone());
            self.0.under_way.fetch_add(1, Ordering::SeqCst);
            let answer = self.0.answer(&path).await;
            self.0.under_way.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

/// Answers discovery and keys; everything else is left to `rest`.
fn well(mut rest: impl FnMut(&str) -> Reply + Send + 'static) -> impl FnMut(&str) -> Reply + Send + 'static {
    move |path| match path {
        "/.well-known/openid-configuration" => Reply::Answer(200, metadata("https://id.example.com")),
        "/keys" => Reply::Answer(200, keys(&["a"])),
        path => rest(path),
    }
}

fn nothing_more(_: &str) -> Reply {
    Reply::Answer(404, json!({}))
}

fn metadata(issuer: &str) -> Value {
    let at = |path: &str| json!(format!("https://id.example.com/{path}"));
    json!({
        "issuer": issuer, "authorization_endpoint": at("authorize"), "token_endpoint": at("token"),
        "jwks_uri": at("keys"), "introspection_endpoint": at("introspect"), "userinfo_endpoint": at("userinfo"),
        "end_session_endpoint": at("bye"),
    })
}

/// The one test key under some ids.
fn keys(ids: &[&str]) -> Value {
    let named = |id: &&str| {
        let mut key = jwk("ES256");
        key["kid"] = json!(id);
        key
    };
    json!({ "keys": ids.iter().map(named).collect::<Vec<_>>() })
}

fn settings(id: &str, issuer: &str, kind: BearerKind) -> Settings {
    Settings {
        id: ProviderId::new(id),
        display_name: id.into(),
        issuer: Issuer::new(issuer),
        client: ClientRegistration {
            client_id: "door".into(),
            auth: ClientAuth::SecretBasic(Secret::new("s")),
        },
        scopes: Scopes::parse("openid"),
        authorization_params: Vec::new(),
        id_token_algorithms: None,
        assumed_token_lifetime: Duration::from_secs(60),
        clock_skew: Duration::from_secs(30),
        claim_names: ClaimNames::default(),
        userinfo: UseUserinfo::Auto,
        wanted_claims: Vec::new(),
        endpoints: EndpointOverrides::default(),
        bearer: Some(bearer_settings(kind)),
        trust: TrustRoots::default(),
        limits: CallLimits::default(),
    }
}

fn bearer_settings(kind: BearerKind) -> BearerSettings {
    BearerSettings {
        missing_audience_until: None,
        kind,
        audiences: vec!["api".into()],
        algorithms: vec![Algorithm::ES256],
        typ: Some("at+jwt".into()),
        clock_skew: Duration::from_secs(30),
        cache_ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(10),
        cache_entries: 1_000,
    }
}

fn opened(settings: Settings, server: &Arc<Server>) -> Arc<Provider> {
    let metrics = Arc::new(Metrics::default());
    Arc::new(Provider::new(settings, Arc::new(Fake(server.clone())), metrics))
}

fn one(kind: BearerKind, server: &Arc<Server>) -> Arc<Provider> {
    opened(settings("corp", "https://id.example.com", kind), server)
}

/// Those who check bearer tokens, all of them allowed.
fn all(providers: &[Arc<Provider>]) -> Arc<Providers> {
    Arc::new(Providers {
        providers: providers.to_vec(),
        fingerprints: FingerprintKey::random(),
    })
}

/// The subject of a bearer token, as whoever is allowed says.
async fn subject(providers: &Providers, token: &str, now: Timestamp) -> Result<String, BearerError> {
    let allowed: Vec<_> = providers.iter().map(|provider| provider.id().clone()).collect();
    let identity = providers.authenticate_bearer(&allowed, token, now).await?;
    Ok(identity.subject.as_str().to_owned())
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW.unix() + seconds)
}
