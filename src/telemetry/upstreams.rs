//! What is counted of each application that has several servers, or is asked whether it is well.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Metrics, routes::RouteLabels};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    route: Arc<str>,
    upstream: Arc<str>,
}

/// The numbers of all of them.
#[derive(Clone, Default)]
pub(super) struct Upstreams {
    healthy: Family<UpstreamLabels, Gauge>,
    ejections: Family<UpstreamLabels, Counter>,
    pub(super) retries: Family<RouteLabels, Counter>,
}

/// The numbers of one; when this is dropped, they are not told any more.
pub struct UpstreamNumbers {
    families: Upstreams,
    labels: UpstreamLabels,
    healthy: Gauge,
    pub ejections: Counter,
}

impl Upstreams {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help =
            "Whether requests are sent there: 0 from an ejection or a failed health check until it is well again";
        registry.register("upstream_healthy", help, self.healthy.clone());
        let help = "How often an upstream was left out for a while because it failed again and again";
        registry.register("upstream_ejections", help, self.ejections.clone());
        let help = "Requests that were sent once more, to another upstream or on another connection, after they had failed or found it closed";
        registry.register("upstream_retries", help, self.retries.clone());
    }
}

impl Metrics {
    /// The numbers of one upstream of a route.
    pub fn upstream(&self, route: &str, upstream: &str) -> UpstreamNumbers {
        let labels = UpstreamLabels {
            route: route.into(),
            upstream: upstream.into(),
        };
        let healthy = self.upstreams.healthy.get_or_create_owned(&labels);
        healthy.set(1);
        UpstreamNumbers {
            ejections: self.upstreams.ejections.get_or_create_owned(&labels),
            healthy,
            families: self.upstreams.clone(),
            labels,
        }
    }

    /// The counter of a route's requests that were sent once more.
    pub fn upstream_retries(&self, route: &str) -> Counter {
        let labels = RouteLabels { route: route.into() };
        self.upstreams.retries.get_or_create_owned(&labels)
    }
}

impl UpstreamNumbers {
    pub fn is_healthy(&self, yes: bool) {
        self.healthy.set(yes.into());
    }
}

impl Drop for UpstreamNumbers {
    fn drop(&mut self) {
        self.families.healthy.remove(&self.labels);
        self.families.ejections.remove(&self.labels);
    }
}

impl fmt::Debug for UpstreamNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamNumbers").finish_non_exhaustive()
    }
}
