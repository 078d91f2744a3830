//! One configuration after the other: what a reload replaces, and what lasts.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use http::{Request, Response, request::Parts as Head};
use hyper::body::Incoming;

use super::{
    Gateway, Parts, StartError, decisions::Decisions, limits::Limits, old_keys, pages::Pages,
    provider_logout::Allowance, rules::Rules, streams::Streams,
};
use crate::{
    identity::Peer,
    provider::Providers,
    session::Sessions,
    telemetry::Metrics,
    time::Clock,
    upstream::{Upstreams, body::Body, headers::Scrubber},
};

/// The gateway as it is by now; every request sees one configuration from its beginning to its end.
pub struct Generations {
    current: ArcSwap<Gateway>,
    /// Whoever replaces the configuration does so alone.
    replacing: Mutex<()>,
}

impl fmt::Debug for Generations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generations").finish_non_exhaustive()
    }
}

impl Generations {
    /// # Errors
    /// When the gateway cannot be made of its parts.
    pub fn first(parts: Parts, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let gateway = Gateway::made_of(parts, clock, metrics, None)?;
        Ok(Self {
            current: ArcSwap::from_pointee(gateway),
            replacing: Mutex::default(),
        })
    }

    pub async fn handle(&self, head: Box<Head>, body: Incoming, peer: Peer) -> Response<Body> {
        self.current.load_full().handle(head, body, peer).await
    }

    /// Whether the word of whoever is there counts on where others are.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.current.load().trusts(peer)
    }

    pub fn redirect(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
        self.current.load().redirect(request, peer)
    }

    pub async fn settle(&self) {
        self.current.load_full().settle().await;
    }

    pub async fn administer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        self.current.load_full().administer(request, peer).await
    }

    /// Puts another configuration in the place of the one that serves; says how many open exchanges it cut.
    ///
    /// What has to change together with it is done `meanwhile`: after nothing can fail any more, and before what is open
    /// is judged.
    ///
    /// Sessions stay where they are kept, whatever the parts say of that.
    ///
    /// # Errors
    /// When the gateway cannot be made of its parts; then nothing has changed.
    pub fn replace(&self, parts: Parts, meanwhile: impl FnOnce()) -> Result<usize, StartError> {
        let _alone = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = self.current.load_full();
        let next = Arc::new(earlier.next(parts)?);
        meanwhile();
        // First, so that nothing falls in between: what the earlier configuration lets in from now on is judged by the
        // next one as soon as it turns out to last.
        let cut = next.streams.follow(next.rules.clone());
        self.current.store(next.clone());
        // Requests under way hold the earlier one for a while.
        earlier.upstreams.end_checks();
        for gone in earlier.routes.iter().filter(|route| !next.routes.has(&route.name)) {
            next.metrics.forget(&gone.name);
        }
        Ok(cut)
    }
}

impl Gateway {
    fn next(&self, parts: Parts) -> Result<Self, StartError> {
        Self::made_of(parts, self.clock.clone(), self.metrics.clone(), Some(self))
    }

    fn made_of(
        parts: Parts,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        earlier: Option<&Self>,
    ) -> Result<Self, StartError> {
        let scrubber = Scrubber::new(parts.scrub);
        let pages = Pages::new(parts.providers.iter().map(|provider| provider.issuer.as_str()))?;
        let counts = metrics.routes(parts.routes.iter().map(|route| &*route.name));
        let sessions = match earlier {
            Some(earlier) => earlier.sessions.under(parts.session),
            None => Sessions::new(parts.session),
        };
        let sessions = Arc::new(sessions.ok_or(StartError::NoKey)?);
        let frontchannel = Allowance::over(sessions.remembered_for());
        old_keys::count(&sessions, clock.clone(), metrics.clone());
        let providers = earlier.map(|earlier| &*earlier.providers);
        let providers = Arc::new(Providers::new(parts.providers, &metrics, providers)?);
        let upstreams = earlier.map(|earlier| &earlier.upstreams);
        let upstreams = Upstreams::new(
            parts.upstreams,
            parts.signing_keys,
            &scrubber,
            upstreams,
            &metrics,
            clock.now(),
        )?;
        let routes = Arc::new(parts.routes);
        let rules = Rules::new(routes.clone(), providers.clone(), sessions.clone());
        let rules = Arc::new(match earlier {
            Some(earlier) => rules.after(&earlier.rules),
            None => rules,
        });
        let limits = match earlier {
            // Whoever came too often stays shut out.
            Some(earlier) if earlier.settings.per_minute == parts.settings.per_minute => earlier.limits.clone(),
            Some(_) | None => Limits::new(&parts.settings.per_minute, &clock, &metrics).into(),
        };
        let kept = parts.settings.decisions_kept();
        let decisions = match earlier {
            Some(earlier) if earlier.decisions.count() == kept => earlier.decisions.clone(),
            Some(earlier) => earlier.decisions.moved_to(kept).into(),
            None => Decisions::keeping(kept).into(),
        };
        Ok(Self {
            settings: parts.settings,
            decisions,
            limits,
            routes,
            scrubber,
            providers,
            upstreams,
            frontchannel,
            pages,
            counts,
            sessions,
            logins: earlier.map_or_else(Arc::default, |earlier| earlier.logins.clone()),
            renewals: earlier.map_or_else(Arc::default, |earlier| earlier.renewals.clone()),
            ids: earlier.map_or_else(Arc::default, |earlier| earlier.ids.clone()),
            streams: match earlier {
                Some(earlier) => earlier.streams.clone(),
                None => Arc::new(Streams::new(rules.clone(), clock.clone())),
            },
            rules,
            clock,
            metrics,
        })
    }
}
