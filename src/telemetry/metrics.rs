//! Counters and histograms in the OpenMetrics text format.

use std::{
    fmt,
    sync::{Arc, OnceLock},
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

/// What is counted for as long as the process lives.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Durations,
    upstream_durations: Durations,
    authentications: [(&'static str, Counter); 4],
    provider_calls: Family<CallLabels, Counter>,
    token_cache: Family<CacheLabels, Counter>,
    connections: Gauge,
    panics: Counter,
    reloads: Family<ReloadLabels, Counter>,
    generation: Gauge,
    loaded_at: Gauge,
    insecure: Gauge,
}

/// The numbers of the routes of one configuration: a request only adds to what it finds by index.
pub struct RouteCounts {
    metrics: Arc<Metrics>,
    /// At the id of the route; the last is of requests that have none.
    routes: Box<[RouteMetrics]>,
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
struct ReloadLabels {
    outcome: &'static str,
}

type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// How a reload of the configuration ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    Done,
    Refused,
}

impl Reload {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("vestibule"),
            requests: Family::default(),
            durations: Durations::new_with_constructor(histogram),
            upstream_durations: Durations::new_with_constructor(histogram),
            authentications: ["session", "bearer", "anonymous", "rejected"].map(|result| (result, Counter::default())),
            provider_calls: Family::default(),
            token_cache: Family::default(),
            connections: Gauge::default(),
            panics: Counter::default(),
            reloads: Family::default(),
            generation: Gauge::default(),
            loaded_at: Gauge::default(),
            insecure: Gauge::default(),
        };
        metrics.register();
        metrics.register_configuration();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", build);
        registry.register("requests", "Requests that were answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Until the head of the answer is there",
            self.durations.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "The part of that which the upstream took",
            self.upstream_durations.clone(),
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
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register("panics", "Requests that a bug ended", self.panics.clone());
    }

    fn register_configuration(&mut self) {
        let registry = &mut self.registry;
        for outcome in [Reload::Done, Reload::Refused].map(Reload::as_str) {
            drop(self.reloads.get_or_create(&ReloadLabels { outcome }));
        }
        let help = "Reloads of the configuration, and how they ended";
        registry.register("config_reloads", help, self.reloads.clone());
        let help = "Which configuration serves: 1 after the start, and one more with every reload";
        registry.register("config_generation", help, self.generation.clone());
        let help = "When that configuration was loaded, in seconds since 1970";
        registry.register("config_loaded_timestamp_seconds", help, self.loaded_at.clone());
        let help = "Settings called insecure_… that are in force";
        registry.register("insecure_settings", help, self.insecure.clone());
    }

    /// Notes that a configuration serves from now on, and how many checks it weakens; `now` in seconds since 1970.
    pub fn serves(&self, exceptions: usize, now: i64) {
        self.generation.inc();
        self.loaded_at.set(now);
        self.insecure.set(i64::try_from(exceptions).unwrap_or(i64::MAX));
    }

    /// Counts a reload.
    pub fn reload(&self, outcome: Reload) {
        let outcome = outcome.as_str();
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }

    /// A place for each of these routes, in the order of their ids; a route that had one goes on counting there.
    pub fn routes<'a>(self: &Arc<Self>, names: impl Iterator<Item = &'a str>) -> RouteCounts {
        let route = |name: &str| RouteMetrics::new(name, &self.durations, &self.upstream_durations);
        RouteCounts {
            metrics: self.clone(),
            // Prometheus takes an empty label for an absent one, and no route has an empty name.
            routes: names.chain([""]).map(route).collect(),
        }
    }

    /// Tells no more of a route that is gone: a file that is reloaded for ever must not fill the memory.
    pub fn forget(&self, route: &str) {
        let route: Arc<str> = route.into();
        let labels = RouteLabels { route: route.clone() };
        self.durations.remove(&labels);
        self.upstream_durations.remove(&labels);
        for (decision, status) in DECISIONS
            .iter()
            .flat_map(|decision| STATUSES.map(|status| (*decision, status)))
        {
            self.requests.remove(&RequestLabels {
                route: route.clone(),
                decision,
                status,
            });
        }
    }

    /// Everything, for `/metrics`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // A string takes whatever is written.
        let _ = text::encode(&mut text, &self.registry);
        text
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

    /// Counts a connection as open, until what is returned is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Counts a request that a bug ended.
    pub fn panic(&self) {
        self.panics.inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl RouteCounts {
    /// Counts an answered request.
    pub fn request(&self, record: &AccessRecord<'_>) {
        let known = |(result, _): &&(&str, Counter)| Some(*result) == record.authentication;
        if let Some((_, counter)) = self.metrics.authentications.iter().find(known) {
            counter.inc();
        }
        let index = record.route.map_or(usize::MAX, |(index, _)| index);
        let Some(route) = self.routes.get(index).or(self.routes.last()) else {
            return;
        };
        route.count(record, &self.metrics.requests);
        route.duration.observe(record.duration.as_secs_f64());
        if let Some(upstream) = record.upstream {
            route.upstream.observe(upstream.as_secs_f64());
        }
    }
}

impl fmt::Debug for RouteCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCounts").finish_non_exhaustive()
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
        let metrics = Arc::new(Metrics::default());
        metrics.serves(2, 1_767_225_600);
        let routes = metrics.routes(["wiki", "public"].into_iter());
        routes.request(&answered(Some((1, "public")), "allow", 200));
        routes.request(&answered(Some((1, "public")), "allow", 204));
        routes.request(&answered(None, "not_found", 404));
        routes.request(&answered(Some((0, "wiki")), "something new", 999));
        metrics.reload(Reload::Refused);
        metrics.provider_call("corp", "introspection", "ok");
        metrics.token_cache("corp", "jwt", "hit").inc();
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
            "vestibule_config_reloads_total{outcome=\"done\"} 0\n",
            "vestibule_config_reloads_total{outcome=\"refused\"} 1\n",
            "vestibule_config_generation 1\n",
            "vestibule_config_loaded_timestamp_seconds 1767225600\n",
            "vestibule_token_cache_total{provider=\"corp\",kind=\"jwt\",outcome=\"hit\"} 1\n",
            "vestibule_connections 1\n",
            "vestibule_panics_total 1\n",
            concat!("vestibule_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        ] {
            assert!(text.contains(line), "{text}\nlacks {line}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(connection);
        assert!(metrics.encode().contains("vestibule_connections 0\n"));
    }

    #[test]
    fn without_routes_requests_are_still_counted() {
        let metrics = Arc::new(Metrics::default());
        metrics
            .routes(std::iter::empty())
            .request(&answered(Some((3, "lost")), "allow", 200));
        assert!(
            metrics
                .encode()
                .contains("{route=\"\",decision=\"allow\",status=\"2xx\"} 1\n")
        );
    }
    #[test]
    fn a_route_goes_on_counting_in_another_place_until_it_is_gone() {
        let metrics = Arc::new(Metrics::default());
        let before = metrics.routes(["wiki", "public"].into_iter());
        before.request(&answered(Some((1, "public")), "allow", 200));
        let after = metrics.routes(["public"].into_iter());
        after.request(&answered(Some((0, "public")), "allow", 200));
        let line = "vestibule_requests_total{route=\"public\",decision=\"allow\",status=\"2xx\"} 2\n";
        assert!(metrics.encode().contains(line));
        metrics.forget("public");
        assert!(!metrics.encode().contains("route=\"public\""));
    }
}
