//! The resource server: scrub, identity headers, forward.

mod again;
pub mod assertion;
mod balance;
pub mod body;
mod condition;
mod crossing;
mod destination;
mod dial;
pub mod edits;
mod exchange;
mod forwarded;
pub mod glance;
mod grpc_health;
pub mod headers;
mod health;
mod heard;
mod http1;
mod instance;
mod lease;
pub mod lifeline;
mod pool;
mod prefix;
mod settings;
mod stream;
pub mod target;
mod template;
mod trunk;
mod upgrade;
mod upload;
pub mod vouch;
pub mod wire;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

pub use destination::{Destination, DestinationScheme, Place};
pub use prefix::Prefix;
pub use settings::{
    Asker, AuthorizationOwner, Balance, BodyLimits, Ejection, GrpcService, HealthCheck, Onward, Question, Settings,
    Timeouts, UpstreamTls,
};
pub use template::identity_header;

use crate::{
    identity::Peer,
    oauth::jwt::SigningKey,
    policy::{Origin, Permit, RouteId},
    telemetry::Metrics,
    time::Timestamp,
};
use again::Again;
use assertion::Signer;
use body::{Body, BodyError, Patience, Streamed};
use condition::Load;
use exchange::Exchange;
use forwarded::Site;
use headers::{OwnCookies, Scrubbed, Scrubber, Taken, remove_all, remove_nominated};
use health::Checks;
use instance::{Answered, Instance, Line};
use lifeline::Lifeline;
use prefix::Outside;

use upload::{Progress, RequestBody};
use vouch::Vouched;

/// Where the client stands, for `X-Forwarded-*`, `Forwarded` and `Via`.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    pub origin: &'a Origin,
    pub peer: &'a Peer,
}

/// What an upstream did instead of answering.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("took too long")]
    TimedOut,
    #[error("took longer than a whole exchange may")]
    Over,
    /// The same, while the body was still being sent.
    #[error("took longer than a whole exchange may, and the request had not ended")]
    OverInUpload,
    #[error("spoke nonsense: {0}")]
    Nonsense(String),
    #[error("the request body is longer than allowed")]
    BodyTooLarge,
    #[error("the client went away while it sent the body")]
    ClientGone,
    /// A claim that must be told the application cannot be written as a header.
    #[error("the identity cannot be written into {0}")]
    Identity(HeaderName),
    /// The session or the token ended before there was an answer.
    #[error("thought for longer than the session or the token was good")]
    Cut,
}

/// All upstreams; the one of a route stands at its `RouteId`.
#[derive(Debug)]
pub struct Upstreams {
    upstreams: Vec<Upstream>,
    signer: Signer,
    own_cookies: OwnCookies,
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Upstream {
    settings: Settings,
    /// Its servers; most have one.
    instances: Vec<Instance>,
    /// Whose turn it is of them.
    turn: AtomicUsize,
    /// Counts what is sent a second time.
    retries: Option<Counter>,
    checks: Checks,
    /// The first site that asked for it; most upstreams have no other.
    site: OnceLock<Site>,
}

impl Upstreams {
    /// Connections to where `earlier` ones lead as well are kept. The first of the keys signs assertions.
    ///
    /// # Errors
    /// When a TLS configuration cannot be made.
    pub fn new(
        settings: Vec<Settings>,
        keys: Vec<SigningKey>,
        scrubber: &Scrubber,
        earlier: Option<&Self>,
        metrics: &Metrics,
        now: Timestamp,
    ) -> Result<Self, rustls::Error> {
        let signer = Signer::new(keys, earlier.map(|earlier| &earlier.signer), now);
        let mut upstreams: Vec<Upstream> = Vec::with_capacity(settings.len());
        for settings in settings {
            let earlier = earlier.map_or(&[][..], |earlier| &earlier.upstreams);
            let upstream = Upstream::new(settings, &upstreams, earlier, metrics)?;
            upstreams.push(upstream);
        }
        Ok(Self {
            upstreams,
            signer,
            own_cookies: scrubber.own_cookies(),
            taken: scrubber.taken(),
        })
    }

    /// Asks no server any more whether it is well, for another configuration does.
    pub fn end_checks(&self) {
        self.upstreams.iter().for_each(|upstream| upstream.checks.end());
    }

    /// The keys that assertions are checked with (RFC 7517 §5).
    pub fn published_keys(&self, now: Timestamp) -> serde_json::Value {
        self.signer.published(now)
    }

    /// Who asks about requests for a route; nobody where they go on from here.
    pub fn asker(&self, route: RouteId) -> Option<Asker> {
        match self.upstreams.get(route.index())?.settings.onward {
            Onward::To(_) => None,
            Onward::AskedBy(asker) => Some(asker),
        }
    }

    /// Sends the request on, as whom the permit says. A WebSocket is spliced after the upstream's 101. What lasts ends
    /// when its lifeline is cut.
    ///
    /// # Errors
    /// When there is no answer, or none that can be passed on.
    pub async fn forward(
        &self,
        request: Scrubbed,
        permit: Permit,
        vouched: Vouched,
        arrival: Arrival<'_>,
        mut lifeline: Lifeline,
    ) -> Result<Response<Body>, UpstreamError> {
        let upstream = self.upstreams.get(permit.route().index());
        let upstream = upstream.filter(|upstream| !upstream.instances.is_empty());
        let upstream = upstream.ok_or_else(|| UpstreamError::Unreachable("the route has no upstream".into()))?;
        let deadline = upstream
            .settings
            .timeouts
            .stream
            .and_then(|limit| Instant::now().checked_add(limit));
        lifeline.ends_at(deadline);
        let mut request = request;
        if forwarded::counted_down(&request.parts.method, &mut request.parts.headers).is_none() {
            return Ok(Response::new(Body::empty()));
        }
        let (request, progress, upgrade) = upstream.outgoing(request, &permit, vouched, &arrival)?;
        let mut exchange = Exchange {
            taken: &self.taken,
            progress: progress.as_deref(),
            lifeline: &mut lifeline,
            again: Again::default(),
        };
        let (response, load) = match &*upstream.instances {
            [
                Instance {
                    line: Line::Http1(pool),
                    ..
                },
            ] => (upstream.exchange(pool, request, &mut exchange).await?, None),
            // In a box, for most upstreams are one server and HTTP/1, and spare the room.
            _ => Box::pin(upstream.answer(request, &mut exchange)).await?,
        };
        let mut response = match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => upstream.upgraded(response, upgrade, load, lifeline)?,
            _ => {
                let patience = Patience::new(upstream.settings.timeouts.idle, deadline);
                let mut response = response
                    .map(|source| Body::Streamed(Streamed::new(source, progress, load, patience, lifeline).into()));
                clean(response.headers_mut());
                response
            }
        };
        self.keep_own_cookies(response.headers_mut());
        upstream.name_as_outside(arrival.origin, response.headers_mut());
        let edits = &upstream.settings.edits;
        edits.apply_to_answer(arrival.origin, response.headers_mut());
        Ok(response)
    }

    /// The upstream cannot set the gateway's cookies (N-122).
    fn keep_own_cookies(&self, headers: &mut HeaderMap) {
        let sets_ours = |line: &HeaderValue| {
            let line = line.as_bytes().trim_ascii_start();
            // A cookie without a name is sent back as if its value were name and value (RFC 6265bis §5.7).
            let line = line.strip_prefix(b"=").unwrap_or(line);
            let name = line.split(|b| *b == b'=').next().unwrap_or_default();
            std::str::from_utf8(name.trim_ascii()).is_ok_and(|name| self.own_cookies.include(name))
        };
        let lines = headers.get_all(header::SET_COOKIE);
        if !lines.iter().any(sets_ours) {
            return;
        }
        let kept: Vec<_> = lines.iter().filter(|line| !sets_ours(line)).cloned().collect();
        headers.remove(header::SET_COOKIE);
        for line in kept {
            headers.append(header::SET_COOKIE, line);
        }
    }
}

/// Headers by which some applications take a request for one of another method.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

type Outgoing = (
    Request<RequestBody>,
    Option<Arc<Progress>>,
    Option<hyper::upgrade::OnUpgrade>,
);

impl Upstream {
    /// The request as the upstream sees it: its own framing, the gateway's word on who and whence, and nobody else's.
    fn outgoing(
        &self,
        request: Scrubbed,
        permit: &Permit,
        vouched: Vouched,
        arrival: &Arrival<'_>,
    ) -> Result<Outgoing, UpstreamError> {
        let Scrubbed {
            mut parts,
            body,
            target,
            forwarded_for,
            upgrade,
            authorization,
            ..
        } = request;
        let authorization = authorization
            .filter(|_| self.settings.authorization == AuthorizationOwner::Application && !permit.is_bare());
        if permit.is_bare() {
            parts.headers.remove(header::COOKIE);
            // To some applications it would be another request than a preflight.
            remove_all(&mut parts.headers, |name| {
                METHOD_OVERRIDES.contains(&&*headers::folded(name))
            });
        }
        let idle = match headers::is_grpc(&parts) {
            // Whoever calls may have nothing to say for long while it listens.
            true => self.settings.timeouts.idle,
            false => self.settings.bodies.idle,
        };
        let patience = Patience::new(idle, None);
        let limit = self.settings.bodies.bytes;
        let (body, progress) = match permit.is_bare() {
            true => (RequestBody::Empty, None),
            false => RequestBody::of(body, limit, patience).map_err(|error| match error {
                BodyError::TooLarge => UpstreamError::BodyTooLarge,
                BodyError::Broken(_)
                | BodyError::Unfinished(_)
                | BodyError::Idle
                | BodyError::Cut
                | BodyError::Abandoned(_) => UpstreamError::ClientGone,
            })?,
        };
        let received = std::mem::replace(&mut parts.version, Version::HTTP_11);
        parts.uri = match &self.settings.prefix {
            Some(prefix) => prefix.inside(&target),
            None => target.to_uri(),
        };
        // What the server noted there concerns the client's connection alone.
        parts.extensions = Extensions::new();
        let headers = &mut parts.headers;
        self.settings.edits.request.apply_to_request(headers);
        let site = self.site(arrival.origin);
        let host = match (self.settings.preserve_host, self.instances.first()) {
            (false, Some(instance)) => &instance.host,
            (true, _) | (_, None) => &site.authority,
        };
        headers.insert(header::HOST, host.clone());
        forwarded::write(arrival.peer, &site, &forwarded_for, received, headers);
        if let Some(prefix) = &self.settings.prefix
            && let Ok(prefix) = HeaderValue::try_from(&*prefix.path)
        {
            headers.insert(prefix::X_FORWARDED_PREFIX, prefix);
        }
        if let Some(identity) = permit.identity() {
            template::write(identity, &self.settings.identity_headers, headers)?;
        }
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        vouched.write(headers);
        if upgrade.is_some() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        Ok((Request::from_parts(*parts, body), progress, upgrade))
    }

    /// Says of the application's places what they are called outside, where it cannot know.
    fn name_as_outside(&self, origin: &Origin, headers: &mut HeaderMap) {
        let prefix = self.settings.prefix.as_ref();
        if prefix.is_none() && self.settings.preserve_host {
            return;
        }
        let inside = self.settings.onward.destinations();
        let outside = Outside { prefix, origin, inside };
        outside.rewrite(headers);
    }

    fn site(&self, origin: &Origin) -> Cow<'_, Site> {
        let first = self.site.get_or_init(|| Site::of(origin));
        match first.is_of(origin) {
            true => Cow::Borrowed(first),
            false => Cow::Owned(Site::of(origin)),
        }
    }

    fn upgraded(
        &self,
        response: Answered,
        client: Option<hyper::upgrade::OnUpgrade>,
        load: Option<Load>,
        lifeline: Lifeline,
    ) -> Result<Response<Body>, UpstreamError> {
        let client = client.ok_or_else(|| UpstreamError::Nonsense("it switches protocols unasked".into()))?;
        let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
        if !response.headers().get(header::UPGRADE).is_some_and(is_websocket) {
            return Err(UpstreamError::Nonsense("it switches to another protocol".into()));
        }
        let (mut parts, source) = response.into_parts();
        let upstream = source.upgraded();
        let upstream = upstream.ok_or_else(|| UpstreamError::Nonsense("it switches protocols too soon".into()))?;
        let splice = upgrade::splice(client, upstream, self.settings.timeouts.idle, lifeline);
        tokio::spawn(async move {
            splice.await;
            drop(load);
        });
        clean(&mut parts.headers);
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts
            .headers
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Ok(Response::from_parts(parts, Body::empty()))
    }
}

/// Removes what concerned the connection to the upstream alone (RFC 9110 §7.6.1).
fn clean(headers: &mut HeaderMap) {
    if headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        remove_nominated(headers);
        remove_all(headers, is_hop_by_hop);
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}
