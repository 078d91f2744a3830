//! Logins over real sockets, seen from the client.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use reqwest::{Response, redirect::Policy};
use serde_json::Value;

use super::*;
use crate::{
    secret::random_text,
    time::{ManualClock, SystemClock, Timestamp},
};

const BACK: &str = "http://127.0.0.1:1/callback";
const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-allowed-here";

struct Visit {
    server: AuthorizationServer,
    clock: Arc<ManualClock>,
    client: reqwest::Client,
}

impl Visit {
    async fn begin() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix(1_800_000_000)));
        let wiki = Client {
            id: "wiki".to_owned(),
            secret: Some(Secret::new("a secret: with + signs")),
            redirect_uris: vec![BACK.to_owned()],
            post_logout_redirect_uris: vec!["http://127.0.0.1:1/out".to_owned()],
            backchannel_logout_uri: None,
            audience: "https://wiki.example.com".to_owned(),
            access_tokens: AccessTokenKind::Jwt,
            scopes: ["openid", "profile", "groups"].map(str::to_owned).to_vec(),
        };
        let ann = User {
            groups: vec!["staff".to_owned()],
            ..User::named("ann")
        };
        let server = AuthorizationServer::builder(clock.clone()).client(wiki).user(ann);
        let server = server.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { server, clock, client }
    }

    fn request(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, VERIFIER.as_bytes()));
        let request = [
            ("response_type", "code"),
            ("client_id", "wiki"),
            ("redirect_uri", BACK),
            ("scope", "openid profile groups unknown"),
            ("state", "the state"),
            ("nonce", "the nonce"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let kept = request
            .iter()
            .filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        kept.chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    async fn authorize(&self, more: &[(&str, &str)], cookie: &str) -> Response {
        let request = self.client.get(self.with_query("/authorize", &self.request(more)));
        request.header("cookie", cookie).send().await.unwrap()
    }

    async fn log_in(&self, password: &str) -> Response {
        let form = self.request(&[("username", "ann"), ("password", password)]);
        self.client.post(self.url("/login")).form(&form).send().await.unwrap()
    }

    async fn code(&self) -> String {
        parameter(&self.log_in("ann").await, "code").unwrap()
    }

    async fn redeem(&self, code: &str, verifier: &str) -> (StatusCode, Value) {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", BACK),
            ("code_verifier", verifier),
        ])
        .await
    }

    async fn refresh(&self, token: &str) -> (StatusCode, Value) {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    async fn introspect(&self, token: &str) -> Value {
        self.post("/introspect", &[("token", token)]).await.1
    }

    async fn token(&self, form: &[(&str, &str)]) -> (StatusCode, Value) {
        self.post("/token", form).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = self
            .client
            .post(self.url(path))
            .basic_auth("wiki", Some("a+secret%3A+with+%2B+signs"));
        let answer = request.form(form).send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        (answer.status(), answer.json().await.unwrap())
    }

    fn with_query<N: AsRef<str>>(&self, path: &str, parameters: &[(N, N)]) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        format!("{}?{query}", self.url(path))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.issuer())
    }
}

fn parameter(answer: &Response, name: &str) -> Option<String> {
    let location = url::Url::parse(answer.headers().get("location")?.to_str().unwrap()).unwrap();
    location
        .query_pairs()
        .find(|(candidate, _)| candidate == name)
        .map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn nothing_but_loopback_is_listened_on() {
    let server = AuthorizationServer::builder(Arc::new(SystemClock));
    let refused = server.listen("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_login_ends_in_tokens_that_say_who_it_was() {
    let visit = Visit::begin().await;
    let form = visit.authorize(&[], "").await.text().await.unwrap();
    assert!(form.contains("This server is for development.") && form.contains("the nonce"));
    assert_eq!(visit.log_in("wrong").await.status(), 403);

    let back = visit.log_in("ann").await;
    assert_eq!(parameter(&back, "state").unwrap(), "the state");
    assert_eq!(parameter(&back, "iss").unwrap(), visit.server.issuer());
    let (status, tokens) = visit.redeem(&parameter(&back, "code").unwrap(), VERIFIER).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(tokens["scope"], "openid profile groups");

    let told = visit
        .server
        .office
        .state()
        .keys
        .read(tokens["id_token"].as_str().unwrap())
        .unwrap();
    assert_eq!(told["nonce"], "the nonce");
    assert_eq!(told["preferred_username"], "ann");
    assert_eq!(told["groups"][0], "staff");
    assert_eq!(told["aud"], "wiki");
    let told = visit.introspect(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(told["active"], true);
    assert_eq!(told["aud"], "https://wiki.example.com");
    assert_eq!(told["username"], "ann");

    let cookie = back.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert!(
        parameter(&visit.authorize(&[], cookie).await, "code").is_some(),
        "the second login is silent"
    );
    assert!(parameter(&visit.authorize(&[("prompt", "login")], cookie).await, "code").is_none());
}

#[tokio::test]
async fn errors_go_back_only_to_where_the_client_is_at_home() {
    let visit = Visit::begin().await;
    for stranger in [("client_id", "other"), ("redirect_uri", "http://127.0.0.1:1/callback/")] {
        let answer = visit.authorize(&[stranger], "").await;
        assert_eq!(answer.status(), 400);
    }
    let cases = [
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("prompt", "none"), "login_required"),
        (("resource", "https://other.example.com"), "invalid_target"),
    ];
    for (change, error) in cases {
        let answer = visit.authorize(&[change], "").await;
        assert_eq!(parameter(&answer, "error").unwrap(), error);
        assert_eq!(parameter(&answer, "state").unwrap(), "the state");
        assert_eq!(parameter(&answer, "iss").unwrap(), visit.server.issuer());
    }
}

#[tokio::test]
async fn a_code_needs_its_verifier_and_its_time() {
    let visit = Visit::begin().await;
    let other = random_text::<32>();
    let (status, answer) = visit.redeem(&visit.code().await, &other).await;
    assert_eq!(
        (status.as_u16(), answer["error"].as_str()),
        (400, Some("invalid_grant"))
    );
    let code = visit.code().await;
    visit.clock.advance(Duration::from_secs(61));
    assert_eq!(visit.redeem(&code, VERIFIER).await.0, 400);
}

#[tokio::test]
async fn a_code_that_comes_twice_takes_its_tokens_back() {
    let visit = Visit::begin().await;
    let code = visit.code().await;
    let (_, tokens) = visit.redeem(&code, VERIFIER).await;
    assert_eq!(visit.redeem(&code, VERIFIER).await.1["error"], "invalid_grant");
    assert_eq!(
        visit.introspect(tokens["access_token"].as_str().unwrap()).await["active"],
        false
    );
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_takes_the_family_back() {
    let visit = Visit::begin().await;
    let (_, first) = visit.redeem(&visit.code().await, VERIFIER).await;
    let first = first["refresh_token"].as_str().unwrap();
    let (status, second) = visit.refresh(first).await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(visit.refresh(first).await.1["error"], "invalid_grant");
    assert_eq!(
        visit.refresh(second["refresh_token"].as_str().unwrap()).await.1["error"],
        "invalid_grant"
    );
    assert_eq!(
        visit.introspect(second["access_token"].as_str().unwrap()).await["active"],
        false
    );
}

#[tokio::test]
async fn it_fails_as_told_counts_and_starts_again_as_it_was() {
    let visit = Visit::begin().await;
    let token = visit.server.issue_opaque("ann", "https://wiki.example.com", "openid");
    visit.server.fault(Place::Keys, Fault::answer(418, "text/plain", b"no"));
    assert_eq!(visit.client.get(visit.url("/jwks")).send().await.unwrap().status(), 418);
    visit.server.clear_faults();
    visit.server.stop().await;
    assert!(visit.client.get(visit.url("/jwks")).send().await.is_err());
    visit.server.start_again().await.unwrap();
    assert_eq!(visit.client.get(visit.url("/jwks")).send().await.unwrap().status(), 200);
    assert_eq!(visit.server.calls(Place::Keys), 2);
    assert_eq!(visit.introspect(&token).await["active"], true);
    let nobody = visit
        .client
        .post(visit.url("/introspect"))
        .form(&[("token", &token)])
        .send()
        .await
        .unwrap();
    assert_eq!(nobody.status(), 401);
}

#[tokio::test]
async fn logging_out_leads_back_only_to_where_the_client_is_at_home() {
    let visit = Visit::begin().await;
    let (_, tokens) = visit.redeem(&visit.code().await, VERIFIER).await;
    let hint = tokens["id_token"].as_str().unwrap();
    let out = |hint: &str, address: &str| {
        let query = [
            ("id_token_hint", hint),
            ("post_logout_redirect_uri", address),
            ("state", "x"),
        ];
        visit.client.get(visit.with_query("/logout", &query)).send()
    };
    let back = out(hint, "http://127.0.0.1:1/out").await.unwrap();
    assert_eq!(back.headers()["location"], "http://127.0.0.1:1/out?state=x");
    assert_eq!(out(hint, "http://127.0.0.1:1/other").await.unwrap().status(), 200);
    assert_eq!(out("a.b.c", "http://127.0.0.1:1/out").await.unwrap().status(), 200);
}

#[tokio::test]
async fn whoever_is_logged_in_sees_it_and_can_end_it() {
    let visit = Visit::begin().await;
    let back = visit.log_in("ann").await;
    let cookie = back.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let welcome = async || {
        let page = visit.client.get(visit.url("/")).header("cookie", &cookie).send();
        page.await.unwrap().text().await.unwrap()
    };
    assert!(welcome().await.contains("as <strong>ann</strong>"));
    let out = visit.client.post(visit.url("/logout")).header("cookie", &cookie).send();
    assert_eq!(out.await.unwrap().status(), 200);
    assert!(welcome().await.contains("Nobody is logged in here"));
}
