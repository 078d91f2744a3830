//! A gateway between a provider and an application, all on loopback, with a clock that is turned by hand.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use vestibule::{
    cli::{
        reload::{ReloadError, Reloader},
        run,
    },
    config::{self, Problems, Settings, Surroundings},
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, User},
    secret::Secret,
    server::Running,
    time::{Clock, ManualClock, Timestamp},
};

pub use vestibule::demo::authorization_server::{Fault, Place};

use super::{
    browser::{PROXY, client},
    process::free_port,
    upstream::EchoUpstream,
};

pub struct House {
    pub address: SocketAddr,
    /// Scheme, host and port.
    origin: String,
    pub clock: Arc<ManualClock>,
    pub provider: AuthorizationServer,
    pub upstream: EchoUpstream,
    /// What its file says.
    pub file: String,
    gateway: Running,
    reloader: Mutex<Reloader>,
}

/// 2026-01-01; every house lives then.
pub const OPENING: Timestamp = Timestamp::from_unix(1_767_225_600);

pub const AUDIENCE: &str = "https://wiki.example.com";

impl House {
    pub async fn open() -> Self {
        Self::open_with(|_| String::new()).await
    }

    /// With sessions kept as these keys of `[session]` say.
    pub async fn open_keeping(session: &str) -> Self {
        let keys = session.to_owned();
        Self::open_with(move |_| format!("\n[session]\n{keys}\n")).await
    }

    /// With more in the file, which is told the gateway's own address.
    pub async fn open_with(more: impl Fn(SocketAddr) -> String) -> Self {
        Self::open_serving("", more).await
    }

    /// With HTTP/2 in clear text besides.
    pub async fn open_with_h2c(more: impl Fn(SocketAddr) -> String) -> Self {
        Self::open_serving("server.h2c = true\n", more).await
    }

    /// With these lines of `[server]`, each with its whole name.
    pub async fn open_serving(server: &str, more: impl Fn(SocketAddr) -> String) -> Self {
        Self::open_at("http://127.0.0.1", server, more).await
    }

    /// With its routes on this scheme and host.
    pub async fn open_at(place: &str, server: &str, more: impl Fn(SocketAddr) -> String) -> Self {
        let clock = Arc::new(ManualClock::starting_at(OPENING));
        let provider = provider(clock.clone()).await;
        let upstream = EchoUpstream::start().await;
        let (address, file, gateway, reloader) = loop {
            let port = free_port();
            let text = file(port, provider.issuer(), upstream.address);
            let here = format!("http://127.0.0.1:{port}");
            let mut text = text.replace(&here, &format!("{place}:{port}"));
            text.insert_str(0, server);
            text.push_str(&more(([127, 0, 0, 1], port).into()));
            if !text.contains("[admin]") {
                text.push_str("\n[admin]\nlisten = \"127.0.0.1:0\"\n");
            }
            let settings = settings(&text, &clock).unwrap();
            match run::open(settings, clock.clone()) {
                Ok((gateway, reloader)) => break (gateway.addresses()[0], text, gateway, reloader),
                // Somebody else was given the port in between.
                Err(run::StartError::Bind { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        let origin = format!("{place}:{}", address.port());
        let at = |path: &str| format!("{origin}{path}");
        // The second for when it is not the only provider.
        for callback in ["/oauth2/callback", "/oauth2/callback/corp"] {
            provider.register_redirect("wiki", &at(callback), &at("/oauth2/sign_out"));
        }
        provider.register_backchannel_logout("wiki", &at("/oauth2/backchannel_logout"));
        Self {
            address,
            origin,
            clock,
            provider,
            upstream,
            file,
            gateway,
            reloader: Mutex::new(reloader),
        }
    }

    /// Gives it another file.
    ///
    /// # Errors
    /// When it goes on by the file that it had.
    pub fn reload(&self, file: &str) -> Result<(), ReloadError> {
        let settings = settings(file, &self.clock);
        self.reloader.lock().unwrap().take(settings)
    }

    pub async fn open_without_provider() -> Self {
        let house = Self::open().await;
        house.provider.stop().await;
        house.clock.advance(Duration::from_secs(1));
        house
    }

    /// Ends the gateway as an operator does.
    pub async fn stop(self) {
        self.gateway.stop().await;
    }

    /// Ends the gateway, and leaves the application.
    pub async fn close(self) -> EchoUpstream {
        self.gateway.stop().await;
        self.upstream
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub fn now(&self) -> i64 {
        self.clock.now().unix()
    }

    // What the provider was asked.

    pub fn token_calls(&self) -> usize {
        self.provider.calls(Place::Token)
    }

    pub fn introspections(&self) -> usize {
        self.provider.calls(Place::Introspection)
    }

    pub fn key_fetches(&self) -> usize {
        self.provider.calls(Place::Keys)
    }

    // What happens to it.

    pub fn fault(&self, place: Place, fault: Fault) {
        self.provider.fault(place, fault);
    }

    pub fn clear_faults(&self) {
        self.provider.clear_faults();
    }

    pub fn slow_introspection(&self, delay: Duration) {
        self.fault(Place::Introspection, Fault::delay(delay));
    }

    pub fn rotate_keys(&self) {
        self.provider.rotate_keys().unwrap();
    }

    pub fn forget_refresh_tokens(&self) {
        self.provider.forget_refresh_tokens();
    }

    pub async fn stop_provider(&self) {
        self.provider.stop().await;
    }

    pub async fn start_provider(&self) {
        self.provider.start_again().await.unwrap();
    }

    pub async fn stop_upstream(&mut self) {
        self.upstream.stop().await;
    }

    pub async fn start_upstream(&mut self) {
        self.upstream = EchoUpstream::start_at(self.upstream.address).await;
    }

    // Tokens.

    pub fn jwt(&self, user: &str) -> String {
        self.jwt_with_scope(user, "openid")
    }

    pub fn jwt_with_scope(&self, user: &str, scope: &str) -> String {
        self.provider.issue_jwt(user, AUDIENCE, scope)
    }

    pub fn opaque(&self, user: &str) -> String {
        self.provider.issue_opaque(user, AUDIENCE, "openid")
    }

    pub fn revoke(&self, token: &str) {
        self.provider.revoke(token);
    }

    /// Signs with the key that the header's `alg` asks for, and names it.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut header = header.clone();
        if header.get("kid").is_none() {
            let kind = if header["alg"] == "ES256" { "EC" } else { "RSA" };
            header["kid"] = self.jwk(kind)["kid"].clone();
        }
        self.provider.sign(&header, claims)
    }

    fn jwk(&self, kind: &str) -> Value {
        let jwks = self.provider.jwks();
        let keys = jwks["keys"].as_array().unwrap();
        keys.iter().find(|key| key["kty"] == kind).unwrap().clone()
    }

    /// Tokens that lie about how they were signed (RFC 8725 §2.1).
    pub fn confused_tokens(&self, claims: &Value) -> Vec<String> {
        let rsa = self.jwk("RSA");
        let modulus = rsa["n"].as_str().unwrap();
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed_by_hmac = |algorithm: &str, secret: &[u8]| {
            let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": rsa["kid"]});
            let message = format!("{}.{}", encoded(&header), encoded(claims));
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
            format!("{message}.{signature}")
        };
        let unsigned = |algorithm: &str, signature: &str| {
            let header = json!({"alg": algorithm, "typ": "at+jwt"});
            format!("{}.{}.{signature}", encoded(&header), encoded(claims))
        };
        let good = self.sign(&json!({"alg": "RS256", "typ": "at+jwt"}), claims);
        let (message, signature) = good.rsplit_once('.').unwrap();
        let (_, payload) = message.split_once('.').unwrap();
        let other_header = |algorithm: &str| {
            let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": rsa["kid"]});
            format!("{}.{payload}.{signature}", encoded(&header))
        };
        vec![
            signed_by_hmac("HS256", modulus.as_bytes()),
            signed_by_hmac("HS256", &URL_SAFE_NO_PAD.decode(modulus).unwrap()),
            signed_by_hmac("RS256", modulus.as_bytes()),
            unsigned("none", "AA"),
            unsigned("None", signature),
            unsigned("RS256", "AA"),
            other_header("rs256"),
            other_header("PS256"),
            other_header("RS384"),
            other_header("ES256"),
            self.sign(&json!({"alg": "ES256", "typ": "at+jwt", "kid": rsa["kid"]}), claims),
            format!("{message}.{signature}AA"),
            format!("{message}."),
        ]
    }

    // Requests of scripts.

    /// The status of a request with a token.
    pub async fn ask(&self, token: &str) -> u16 {
        let request = client().get(self.url("/")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    }

    pub async fn ask_each(&self, tokens: &[String]) -> Vec<u16> {
        let asked: Vec<_> = tokens
            .iter()
            .map(|token| tokio::spawn(raw_status(self.address, token.clone(), None)))
            .collect();
        let mut statuses = Vec::new();
        for answer in asked {
            statuses.push(answer.await.unwrap().unwrap_or(0));
        }
        statuses
    }

    /// So many requests at once; where `hang_up_after` is given, every second client hangs up then.
    pub async fn ask_at_once(&self, count: usize, token: &str, hang_up_after: Option<Duration>) -> Vec<Option<u16>> {
        let ask = |index: usize| {
            let patience = hang_up_after.filter(|_| index % 2 == 1);
            tokio::spawn(raw_status(self.address, token.to_owned(), patience))
        };
        let asked: Vec<_> = (0..count).map(ask).collect();
        let mut statuses = Vec::new();
        for answer in asked {
            statuses.push(answer.await.unwrap());
        }
        statuses
    }

    /// A token that is right but for its key, which nobody published.
    pub async fn ask_with_unknown_key(&self) -> u16 {
        let id = vestibule::secret::random_text::<8>();
        let now = self.now();
        let claims = json!({
            "iss": self.provider.issuer(), "aud": AUDIENCE, "sub": "alice", "client_id": "script", "iat": now,
            "exp": now + 300, "jti": id,
        });
        self.try_token(&json!({"alg": "RS256", "typ": "at+jwt", "kid": id}), &claims)
            .await
    }

    pub async fn try_token(&self, header: &Value, claims: &Value) -> u16 {
        self.ask(&self.sign(header, claims)).await
    }

    pub async fn get(&self, path: &str) -> u16 {
        client().get(self.url(path)).send().await.unwrap().status().as_u16()
    }

    pub fn redirect_address(&self) -> SocketAddr {
        self.gateway.redirect_addresses()[0]
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.gateway.admin_address().unwrap()
    }

    /// Status and text of a page of the admin listener.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let address = self.gateway.admin_address().unwrap();
        let response = client().get(format!("http://{address}{path}")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

fn settings(file: &str, clock: &ManualClock) -> Result<Settings, Problems> {
    let surroundings = Surroundings {
        directory: Path::new(""),
        variable: |_| None,
    };
    config::parse(file, "house.toml", surroundings, clock.now())
}

/// One request on a connection of its own; `None` when its client hung up first.
async fn raw_status(address: SocketAddr, token: String, patience: Option<Duration>) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    match patience {
        Some(patience) => tokio::time::timeout(patience, read).await.ok()?.unwrap(),
        None => read.await.unwrap(),
    };
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok())
}

async fn provider(clock: Arc<ManualClock>) -> AuthorizationServer {
    let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let many = (0..300).map(|number| format!("department-{number}")).collect();
    let client = |id: &str, scopes: &[&str]| Client {
        id: id.to_owned(),
        secret: Some(Secret::new("s3cret")),
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: AUDIENCE.to_owned(),
        access_tokens: AccessTokenKind::Jwt,
        scopes: groups(scopes),
    };
    AuthorizationServer::builder(clock)
        .access_token_lifetime(Duration::from_secs(5 * 60))
        .client(client(
            "wiki",
            &["openid", "profile", "email", "groups", "offline_access"],
        ))
        .client(client("script", &["openid", "things.read"]))
        .user(User::named("alice"))
        .user(User::named("mallory"))
        .user(User {
            groups: groups(&["staff", "admins"]),
            ..User::named("admin")
        })
        .user(User {
            groups: many,
            ..User::named("many")
        })
        .user(User {
            email: None,
            ..User::named("nobody-special")
        })
        .listen("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap()
}

fn file(port: u16, issuer: &str, upstream: SocketAddr) -> String {
    format!(
        r#"
version = 1
server.listen = ["127.0.0.1:{port}"]
server.workers = 2
server.drain_delay = "0s"
server.trusted_proxies = ["{PROXY}/32"]

[provider.corp]
issuer = "{issuer}"
client_id = "wiki"
client_secret = "s3cret"
scopes = ["openid", "profile", "email", "groups", "offline_access"]
bearer.audiences = ["{AUDIENCE}"]

[route.wiki]
url = "http://127.0.0.1:{port}/"
upstream = "http://{upstream}"
auth = ["session", "bearer"]

[route.wiki.identity.headers]
"X-Forwarded-User" = "{{user}}"
"X-Forwarded-Email" = "{{email}}"
"X-Forwarded-Groups" = "{{groups}}"
"X-Custom-Identity" = "{{staff_number}}"

[route.api]
url = "http://127.0.0.1:{port}/api"
upstream = "http://{upstream}"
auth = ["bearer"]
allow.scopes = ["things.read"]

[route.admin]
url = "http://127.0.0.1:{port}/admin"
upstream = "http://{upstream}"
auth = ["session", "bearer"]
allow.groups = ["admins"]

[route.public]
url = "http://127.0.0.1:{port}/public"
upstream = "http://{upstream}"
auth = ["public"]
"#
    )
}
