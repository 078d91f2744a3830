//! The walk of a request: who is at the door, may they pass, and what is the application told.

mod administration;
mod authenticate;
mod beside;
mod decisions;
mod endpoints;
mod error;
mod evidence;
mod generations;
mod limits;
mod login;
mod old_keys;
mod pages;
mod provider_logout;
mod reader;
mod redirect;
mod refresh;
mod renew;
mod resource_metadata;
mod respond;
mod rules;
pub mod settings;
mod sign_out;
mod streams;
mod userinfo;
mod visit;
mod watcher;

use std::{fmt, net::IpAddr, sync::Arc};

use http::{Method, Response, request::Parts as Head};
use hyper::body::Incoming;

pub use beside::BadQuestion;
pub use error::{Error, StartError};
pub use generations::Generations;
pub use settings::Settings;

use crate::{
    identity::Peer,
    oauth::{authorization::Account, jwt::SigningKey},
    policy::{self, Decision, Lookup, Permit, RequestFacts, Route, Routes},
    provider::{self, Providers},
    session::{self, Sessions},
    telemetry::{Metrics, RouteCounts, Stopwatch},
    time::Clock,
    upstream::{
        self, Arrival, Upstreams,
        body::Body,
        glance::Seen,
        headers::{ScrubSettings, Scrubbed, Scrubber},
        lifeline::{Asked, Ground, Holder, Lifeline},
        target::Target,
    },
};
use decisions::Decisions;
use limits::Limits;
use login::{Logins, Wish};
use pages::Pages;
use provider_logout::Allowance;
use reader::Reader;
use renew::Renewals;
use rules::Rules;
use streams::Streams;
use visit::{Ids, Visit};

/// A request that passed so many gateways like this one passes the same one again and again.
const MAX_HOPS: usize = 8;

/// Everything that a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    pub settings: Settings,
    pub routes: Routes,
    pub providers: Vec<provider::Settings>,
    /// The upstream of a route stands at its id.
    pub upstreams: Vec<upstream::Settings>,
    /// What assertions are signed with: the first signs, all are published; without one, one is made.
    pub signing_keys: Vec<SigningKey>,
    pub session: session::Settings,
    pub scrub: ScrubSettings,
}

/// The gateway, as one configuration describes it; a reload makes another one of what lasts in it.
pub struct Gateway {
    settings: Settings,
    routes: Arc<Routes>,
    scrubber: Scrubber,
    providers: Arc<Providers>,
    upstreams: Upstreams,
    frontchannel: Allowance,
    limits: Arc<Limits>,
    pages: Pages,
    counts: RouteCounts,
    rules: Arc<Rules>,
    /// Under this configuration; where they are kept outlasts it.
    sessions: Arc<Sessions>,

    // What outlasts every configuration.
    clock: Arc<dyn Clock>,
    logins: Arc<Logins>,
    renewals: Arc<Renewals>,
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
    ids: Arc<Ids>,
    /// As many as this configuration keeps; a reload takes them along.
    decisions: Arc<Decisions>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Answers a request; whatever happens, there is an answer, and one line in the log.
    pub async fn handle(&self, head: Box<Head>, body: Incoming, peer: Peer) -> Response<Body> {
        let mut visit = Visit::begin(self, &head.method, &peer);
        let mut response = match self.walk(head, body, &peer, &mut visit).await {
            Ok(response) => response,
            Err(error) => self.fail(&error, &mut visit),
        };
        visit.end(&mut response);
        response
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.scrubber.trusts(peer)
    }

    /// Says farewell to WebSockets, which nothing else would end, and waits for what must not be cut off when the process
    /// ends.
    pub async fn settle(&self) {
        self.streams.leaving.cancel();
        self.renewals.settle().await;
    }

    /// The walk.
    async fn walk(
        &self,
        head: Box<Head>,
        body: Incoming,
        peer: &Peer,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Error> {
        let now = visit.now;
        let head = Seen::from(head);
        let target = Target::read(head.borrowed())?;
        visit.arrived_at(&target);
        if let Some(manner) = self.asked_in(&target) {
            return Ok(Box::pin(self.answer(manner, *head.into_head().1, &target, peer.address, visit)).await);
        }
        if self.is_check(&head, &target) {
            return Box::pin(self.check(body, peer.address, visit)).await;
        }
        if is_unsupported(&head.method) {
            return Err(Error::MethodUnsupported);
        }
        let origin = self.routes.origin(target.host(), target.port()).ok_or(Error::NoRoute)?;
        visit.reader = Reader::of(head.borrowed(), &origin);
        let (scrubbed, credential) = self.scrubber.scrub(head, body, target, peer.address);

        visit.address = address_of(&scrubbed, peer.address);
        let target = scrubbed.target();
        let certificate = peer.certificate(now);
        if let Some(resource) = self
            .routes
            .described_at(target.host(), target.port(), target.path(), certificate)
        {
            return self.describe(&resource, &scrubbed.parts().method, &origin, visit);
        }
        if let Some(endpoint) = self.endpoint_at(scrubbed.target().path()) {
            let answer = self.serve(endpoint?, scrubbed, &credential, &origin, visit, now);
            return Box::pin(answer).await;
        }
        if scrubbed.hops() > MAX_HOPS {
            return Err(Error::Loop);
        }
        let client = peer.clone().seen_at(visit.address);
        let asked = Asked::of(&scrubbed, visit.reader.client, visit.reader.initiator, client);
        let facts = asked.facts(now);
        let route = self.route(&facts)?;
        visit.routed_to(route);
        if self.upstreams.asker(route.id).is_some() {
            return Err(Error::PassedOnElsewhere);
        }
        let authentication = self.authenticate(route, &credential, &origin, visit, now).await?;
        visit.authenticated_as(&authentication);
        match policy::decide(route, &facts, authentication, now) {
            Decision::Allow(permit) => {
                visit.allowed(&permit);
                let vouched = self.vouch(&permit, &origin, &credential, visit, now)?;
                let arrival = Arrival { origin: &origin, peer };
                let lifeline = self.lifeline(asked, &permit, visit);
                let stopwatch = Stopwatch::start();
                let answer = self
                    .upstreams
                    .forward(scrubbed, permit, vouched, arrival, lifeline)
                    .await;
                visit.upstream_took(stopwatch.elapsed());
                Ok(answer?)
            }
            Decision::Login(demand) => {
                let wish = Wish {
                    demand,
                    return_to: scrubbed.target().path_and_query(),
                    account: Account::Any,
                };
                let answer = self.send_to_login(wish, &credential, &origin, visit, now);
                Box::pin(answer).await
            }
            Decision::Challenge(challenge) => {
                let resource = route.resource(scrubbed.target().path());
                Ok(self.challenge(&challenge, &origin, resource.as_ref(), visit))
            }
            Decision::Deny(denial) => Ok(self.deny(denial, route, visit)),
        }
    }

    fn route(&self, facts: &RequestFacts<'_>) -> Result<&Route, Error> {
        match self.routes.find(facts) {
            Lookup::Found(route) => Ok(route),
            Lookup::MethodNotAllowed(methods) => Err(Error::MethodNotAllowed(methods.into_iter().cloned().collect())),
            Lookup::NotFound => Err(Error::NoRoute),
        }
    }

    /// What the exchange hangs on, should it last.
    fn lifeline(&self, asked: Asked, permit: &Permit, visit: &mut Visit<'_>) -> Lifeline {
        let holder = match (visit.session.take(), permit.identity()) {
            (_, None) => Holder::Anybody,
            (Some(held), Some(_)) => Holder::Session(held),
            (None, Some(identity)) => Holder::Token(identity.clone()),
        };
        let generation = self.rules.generation;
        let ground = Ground {
            asked,
            holder,
            generation,
        };
        Lifeline::new(self.streams.clone(), ground)
    }
}

/// Methods are told apart by case (RFC 9110 §9.1), and some applications read `post` as POST all the same (I1).
fn is_unsupported(method: &Method) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            false
        }
        Method::CONNECT | Method::TRACE => true,
        ref other => other.as_str().bytes().any(|b| b.is_ascii_lowercase()),
    }
}

/// Where the client is, as far as trusted proxies vouch for it (I7).
fn address_of(scrubbed: &Scrubbed, peer: IpAddr) -> IpAddr {
    let client = scrubbed.forwarded_for().first().copied().unwrap_or(peer);
    client.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what a call would return, without making it.
    fn size<A, B, C, D, R>(_: impl FnOnce(A, B, C, D) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_request_needs_little_room() {
        // Every connection that is asked something keeps the room of one.
        let bytes = size(|gateway: &'static Generations, head, body, peer| gateway.handle(head, body, peer));
        assert!(bytes <= 4 * 1_024, "{bytes}");
    }
}
