//! What is counted of each route.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

use super::{AccessRecord, Metrics};

/// All that can be decided; what is none of these is counted as the last.
const DECISIONS: [&str; 7] = ["allow", "login", "challenge", "deny", "endpoint", "not_found", "error"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Seconds; the gateway itself takes less than the first.
const BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

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
pub(super) struct RouteLabels {
    pub(super) route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    route: Arc<str>,
    decision: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ShadowLabels {
    route: Arc<str>,
    would: &'static str,
}

pub(super) type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

impl Metrics {
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
        self.upstreams.retries.remove(&labels);
        for would in ["login", "challenge", "deny"] {
            self.shadow.remove(&ShadowLabels {
                route: route.clone(),
                would,
            });
        }
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
        if let Some(would) = record.would {
            let route = route.name.clone();
            self.metrics
                .shadow
                .get_or_create_owned(&ShadowLabels { route, would })
                .inc();
        }
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

pub(super) fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}
