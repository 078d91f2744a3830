//! Somebody with much to look at, and routes that look at it.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use http::Method;
use serde_json::json;
use vestibule::{
    config::{self, Settings, Surroundings},
    identity::{Claims, Identity, Issuer, Proof, ProviderId, Scopes, Subject, Words},
    policy::{self, Authentication, Client, Decision, Initiator, Lookup, RequestFacts, Route},
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// The routes, and who comes to them.
pub(crate) struct Scene {
    settings: Settings,
    ann: Arc<Identity>,
}

impl Scene {
    /// `/ten` asks for ten things, and the last group is the one that counts; `/cel` asks for what two keys cannot say.
    pub(crate) fn new() -> Self {
        let surroundings = Surroundings {
            directory: Path::new(""),
            variable: |_| None,
        };
        let settings = config::parse(FILE, "scene.toml", surroundings, NOW);
        Self {
            settings: settings.unwrap_or_else(|problems| panic!("{problems}")),
            ann: Arc::new(ann()),
        }
    }

    /// A request for a path, and the route that it belongs to.
    pub(crate) fn at<'a>(&'a self, path: &'a str) -> Visit<'a> {
        let facts = RequestFacts {
            method: &Method::GET,
            host: "wiki.example.com",
            port: None,
            path,
            query: None,
            client: Client::Navigation,
            initiator: Initiator::OwnSite,
            address: Ipv4Addr::LOCALHOST.into(),
            certificate: None,
        };
        let Lookup::Found(route) = self.settings.routes.find(&facts) else {
            panic!("no route at {path}");
        };
        Visit {
            ann: &self.ann,
            facts,
            route,
        }
    }
}

/// Ann at a route.
pub(crate) struct Visit<'a> {
    ann: &'a Arc<Identity>,
    facts: RequestFacts<'a>,
    route: &'a Route,
}

impl Visit<'_> {
    pub(crate) fn decide(&self) -> Decision {
        policy::decide(self.route, &self.facts, Authentication::Verified(self.ann.clone()), NOW)
    }
}

const FILE: &str = r#"
[provider.corp]
issuer = "https://id.example.com"
client_id = "wiki"
client_auth = "none"
scopes = ["openid", "read", "write"]

[route.ten]
url = "https://wiki.example.com/ten"
upstream = "http://127.0.0.1:3000"
[route.ten.allow]
groups = ["department-901", "department-902", "department-903", "department-904", "department-199"]
emails = ["bob@example.com", "ann@example.com"]
email_domains = ["example.com"]
subjects = ["248289761001"]
scopes = ["read", "write"]
claims = { "realm_access.roles" = ["author", "editor-*"], level = [2, 3] }
acr = ["urn:mfa"]
amr = ["otp", "hwk"]
max_age = "15m"
cidrs = ["10.0.0.0/8", "127.0.0.0/8"]

[route.cel]
url = "https://wiki.example.com/cel"
upstream = "http://127.0.0.1:3000"
[route.cel.allow]
expression = "claims.level >= 3 && ('reporter' in claims.realm_access.roles || email.endsWith('@example.com')) && request.method == 'GET'"

[route.groups]
url = "https://wiki.example.com/groups"
upstream = "http://127.0.0.1:3000"
[route.groups.allow]
expression = "'department-199' in groups && claims.level >= 3"
"#;

fn ann() -> Identity {
    let claims = json!({
        "level": 3, "realm_access": {"roles": ["reporter", "editor-wiki"]}, "acr": "urn:mfa", "amr": ["pwd", "otp"],
        "auth_time": NOW.unix() - 60, "name": "Ann Example", "locale": "en",
    });
    Identity {
        provider: ProviderId::new("corp"),
        issuer: Issuer::new("https://id.example.com"),
        subject: Subject::new("248289761001").unwrap(),
        proof: Proof::Session,
        username: Some("ann".into()),
        email: Some("ann@example.com".into()),
        groups: (0..200)
            .map(|number| format!("department-{number:03}").into())
            .collect(),
        groups_unknown: false,
        scopes: Scopes::parse("openid read write"),
        claims: Claims::from_json(claims.to_string().as_bytes()).unwrap(),
        expires_at: NOW.plus(Duration::from_secs(60)),
        words: Words::default(),
    }
}
