//! Another proxy passes requests on, and asks here whether each of them may pass: forward-auth.

mod check;
mod message;
mod original;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header, request::Parts};

pub use original::BadQuestion;
pub(super) use original::Original;

use super::{Error, Gateway, RequestFacts, Visit, is_unsupported, login::Wish, reader::Reader, respond};
use crate::{
    oauth::authorization::Account,
    policy::{self, Decision, LoginDemand, Origin},
    upstream::{Asker, body::Body, headers::Credential, target::Target},
};
use original::Unread;

/// How a proxy asks, and what it does with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner<'a> {
    /// It understands nothing but 2xx, 401, 403 and that something is broken: `auth_request` of nginx.
    Status,
    /// It hands every other answer than 2xx to the client: Traefik, Caddy, HAProxy.
    Whole,
    /// The same, with the original's path and query in the question's: Envoy.
    Envoy(&'a str),
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What Envoy is to take out of a request that passes.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// What becomes of a request that somebody asked about.
#[derive(Debug)]
pub(super) enum Answer {
    Allowed(Told),
    Refused(Response<Body>),
}

/// What the application is to be told in the gateway's name.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) headers: HeaderMap,
    /// What nobody may say to it, and is not said.
    pub(super) absent: Vec<HeaderName>,
}

impl Gateway {
    /// The manner of a question; `None` for what is none.
    pub(super) fn asked_in<'a>(&self, target: &'a Target) -> Option<Manner<'a>> {
        let name = target.path_and_query().strip_prefix(&*self.settings.auth_prefix)?;
        let rest = name.strip_prefix("/auth")?;
        if let Some(uri) = rest.strip_prefix("/envoy").filter(|uri| uri.starts_with('/')) {
            return Some(Manner::Envoy(uri));
        }
        match rest.split('?').next() {
            Some("") => Some(Manner::Status),
            Some("/forward") => Some(Manner::Whole),
            _ => None,
        }
    }

    /// Answers a question; what is not understood is never a yes.
    pub(super) async fn answer(
        &self,
        manner: Manner<'_>,
        question: Parts,
        target: &Target,
        peer: IpAddr,
        visit: &mut Visit<'_>,
    ) -> Response<Body> {
        let mut response = match self.asked_over_http(manner, question, target, peer, visit).await {
            Ok(Answer::Allowed(told)) => yes(manner, told),
            Ok(Answer::Refused(response)) => no(manner, response),
            Err(error) => no(manner, self.fail(&error, visit)),
        };
        // It is about this one request, whatever a cache in between makes of it.
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        response
    }

    async fn asked_over_http(
        &self,
        manner: Manner<'_>,
        question: Parts,
        target: &Target,
        peer: IpAddr,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Error> {
        if !self.scrubber.trusts(peer) {
            return Err(BadQuestion::Untrusted(peer).into());
        }
        let in_public = self.routes.origin(target.host(), target.port()).is_some();
        if in_public && !matches!(manner, Manner::Envoy(_)) {
            return Err(BadQuestion::InPublic.into());
        }
        let client = self.scrubber.client(&question.headers, peer);
        let client = client.ok_or(BadQuestion::NoAddress)?;
        let original = Original::of(manner, question, client)?;
        self.judge(manner, original, visit).await
    }

    /// The walk of a request that is elsewhere.
    pub(super) async fn judge(
        &self,
        manner: Manner<'_>,
        original: Original,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Error> {
        let now = visit.now;
        let Original {
            mut parts,
            target,
            scheme,
            address,
        } = original;
        visit.asked_about(&parts.method, &target);
        visit.address = address;
        if is_unsupported(&parts.method) {
            return Err(Error::MethodUnsupported);
        }
        let origin = self.routes.origin(target.host(), target.port()).ok_or(Error::NoRoute)?;
        if origin.scheme != scheme {
            return Err(BadQuestion::Scheme(scheme.as_str()).into());
        }
        // Never one of gRPC, whose refusals would look like a yes.
        parts.version = Version::HTTP_11;
        visit.reader = Reader::of(&parts, &origin);
        let credential = self.scrubber.take_credential(&mut parts.headers);
        // They stand here, and are nobody's to be asked about.
        if self.endpoint_at(target.path()).is_some() {
            return Err(Error::NoEndpoint);
        }
        let facts = RequestFacts {
            method: &parts.method,
            host: target.host(),
            port: target.port(),
            path: target.path(),
            query: target.query(),
            client: visit.reader.client,
            initiator: visit.reader.initiator,
            address,
            // The handshake was the other proxy's.
            certificate: None,
        };
        let route = self.route(&facts)?;
        visit.routed_to(route);
        if self.upstreams.asker(route.id) != Some(manner.asker()) {
            return Err(BadQuestion::NotAsked.into());
        }
        let authentication = self.authenticate(route, &credential, &origin, visit, now).await?;
        visit.authenticated_as(&authentication);
        Ok(match policy::decide(route, &facts, authentication, now) {
            Decision::Allow(permit) => {
                visit.allowed(&permit);
                let vouched = self.vouch(&permit, &origin, &credential, visit, now)?;
                let mut headers = self.upstreams.told(permit, vouched)?;
                headers.extend(parts.headers.remove(header::COOKIE).map(|rest| (header::COOKIE, rest)));
                let absent = self.scrubber.never_from_others(&parts.headers, &headers);
                Answer::Allowed(Told { headers, absent })
            }
            Decision::Login(demand) => {
                let login = self.ask_to_log_in(manner, demand, &target, &credential, &origin, visit);
                Answer::Refused(login.await?)
            }
            Decision::Challenge(challenge) => {
                let resource = route.resource(target.path());
                Answer::Refused(self.challenge(&challenge, &origin, resource.as_ref(), visit))
            }
            Decision::Deny(denial) => Answer::Refused(self.deny(denial, route, visit)),
        })
    }

    /// A proxy that sees no more than a status is told where the login begins, and has to send the browser there.
    async fn ask_to_log_in(
        &self,
        manner: Manner<'_>,
        demand: LoginDemand,
        target: &Target,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Error> {
        let return_to = target.path_and_query();
        match manner {
            Manner::Status => {
                visit.decision = "login";
                let mut start = form_urlencoded::Serializer::new(String::new());
                start.append_pair("rd", return_to);
                if let ([provider], 2..) = (&*demand.providers, self.providers.count()) {
                    start.append_pair("provider", provider.as_str());
                }
                let start = format!("{}?{}", self.absolute(origin, "start"), start.finish());
                Ok(respond::redirect(&start))
            }
            Manner::Whole | Manner::Envoy(_) => {
                let account = Account::Any;
                let wish = Wish {
                    demand,
                    return_to,
                    account,
                };
                let now = visit.now;
                Box::pin(self.send_to_login(wish, credential, origin, visit, now)).await
            }
        }
    }
}

impl From<Unread> for Error {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Question(error) => Self::Question(error),
            Unread::Target(error) => Self::AmbiguousTarget(error),
        }
    }
}

impl Manner<'_> {
    fn asker(self) -> Asker {
        match self {
            Self::Status | Self::Whole => Asker::ForwardAuth,
            Self::Envoy(_) => Asker::ExtAuthz,
        }
    }
}

fn yes(manner: Manner<'_>, told: Told) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = told.headers;
    if matches!(manner, Manner::Envoy(_)) && !told.absent.is_empty() {
        let names: Vec<&str> = told.absent.iter().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(",")) {
            response.headers_mut().insert(TO_REMOVE, names);
        }
    }
    response
}

/// Whatever it was, it is no success; and where only a status is seen, it is one of the few that are understood.
fn no(manner: Manner<'_>, mut response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let seen = match manner {
        _ if status.is_success() => StatusCode::INTERNAL_SERVER_ERROR,
        Manner::Status if status.is_redirection() => StatusCode::UNAUTHORIZED,
        Manner::Status if status.is_client_error() && status != StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
        Manner::Status | Manner::Whole | Manner::Envoy(_) => status,
    };
    *response.status_mut() = seen;
    response
}
