//! What would become of a request that nobody sends: the gateway's own parser, routes and decision, without the wire.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Request, header};

use crate::{
    certificate::Certificate,
    config::{
        Settings,
        rehearsal::{Expectation, Person, Rehearsal},
    },
    identity::{Claims, Identity, Proof, Scopes, Subject, TokenError, Words},
    policy::{
        Access, Admission, Authentication, Candidate, Case, Challenge, Decision, Finding, Initiator, Lookup,
        OnForbidden, RequestFacts, Route, decide,
    },
    provider,
    time::Timestamp,
    upstream::{self, AuthorizationOwner, target::Target, vouch::Vouching},
};

/// What became of it, and why.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    pub(super) route: Option<&'a Route>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) verdict: Verdict,
    /// What `allow` asks, and each `deny` table, of who is known.
    pub(super) allow: Vec<Finding>,
    pub(super) deny: Vec<Vec<Finding>>,
    /// What the application would be told.
    pub(super) headers: Vec<(HeaderName, Told)>,
}

/// The end of the walk.
#[derive(Debug)]
pub(super) enum Verdict {
    Ambiguous(&'static str),
    /// Below `auth_prefix`: the gateway answers itself.
    Reserved,
    NoRoute,
    MethodNotAllowed,
    Decided(Decision),
}

/// What becomes of an identity header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Value(String),
    /// It vouches for the request, and is not made here; said in words.
    Secret(&'static str),
    /// The claim is missing, and so is the header.
    Missing,
    /// The claim cannot be written into a header: the request would fail.
    Unwritable,
}

/// The life of a credential that exists only here.
const LIFE: Duration = Duration::from_secs(300);

pub(super) fn rehearse<'a>(settings: &'a Settings, rehearsal: &Rehearsal, now: Timestamp) -> Outcome<'a> {
    let mut outcome = Outcome {
        candidates: Vec::new(),
        route: None,
        identity: None,
        verdict: Verdict::NoRoute,
        allow: Vec::new(),
        deny: Vec::new(),
        headers: Vec::new(),
    };
    let target = match target(rehearsal) {
        Ok(target) => target,
        Err(why) => {
            outcome.verdict = Verdict::Ambiguous(why);
            return outcome;
        }
    };
    let facts = RequestFacts {
        method: &rehearsal.method,
        host: target.host(),
        port: target.port(),
        path: target.path(),
        query: target.query(),
        client: rehearsal.client,
        initiator: Initiator::OwnSite,
        address: rehearsal.address,
        certificate: rehearsal.certificate.as_ref(),
    };
    outcome.candidates = settings.routes.candidates(&facts);
    if is_reserved(settings, &target, facts.certificate) {
        outcome.verdict = Verdict::Reserved;
        return outcome;
    }
    let route = match settings.routes.find(&facts) {
        Lookup::Found(route) => route,
        Lookup::MethodNotAllowed(_) => {
            outcome.verdict = Verdict::MethodNotAllowed;
            return outcome;
        }
        Lookup::NotFound => return outcome,
    };
    outcome.route = Some(route);
    let authentication = authentication(settings, route, rehearsal.person.as_ref(), now);
    if let (Authentication::Verified(identity), Access::Protected(admission)) = (&authentication, &route.access) {
        outcome.explain(admission, identity, &facts, now);
        outcome.headers = told(settings, route, identity);
        outcome.identity = Some(identity.clone());
    }
    let decision = decide(route, &facts, authentication, now);
    if matches!(&decision, Decision::Allow(permit) if permit.is_bare()) {
        outcome.headers.clear();
    }
    outcome.verdict = Verdict::Decided(decision);
    outcome
}

impl Outcome<'_> {
    fn explain(&mut self, admission: &Admission, identity: &Identity, facts: &RequestFacts<'_>, now: Timestamp) {
        let case = Case {
            identity,
            request: facts,
            now,
        };
        self.allow = admission.allow.findings(case);
        self.deny = admission.deny.iter().map(|table| table.findings(case)).collect();
    }

    /// The verdict in a word, as a `[[test]]` expects it.
    pub(super) fn word(&self) -> Expectation {
        let status = match &self.verdict {
            Verdict::Ambiguous(_) => 400,
            Verdict::MethodNotAllowed => 405,
            Verdict::NoRoute => 404,
            Verdict::Decided(Decision::Allow(_)) if self.unwritable().next().is_some() => 502,
            Verdict::Reserved | Verdict::Decided(Decision::Allow(_)) => return Expectation::Allow,
            Verdict::Decided(Decision::Login(_)) => return Expectation::Login,
            Verdict::Decided(Decision::Challenge(challenge)) => match challenge {
                Challenge::InvalidRequest => 400,
                Challenge::TokenMissing | Challenge::InvalidToken(_) | Challenge::InsufficientAuthentication(_) => 401,
                Challenge::InsufficientScope(_) => 403,
            },
            Verdict::Decided(Decision::Deny(_)) => match self.route.map(|route| route.on_forbidden) {
                Some(OnForbidden::NotFound) => 404,
                Some(OnForbidden::Page) | None => 403,
            },
        };
        Expectation::Status(status)
    }

    /// Headers that cannot hold what they would have to say: then nothing is said, and the request fails.
    pub(super) fn unwritable(&self) -> impl Iterator<Item = &HeaderName> {
        let failing = self.headers.iter().filter(|(_, told)| *told == Told::Unwritable);
        failing.map(|(name, _)| name)
    }

    /// Whether the rules let it pass.
    pub(super) fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Decided(Decision::Allow(_)))
    }
}

/// The target as a request for the URL would be read.
fn target(rehearsal: &Rehearsal) -> Result<Target, &'static str> {
    let url = &rehearsal.url;
    let host = url.host_str().unwrap_or_default();
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let path_and_query = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = Request::builder()
        .method(rehearsal.method.clone())
        .uri(path_and_query)
        .header(header::HOST, authority)
        .body(());
    let (parts, ()) = request.map_err(|_| "its URL cannot be sent")?.into_parts();
    Target::read(&parts).map_err(|ambiguous| ambiguous.0)
}

fn is_reserved(settings: &Settings, target: &Target, certificate: Option<&Certificate>) -> bool {
    let described = settings
        .routes
        .described_at(target.host(), target.port(), target.path(), certificate);
    if described.is_some() {
        return true;
    }
    let rest = target.path().strip_prefix(&*settings.gateway.auth_prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// As the walk would have it, for a credential whose checks all passed.
fn authentication(settings: &Settings, route: &Route, person: Option<&Person>, now: Timestamp) -> Authentication {
    let (Some(person), Access::Protected(admission)) = (person, &route.access) else {
        return Authentication::Anonymous;
    };
    let proof = person.proof.unwrap_or(match admission.session {
        true => Proof::Session,
        false => Proof::AccessToken,
    });
    let name = person.provider.as_ref().or(admission.providers.first());
    let provider = settings
        .providers
        .iter()
        .find(|provider| Some(&provider.id) == name && admission.providers.contains(&provider.id));
    let Some(provider) = provider else {
        // Logged in elsewhere is nobody here; a token from elsewhere is a bad one.
        return match proof {
            Proof::Session => Authentication::Anonymous,
            Proof::AccessToken => Authentication::Rejected(TokenError::UnknownIssuer),
        };
    };
    match identity(provider, person, proof, now) {
        Some(identity) => Authentication::Verified(identity.into()),
        None => Authentication::Rejected(TokenError::Claim("sub")),
    }
}

/// `None` where the claims have no `sub`: no credential is anybody's without one.
fn identity(provider: &provider::Settings, person: &Person, proof: Proof, now: Timestamp) -> Option<Identity> {
    let subject = person.claims.text("sub").and_then(Subject::new)?;
    let mut claims = person.claims.clone();
    if let Some(age) = person.login_age {
        claims.fill_from(Claims::from_iter([("auth_time", now.minus(age).unix().into())]));
    }
    let names = &provider.claim_names;
    let scopes = claims.text("scope").map(Scopes::parse);
    Some(Identity {
        provider: provider.id.clone(),
        issuer: provider.issuer.clone(),
        subject,
        proof,
        username: names.username(&claims, now),
        email: names.email(&claims, now),
        groups: names.groups(&claims),
        groups_unknown: names.groups_unknown(&claims),
        // A login holds what it asked for, unless it is said otherwise.
        scopes: scopes.unwrap_or_else(|| match proof {
            Proof::Session => provider.scopes.clone(),
            Proof::AccessToken => Scopes::default(),
        }),
        claims,
        expires_at: now.plus(LIFE),
        words: Words::default(),
    })
}

fn told(settings: &Settings, route: &Route, identity: &Identity) -> Vec<(HeaderName, Told)> {
    let upstream = settings.upstreams.get(route.id.index());
    let vouching = upstream
        .into_iter()
        .flat_map(|upstream| vouched(&upstream.vouching, identity));
    let own = upstream.filter(|upstream| upstream.authorization == AuthorizationOwner::Application);
    let own = own.map(|_| (header::AUTHORIZATION, Told::Secret("<as it comes>")));
    let edits = upstream.into_iter().map(|upstream| &upstream.edits.request);
    let edited = edits.flat_map(|edits| edits.set.iter().chain(&edits.add));
    let edited = edited.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.clone(), Told::Value(value))
    });
    let headers = upstream.into_iter().flat_map(|upstream| &*upstream.identity_headers);
    headers
        .map(|header| {
            let told = match upstream::identity_header(identity, header) {
                Ok(values) if values.is_empty() => Told::Missing,
                Ok(values) => {
                    let texts = values
                        .iter()
                        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                    Told::Value(texts.collect::<Vec<_>>().join(", "))
                }
                Err(_) => Told::Unwritable,
            };
            (header.name.clone(), told)
        })
        .chain(vouching)
        .chain(own)
        .chain(edited)
        .collect()
}

/// The headers that vouch for a request, without what is secret in them.
fn vouched(vouching: &Vouching, identity: &Identity) -> Vec<(HeaderName, Told)> {
    let assertion = vouching.assertion.as_ref();
    let assertion = assertion.map(|assertion| (assertion.header.clone(), Told::Secret("<signed>")));
    let token = vouching.access_token;
    let token = token.map(|place| (place.name(), Told::Secret("<the access token>")));
    let basic = vouching.basic.as_ref().map(|basic| {
        let told = match basic.username(identity) {
            Ok(Some(_)) => Told::Secret("<Basic>"),
            Ok(None) => Told::Missing,
            Err(_) => Told::Unwritable,
        };
        (header::AUTHORIZATION, told)
    });
    assertion.into_iter().chain(token).chain(basic).collect()
}
