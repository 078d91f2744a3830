//! What is noted of one request while it walks, for its line in the log.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{
    Gateway, Reader,
    decisions::{self, Asked, Decisions, Person, Refusal},
};
use crate::{
    identity::{Identity, Peer, Proof},
    policy::{Authentication, Case, Permit, RequestFacts, Route, RouteId, Routes},
    secret::{self, random_bytes},
    session::Held,
    telemetry::{self, AccessRecord, RouteCounts, Stopwatch},
    time::Timestamp,
    upstream::{body::Body, target::Target},
};

/// Makes the reference ids that a person can read out to whoever reads the log.
#[derive(Debug)]
pub(super) struct Ids {
    process: u32,
    next: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            process: u32::from_be_bytes(random_bytes()),
            next: AtomicU64::new(1),
        }
    }
}

impl Ids {
    pub(super) fn next(&self) -> Id {
        Id {
            process: self.process,
            sequence: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Unique in this process, and over processes as far as 32 random bits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    process: u32,
    sequence: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.process, self.sequence)
    }
}

#[derive(Debug)]
pub(super) struct Visit<'a> {
    id: Id,
    /// When it came.
    pub(super) now: Timestamp,
    pub(super) reader: Reader,
    /// Set on the answer, whatever it becomes.
    pub(super) cookies: Vec<HeaderValue>,
    /// What the person was let in with, if it is a session.
    pub(super) session: Option<Arc<Held>>,
    /// `allow`, `login`, `challenge`, `deny`, `endpoint` or `error`.
    pub(super) decision: &'static str,
    pub(super) reason: Option<String>,
    /// What would have been decided, were the route not in the shadow.
    would: Option<&'static str>,
    /// Whether a login that does not succeed here may succeed with another provider.
    pub(super) has_choice: bool,
    /// Where a login that did not succeed was to lead.
    pub(super) way_back: Option<String>,
    method: Method,
    target: Option<Target>,
    route: Option<RouteId>,
    authentication: Option<&'static str>,
    identity: Option<Arc<Identity>>,
    peer: &'a Peer,
    /// Where the client is, as far as trusted proxies vouch for it; until they were asked, the peer.
    pub(super) address: IpAddr,
    stopwatch: Stopwatch,
    upstream: Option<Duration>,
    routes: &'a Routes,
    counts: &'a RouteCounts,
    decisions: &'a Decisions,
    /// Of the answer, when there is one.
    status: Option<StatusCode>,
}

/// What the line says in place of a status when the client goes away before its answer; known from other servers.
const CLIENT_GONE: u16 = 499;

impl<'a> Visit<'a> {
    pub(super) fn begin(gateway: &'a Gateway, method: &Method, peer: &'a Peer) -> Self {
        Self {
            id: gateway.ids.next(),
            now: gateway.clock.now(),
            reader: Reader::default(),
            cookies: Vec::new(),
            session: None,
            decision: "error",
            reason: None,
            would: None,
            has_choice: false,
            way_back: None,
            method: method.clone(),
            target: None,
            route: None,
            authentication: None,
            identity: None,
            peer,
            address: peer.address,
            stopwatch: Stopwatch::start(),
            upstream: None,
            routes: &gateway.routes,
            counts: &gateway.counts,
            decisions: &gateway.decisions,
            status: None,
        }
    }

    pub(super) fn arrived_at(&mut self, target: &Target) {
        self.target = Some(target.clone());
    }

    /// Notes what another proxy asked about.
    pub(super) fn asked_about(&mut self, method: &Method, target: &Target) {
        self.method = method.clone();
        self.target = Some(target.clone());
    }

    pub(super) fn routed_to(&mut self, route: &Route) {
        self.route = Some(route.id);
    }

    pub(super) fn authenticated_as(&mut self, authentication: &Authentication) {
        match authentication {
            Authentication::Verified(identity) => {
                self.authentication = Some(match identity.proof {
                    Proof::Session => "session",
                    Proof::AccessToken => "bearer",
                });
                self.identity = Some(identity.clone());
            }
            Authentication::Rejected(_) => self.authentication = Some("rejected"),
            Authentication::Anonymous => self.authentication = Some("anonymous"),
        }
    }

    /// Who was about to be let in by a login that does not count.
    pub(super) fn known_as(&mut self, identity: &Arc<Identity>) {
        self.identity = Some(identity.clone());
    }

    pub(super) fn allowed(&mut self, permit: &Permit) {
        self.decision = "allow";
        if let Some(refusal) = permit.refusal() {
            self.would = Some(refusal.word());
            self.reason = Some(refusal.reason());
        }
    }

    /// Notes how long the upstream took.
    pub(super) fn upstream_took(&mut self, duration: Duration) {
        self.upstream = Some(duration);
    }

    /// What the person reads out to whoever reads the log.
    pub(super) fn id(&self) -> String {
        self.id.to_string()
    }

    /// Who it is, in a word that the person knows; for pages only.
    pub(super) fn person(&self) -> Option<&str> {
        let identity = self.identity.as_ref()?;
        Some(identity.username.as_deref().unwrap_or(identity.subject.as_str()))
    }

    /// The query that begins a login anew: back to this very page, or to where the login was to lead, unless it is
    /// one of the gateway's own.
    pub(super) fn start_again_query(&self) -> String {
        let target = self.target.as_ref().filter(|_| self.route.is_some());
        let here = target.map_or("/", Target::path_and_query);
        let return_to = self.way_back.as_deref().unwrap_or(here);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("rd", return_to)
            .finish();
        format!("?{query}")
    }

    fn pseudonym(&self) -> Option<String> {
        let identity = self.identity.as_ref()?;
        Some(secret::pseudonym(identity.issuer.as_str(), identity.subject.as_str()))
    }

    /// Finishes the answer; the line is written when this is dropped.
    pub(super) fn end(&mut self, response: &mut Response<Body>) {
        self.keep_private(response);
        self.status = Some(response.status());
    }

    /// Whether somebody was told no, or would have been.
    fn refuses(&self) -> bool {
        match self.decision {
            "allow" => self.would.is_some(),
            // What an endpoint is asked for in vain.
            "endpoint" => self.reason.is_some(),
            _ => true,
        }
    }

    /// What is kept of a refusal; what the rules say to it is worked out only now.
    fn refusal(&self) -> Refusal {
        let route = self.route.and_then(|id| self.routes.by_id(id));
        let judged = matches!(self.would.unwrap_or(self.decision), "login" | "challenge" | "deny");
        let (host, path) = self.place();
        let request = RequestFacts {
            method: &self.method,
            host,
            port: self.target.as_ref().and_then(Target::port),
            path,
            query: None,
            client: self.reader.client,
            initiator: self.reader.initiator,
            address: self.address,
            certificate: self.peer.certificate(self.now),
        };
        let case = self.identity.as_deref().filter(|_| judged).map(|identity| Case {
            identity,
            request: &request,
            now: self.now,
        });
        let reason = self
            .reason
            .as_deref()
            .or((self.decision == "login").then_some("login_needed"));
        Refusal {
            id: self.id,
            at: self.now,
            method: decisions::word(self.method.as_str()),
            host: decisions::text(host),
            path: decisions::path(path),
            status: self.status(),
            route: route.map(|route| route.name.clone()),
            decision: self.decision,
            would: self.would,
            reason: reason.map(decisions::text),
            authentication: self.authentication,
            person: self.identity.as_deref().map(Person::of),
            client: self.address,
            asked: route.zip(case).and_then(|(route, case)| Asked::of(route, case)),
        }
    }

    /// Host and path, as far as they could be read.
    fn place(&self) -> (&str, &str) {
        let target = self.target.as_ref();
        target.map_or(("", ""), |target| (target.host(), target.path()))
    }

    fn status(&self) -> u16 {
        match self.status {
            Some(status) => status.as_u16(),
            // The server answers in the place of what has a bug.
            None if std::thread::panicking() => StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
            None => CLIENT_GONE,
        }
    }

    /// An answer that sets our cookies is stored nowhere; one that is somebody's is not shared (RFC 9111 §3.5).
    fn keep_private(&mut self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if !self.cookies.is_empty() {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            for cookie in self.cookies.drain(..) {
                headers.append(header::SET_COOKIE, cookie);
            }
        } else if self.identity.is_some()
            && !headers.contains_key(header::CACHE_CONTROL)
            && !headers.contains_key(header::EXPIRES)
        {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}

/// A request that nobody waits for any more has its line as well: what it did, it did.
impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // What only the line needs is not worked out where nobody wants one.
        let (id, subject) = match telemetry::wants_access() {
            true => (self.id(), self.pseudonym()),
            false => (String::new(), None),
        };
        let route = self.route.and_then(|id| self.routes.by_id(id));
        let (host, path) = self.place();
        let record = AccessRecord {
            id: &id,
            method: self.method.as_str(),
            host,
            path,
            status: self.status(),
            route: route.map(|route| (route.id.index(), &*route.name)),
            decision: self.decision,
            would: self.would,
            reason: self.reason.as_deref(),
            authentication: self.authentication,
            subject: subject.as_deref(),
            client: self.address,
            duration: self.stopwatch.elapsed(),
            upstream: self.upstream,
        };
        self.counts.request(&record);
        telemetry::access(&record);
        if self.decisions.are_kept() && self.refuses() {
            self.decisions.keep(self.refusal().into());
        }
    }
}
