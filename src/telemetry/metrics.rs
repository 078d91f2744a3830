//! Counters and histograms in the OpenMetrics text format.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use super::AccessRecord;

/// All that can be decided; what is none of these is counted as the last.
const DECISIONS: [&str; 7] = ["allow", "login", "challenge", "deny", "endpoint", "not_found", "error"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Seconds; the gateway itself takes less than the first.
const BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// What is counted; a request only adds to numbers that it finds by index.
pub struct Metrics {
    registry: Registry,
    /// At the id of the route; the last is of requests that have none.
    routes: Box<[RouteMetrics]>,
    requests: Family<RequestLabels, Counter>,
    authentications: [(&'static str, Counter); 4],
    provider_calls: Family<CallLabels, Counter>,
    token_cache: Family<CacheLabels, Counter>,
    rate_limited: Family<LimitLabels, Counter>,
    connections: Gauge,
    panics: Counter,
    sessions_on_old_key: Gauge<f64, AtomicU64>,
}

/// The numbers of one route.
struct RouteMetrics {
    name: Arc<str>,
    /// For each decision and class of status; those that never happen are not shown.
    requests: [[OnceLock<Counter>; STATUSES.len()]; DECISIONS.len()],
    duration: Histogram,
    upstream: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    decision: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    provider: Arc<str>,
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    provider: Arc<str>,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    kind: &'static str,
}

type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

impl Metrics {
    /// For these routes, in the order of their ids, under a file that weakens so many checks.
    pub fn new(routes: &[&str], exceptions: usize) -> Self {
        let durations = Durations::new_with_constructor(histogram);
        let upstream_durations = Durations::new_with_constructor(histogram);
        let route = |name: &str| RouteMetrics::new(name, &durations, &upstream_durations);
        // Prometheus takes an empty label for an absent one, and no route has an empty name.
        let mut metrics = Self {
            registry: Registry::with_prefix("vestibule"),
            routes: routes.iter().copied().chain([""]).map(route).collect(),
            requests: Family::default(),
            authentications: ["session", "bearer", "anonymous", "rejected"].map(|result| (result, Counter::default())),
            provider_calls: Family::default(),
            token_cache: Family::default(),
            rate_limited: Family::default(),
            connections: Gauge::default(),
            panics: Counter::default(),
            sessions_on_old_key: Gauge::default(),
        };
        metrics.register(durations, upstream_durations);
        let insecure: Gauge = Gauge::default();
        insecure.set(i64::try_from(exceptions).unwrap_or(i64::MAX));
        let help = "Settings called insecure_… that are in force";
        metrics.registry.register("insecure_settings", help, insecure);
        metrics
    }

    fn register(&mut self, durations: Durations, upstream_durations: Durations) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", build);
        registry.register("requests", "Requests that were answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Until the head of the answer is there",
            durations,
        );
        registry.register(
            "upstream_duration_seconds",
            "The part of that which the upstream took",
            upstream_durations,
        );
        let authentications = Family::<AuthenticationLabels, Counter>::default();
        for (result, counter) in &mut self.authentications {
            *counter = authentications.get_or_create_owned(&AuthenticationLabels { result });
        }
        registry.register("authentications", "What requests proved", authentications);
        let calls = self.provider_calls.clone();
        registry.register("provider_calls", "Calls to authorization servers", calls);
        let cache = self.token_cache.clone();
        registry.register("token_cache", "Tokens looked up in the cache", cache);
        let limited = self.rate_limited.clone();
        registry.register("rate_limited", "Requests that came too often from one address", limited);
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register("panics", "Requests that a bug ended", self.panics.clone());
        let help = "Sessions that end when the old keys are taken out of key_files; NaN while nobody can tell";
        registry.register("sessions_on_old_key", help, self.sessions_on_old_key.clone());
    }

    /// Everything, for `/metrics`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // A string takes whatever is written.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// Counts an answered request.
    pub fn request(&self, record: &AccessRecord<'_>) {
        let known = |(result, _): &&(&str, Counter)| Some(*result) == record.authentication;
        if let Some((_, counter)) = self.authentications.iter().find(known) {
            counter.inc();
        }
        let index = record.route.map_or(usize::MAX, |(index, _)| index);
        let Some(route) = self.routes.get(index).or(self.routes.last()) else {
            return;
        };
        route.count(record, &self.requests);
        route.duration.observe(record.duration.as_secs_f64());
        if let Some(upstream) = record.upstream {
            route.upstream.observe(upstream.as_secs_f64());
        }
    }

    /// Counts a call to an authorization server, and how it ended.
    pub fn provider_call(&self, provider: &str, call: &'static str, outcome: &'static str) {
        let labels = CallLabels {
            provider: provider.into(),
            call,
            outcome,
        };
        self.provider_calls.get_or_create(&labels).inc();
    }

    /// The counter of what the cache of one kind of tokens knew, or did not.
    pub fn token_cache(&self, provider: &str, kind: &'static str, outcome: &'static str) -> Counter {
        let labels = CacheLabels {
            provider: provider.into(),
            kind,
            outcome,
        };
        self.token_cache.get_or_create_owned(&labels)
    }

    /// The counter of what one address did too often.
    pub fn rate_limited(&self, kind: &'static str) -> Counter {
        self.rate_limited.get_or_create_owned(&LimitLabels { kind })
    }

    /// Counts a connection as open, until what is returned is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Notes how many sessions need an old key; `None` when nobody can tell.
    pub fn sessions_on_old_key(&self, count: Option<usize>) {
        let count = count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        self.sessions_on_old_key.set(count.map_or(f64::NAN, f64::from));
    }

    /// Counts a request that a bug ended.
    pub fn panic(&self) {
        self.panics.inc();
    }
}

impl Default for Metrics {
    /// For no route.
    fn default() -> Self {
        Self::new(&[], 0)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl RouteMetrics {
    fn new(name: &str, durations: &Durations, upstream_durations: &Durations) -> Self {
        let name: Arc<str> = name.into();
        let labels = RouteLabels { route: name.clone() };
        Self {
            name,
            requests: Default::default(),
            duration: durations.get_or_create_owned(&labels),
            upstream: upstream_durations.get_or_create_owned(&labels),
        }
    }

    fn count(&self, record: &AccessRecord<'_>, requests: &Family<RequestLabels, Counter>) {
        let last = DECISIONS.len().saturating_sub(1);
        let decision = DECISIONS.iter().position(|&known| known == record.decision);
        let decision = decision.unwrap_or(last);
        let status = usize::from(record.status / 100).saturating_sub(1);
        let status = status.min(STATUSES.len().saturating_sub(1));
        let Some(counter) = self.requests.get(decision).and_then(|row| row.get(status)) else {
            return;
        };
        let make = || {
            requests.get_or_create_owned(&RequestLabels {
                route: self.name.clone(),
                decision: DECISIONS.get(decision).unwrap_or(&""),
                status: STATUSES.get(status).unwrap_or(&""),
            })
        };
        counter.get_or_init(make).inc();
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Counted as an open connection for as long as it lives.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn answered(route: Option<(usize, &'static str)>, decision: &'static str, status: u16) -> AccessRecord<'static> {
        AccessRecord {
            id: "1",
            method: "GET",
            host: "wiki.example.com",
            path: "/",
            status,
            route,
            decision,
            reason: None,
            authentication: Some("session"),
            subject: None,
            client: Ipv4Addr::LOCALHOST.into(),
            duration: Duration::from_millis(3),
            upstream: route.map(|_| Duration::from_millis(2)),
        }
    }

    #[test]
    fn everything_is_counted_under_its_name() {
        let metrics = Metrics::new(&["wiki", "public"], 2);
        metrics.request(&answered(Some((1, "public")), "allow", 200));
        metrics.request(&answered(Some((1, "public")), "allow", 204));
        metrics.request(&answered(None, "not_found", 404));
        metrics.request(&answered(Some((0, "wiki")), "something new", 999));
        metrics.provider_call("corp", "introspection", "ok");
        metrics.token_cache("corp", "jwt", "hit").inc();
        metrics.rate_limited("login").inc();
        metrics.panic();
        let connection = metrics.connection();
        let text = metrics.encode();
        for line in [
            "vestibule_requests_total{route=\"public\",decision=\"allow\",status=\"2xx\"} 2\n",
            "vestibule_requests_total{route=\"\",decision=\"not_found\",status=\"4xx\"} 1\n",
            "vestibule_requests_total{route=\"wiki\",decision=\"error\",status=\"5xx\"} 1\n",
            "vestibule_request_duration_seconds_bucket{le=\"0.005\",route=\"public\"} 2\n",
            "vestibule_request_duration_seconds_bucket{le=\"0.0025\",route=\"public\"} 0\n",
            "vestibule_upstream_duration_seconds_count{route=\"public\"} 2\n",
            "vestibule_upstream_duration_seconds_count{route=\"\"} 0\n",
            "vestibule_provider_calls_total{provider=\"corp\",call=\"introspection\",outcome=\"ok\"} 1\n",
            "vestibule_authentications_total{result=\"session\"} 4\n",
            "vestibule_insecure_settings 2\n",
            "vestibule_token_cache_total{provider=\"corp\",kind=\"jwt\",outcome=\"hit\"} 1\n",
            "vestibule_rate_limited_total{kind=\"login\"} 1\n",
            "vestibule_connections 1\n",
            "vestibule_panics_total 1\n",
            "vestibule_sessions_on_old_key 0.0\n",
            concat!("vestibule_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        ] {
            assert!(text.contains(line), "{text}\nlacks {line}");
        }
        assert!(text.ends_with("# EOF\n"));
        for (count, shown) in [(Some(3), "3.0"), (None, "NaN")] {
            metrics.sessions_on_old_key(count);
            assert!(
                metrics
                    .encode()
                    .contains(&format!("vestibule_sessions_on_old_key {shown}\n"))
            );
        }
        drop(connection);
        assert!(metrics.encode().contains("vestibule_connections 0\n"));
    }

    #[test]
    fn without_routes_requests_are_still_counted() {
        let metrics = Metrics::default();
        metrics.request(&answered(Some((3, "lost")), "allow", 200));
        assert!(
            metrics
                .encode()
                .contains("{route=\"\",decision=\"allow\",status=\"2xx\"} 1\n")
        );
    }
}
