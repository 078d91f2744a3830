//! Counters and histograms in the OpenMetrics text format.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::{
    routes::{Durations, RequestLabels, ShadowLabels, histogram},
    upstreams::Upstreams,
};

/// What is counted for as long as the process lives.
pub struct Metrics {
    registry: Registry,
    pub(super) requests: Family<RequestLabels, Counter>,
    /// What routes in the shadow would have refused.
    pub(super) shadow: Family<ShadowLabels, Counter>,
    pub(super) durations: Durations,
    pub(super) upstream_durations: Durations,
    pub(super) upstreams: Upstreams,
    pub(super) authentications: [(&'static str, Counter); 4],
    provider_calls: Family<CallLabels, Counter>,
    token_cache: Family<CacheLabels, Counter>,
    rate_limited: Family<LimitLabels, Counter>,
    connections: Gauge,
    panics: Counter,
    sessions_on_old_key: Gauge<f64, AtomicU64>,
    reloads: Family<ReloadLabels, Counter>,
    generation: Gauge,
    loaded_at: Gauge,
    insecure: Gauge,
    in_shadow: Gauge,
    certificates: Family<CertificateLabels, Gauge>,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    name: String,
}

/// How much of what a configuration could check it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unenforced {
    /// Settings called `insecure_…`.
    pub exceptions: usize,
    pub routes_in_shadow: usize,
}

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
            shadow: Family::default(),
            durations: Durations::new_with_constructor(histogram),
            upstream_durations: Durations::new_with_constructor(histogram),
            upstreams: Upstreams::default(),
            authentications: ["session", "bearer", "anonymous", "rejected"].map(|result| (result, Counter::default())),
            provider_calls: Family::default(),
            token_cache: Family::default(),
            rate_limited: Family::default(),
            connections: Gauge::default(),
            panics: Counter::default(),
            sessions_on_old_key: Gauge::default(),
            reloads: Family::default(),
            generation: Gauge::default(),
            loaded_at: Gauge::default(),
            insecure: Gauge::default(),
            in_shadow: Gauge::default(),
            certificates: Family::default(),
        };
        metrics.register();
        metrics.register_configuration();
        metrics.upstreams.register(&mut metrics.registry);
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", build);
        registry.register("requests", "Requests that were answered", self.requests.clone());
        let help = "Requests that passed because their route is in the shadow, by what they would have been told";
        registry.register("shadow_refusals", help, self.shadow.clone());
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
        let limited = self.rate_limited.clone();
        registry.register("rate_limited", "Requests that came too often from one address", limited);
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register("panics", "Requests that a bug ended", self.panics.clone());
        let help = "Sessions that end when the old keys are taken out of key_files; NaN while nobody can tell";
        registry.register("sessions_on_old_key", help, self.sessions_on_old_key.clone());
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
        let help = "Routes in the shadow, which let everybody pass";
        registry.register("shadow_routes", help, self.in_shadow.clone());
        let help = "When a certificate of the gateway ends, in seconds since 1970; by the first host that it is for";
        registry.register("certificate_expiry_timestamp_seconds", help, self.certificates.clone());
    }

    /// Notes that a configuration serves from now on, and what it does not enforce; `now` in seconds since 1970.
    pub fn serves(&self, unenforced: Unenforced, now: i64) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.generation.inc();
        self.loaded_at.set(now);
        self.insecure.set(count(unenforced.exceptions));
        self.in_shadow.set(count(unenforced.routes_in_shadow));
    }

    /// Notes which certificates are in place, and when they end; of several with one name, the one that ends first.
    pub fn certificates<'a>(&self, ends: impl Iterator<Item = (&'a str, i64)>) {
        let mut first: BTreeMap<&str, i64> = BTreeMap::new();
        for (name, end) in ends {
            first
                .entry(name)
                .and_modify(|first| *first = end.min(*first))
                .or_insert(end);
        }
        self.certificates.clear();
        for (name, end) in first {
            let name = name.to_owned();
            self.certificates.get_or_create(&CertificateLabels { name }).set(end);
        }
    }

    /// Counts a reload.
    pub fn reload(&self, outcome: Reload) {
        let outcome = outcome.as_str();
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
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

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
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
    use crate::telemetry::AccessRecord;

    fn answered(route: Option<(usize, &'static str)>, decision: &'static str, status: u16) -> AccessRecord<'static> {
        AccessRecord {
            id: "1",
            method: "GET",
            host: "wiki.example.com",
            path: "/",
            status,
            route,
            decision,
            would: None,
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
        let unenforced = Unenforced {
            exceptions: 2,
            routes_in_shadow: 1,
        };
        metrics.serves(unenforced, 1_767_225_600);
        let routes = metrics.routes(["wiki", "public"].into_iter());
        routes.request(&answered(Some((1, "public")), "allow", 200));
        routes.request(&answered(Some((1, "public")), "allow", 204));
        routes.request(&answered(None, "not_found", 404));
        routes.request(&answered(Some((0, "wiki")), "something new", 999));
        metrics.certificates([("gone", 1)].into_iter());
        metrics.certificates([("a", 3), ("a", 2)].into_iter());
        metrics.reload(Reload::Refused);
        metrics.provider_call("corp", "introspection", "ok");
        metrics.token_cache("corp", "jwt", "hit").inc();
        metrics.rate_limited("login").inc();
        metrics.panic();
        let connection = metrics.connection();
        let text = metrics.encode();
        for line in [
            "vestibule_shadow_routes 1\n",
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
            "vestibule_certificate_expiry_timestamp_seconds{name=\"a\"} 2\n",
            "vestibule_config_loaded_timestamp_seconds 1767225600\n",
            "vestibule_token_cache_total{provider=\"corp\",kind=\"jwt\",outcome=\"hit\"} 1\n",
            "vestibule_rate_limited_total{kind=\"login\"} 1\n",
            "vestibule_connections 1\n",
            "vestibule_panics_total 1\n",
            "vestibule_sessions_on_old_key 0.0\n",
            concat!("vestibule_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        ] {
            assert!(text.contains(line), "{text}\nlacks {line}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains("gone"));
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
