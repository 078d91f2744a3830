//! What is noted of one request while it walks, for its line in the log.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, header};

use super::Reader;
use crate::{
    identity::Proof,
    policy::{Authentication, Route},
    secret::{self, random_bytes},
    session::Held,
    telemetry::{self, AccessRecord, Metrics, Stopwatch},
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
    /// Unique in this process, and over processes as far as 32 random bits go.
    pub(super) fn next(&self) -> String {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{sequence:x}", self.process)
    }
}

#[derive(Debug)]
pub(super) struct Visit {
    pub(super) id: String,
    pub(super) reader: Reader,
    /// Set on the answer, whatever it becomes.
    pub(super) cookies: Vec<HeaderValue>,
    /// What the person was let in with, if it is a session.
    pub(super) session: Option<Arc<Held>>,
    /// `allow`, `login`, `challenge`, `deny`, `endpoint` or `error`.
    pub(super) decision: &'static str,
    pub(super) reason: Option<String>,
    method: Method,
    target: Option<Target>,
    route: Option<(usize, Box<str>)>,
    authentication: Option<&'static str>,
    subject: Option<String>,
    /// Who it is, in a word that the person knows; for pages only.
    person: Option<String>,
    private: bool,
    client: IpAddr,
    stopwatch: Stopwatch,
    upstream: Option<Duration>,
}

impl Visit {
    pub(super) fn begin<B>(id: String, request: &Request<B>, client: IpAddr) -> Self {
        Self {
            id,
            reader: Reader::default(),
            cookies: Vec::new(),
            session: None,
            decision: "error",
            reason: None,
            method: request.method().clone(),
            target: None,
            route: None,
            authentication: None,
            subject: None,
            person: None,
            private: false,
            client,
            stopwatch: Stopwatch::start(),
            upstream: None,
        }
    }

    pub(super) fn arrived_at(&mut self, target: &Target) {
        self.target = Some(target.clone());
    }

    pub(super) fn routed_to(&mut self, route: &Route) {
        self.route = Some((route.id.index(), route.name.clone()));
    }

    pub(super) fn authenticated_as(&mut self, authentication: &Authentication) {
        match authentication {
            Authentication::Verified(identity) => {
                self.private = true;
                self.authentication = Some(match identity.proof {
                    Proof::Session => "session",
                    Proof::AccessToken => "bearer",
                });
                let known_as = identity.username.as_deref().unwrap_or(identity.subject.as_str());
                self.person = Some(known_as.to_owned());
                self.subject = Some(secret::pseudonym(identity.issuer.as_str(), identity.subject.as_str()));
            }
            Authentication::Rejected(_) => self.authentication = Some("rejected"),
            Authentication::Anonymous => self.authentication = Some("anonymous"),
        }
    }

    pub(super) fn allowed(&mut self) {
        self.decision = "allow";
    }

    /// Notes how long the upstream takes.
    pub(super) async fn upstream<F: Future>(&mut self, answer: F) -> F::Output {
        let stopwatch = Stopwatch::start();
        let answer = answer.await;
        self.upstream = Some(stopwatch.elapsed());
        answer
    }

    pub(super) fn person(&self) -> Option<&str> {
        self.person.as_deref()
    }

    /// The query that begins a login anew: back to this very page, unless it is one of the gateway's own.
    pub(super) fn start_again_query(&self) -> String {
        let target = self.target.as_ref().filter(|_| self.route.is_some());
        let return_to = target.map_or("/", Target::path_and_query);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("rd", return_to)
            .finish();
        format!("?{query}")
    }

    /// Finishes the answer and writes the line.
    pub(super) fn end(mut self, mut response: Response<Body>, metrics: &Metrics) -> Response<Body> {
        self.keep_private(&mut response);
        let (host, path) = self
            .target
            .as_ref()
            .map_or(("", ""), |target| (target.host(), target.path()));
        let record = AccessRecord {
            id: &self.id,
            method: self.method.as_str(),
            host,
            path,
            status: response.status().as_u16(),
            route: self.route.as_ref().map(|(index, name)| (*index, &**name)),
            decision: self.decision,
            reason: self.reason.as_deref(),
            authentication: self.authentication,
            subject: self.subject.as_deref(),
            client: self.client,
            duration: self.stopwatch.elapsed(),
            upstream: self.upstream,
        };
        metrics.request(&record);
        telemetry::access(&record);
        response
    }

    /// An answer that sets our cookies is stored nowhere; one that is somebody's is not shared (RFC 9111 §3.5).
    fn keep_private(&mut self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if !self.cookies.is_empty() {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            for cookie in self.cookies.drain(..) {
                headers.append(header::SET_COOKIE, cookie);
            }
        } else if self.private && !headers.contains_key(header::CACHE_CONTROL) && !headers.contains_key(header::EXPIRES)
        {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}
