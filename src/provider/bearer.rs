//! Access tokens: checked once, remembered as evidence, and judged anew at every use (I11).

use std::{sync::Arc, time::Duration};

use moka::{future, sync};

use prometheus_client::metrics::counter::Counter;

use super::{
    BearerError, Finding, Provider, ProviderError, Settings, Verdict,
    settings::{BearerKind, BearerSettings},
};
use crate::{
    identity::{ClaimNames, Identity, Proof, TokenError, Words},
    oauth::{
        access_token::{self, AccessToken},
        introspection,
        jwks::KeySet,
        jwt::Unverified,
    },
    secret::Fingerprint,
    telemetry::Metrics,
    time::Timestamp,
};

/// What is known of a token.
#[derive(Clone, Debug)]
enum Evidence {
    Good(Arc<Identity>),
    Bad(TokenError),
    /// Nobody could be asked. Kept for a moment, so that those who wait do not all ask again.
    Unknown(ProviderError),
}

#[derive(Clone, Debug)]
struct Remembered {
    evidence: Evidence,
    /// Not used at this time or later, whatever the cache's own clock says.
    until: Timestamp,
}

/// How tokens of one provider are checked, and what is remembered of them.
#[derive(Debug)]
pub(super) struct Bearer {
    settings: BearerSettings,
    rules: access_token::Rules,
    signed: sync::Cache<Fingerprint, Remembered>,
    introspected: future::Cache<Fingerprint, Remembered>,
    counters: Counters,
}

/// What the caches knew, and did not.
#[derive(Debug)]
struct Counters {
    signed_hit: Counter,
    signed_miss: Counter,
    introspected_hit: Counter,
    introspected_miss: Counter,
}

impl Counters {
    fn new(provider: &str, metrics: &Metrics) -> Self {
        Self {
            signed_hit: metrics.token_cache(provider, "jwt", "hit"),
            signed_miss: metrics.token_cache(provider, "jwt", "miss"),
            introspected_hit: metrics.token_cache(provider, "opaque", "hit"),
            introspected_miss: metrics.token_cache(provider, "opaque", "miss"),
        }
    }
}

const UNKNOWN_TTL: Duration = Duration::from_secs(1);

impl Bearer {
    pub(super) fn new(settings: BearerSettings, provider: &Settings, metrics: &Metrics) -> Self {
        let rules = access_token::Rules {
            issuer: provider.issuer.clone(),
            audiences: settings.audiences.clone(),
            kind: settings.typ.clone(),
            clock_skew: settings.clock_skew,
            missing_audience_until: settings.missing_audience_until,
        };
        let ttl = settings.cache_ttl.max(settings.negative_ttl).max(UNKNOWN_TTL);
        Self {
            counters: Counters::new(provider.id.as_str(), metrics),
            rules,
            signed: sync::Cache::builder()
                .max_capacity(settings.cache_entries)
                .time_to_live(ttl)
                .build(),
            introspected: future::Cache::builder()
                .max_capacity(settings.cache_entries)
                .time_to_live(ttl)
                .build(),
            settings,
        }
    }

    pub(super) fn reads_jwts(&self) -> bool {
        matches!(self.settings.kind, BearerKind::Jwt | BearerKind::Auto)
    }

    pub(super) fn introspects(&self, looks_like_jwt: bool) -> bool {
        match self.settings.kind {
            BearerKind::Introspection => true,
            BearerKind::Auto => !looks_like_jwt,
            BearerKind::Jwt => false,
        }
    }

    /// What the provider said of a token when it was asked lately.
    pub(super) async fn remembers(&self, fingerprint: &Fingerprint, now: Timestamp) -> Option<Verdict> {
        let remembered = self.introspected.get(fingerprint).await;
        let remembered = remembered.filter(|remembered| now < remembered.until)?;
        self.counters.introspected_hit.inc();
        Some(remembered.verdict())
    }

    fn good(&self, identity: Identity, now: Timestamp) -> Remembered {
        let until = now.plus(self.settings.cache_ttl).min(identity.expires_at);
        Remembered {
            evidence: Evidence::Good(Arc::new(identity)),
            until,
        }
    }

    fn bad(&self, error: TokenError, now: Timestamp) -> Remembered {
        Remembered {
            evidence: Evidence::Bad(error),
            until: now.plus(self.settings.negative_ttl),
        }
    }

    fn judged(&self, token: Result<AccessToken, TokenError>, provider: &Provider, now: Timestamp) -> Remembered {
        match token {
            Ok(token) => self.good(self.identity(token, provider, now), now),
            Err(error) => self.bad(error, now),
        }
    }

    fn identity(&self, token: AccessToken, provider: &Provider, now: Timestamp) -> Identity {
        let names: &ClaimNames = provider.claim_names();
        // A token whose end nobody told is asked about again.
        let expires_at = token.expires_at.unwrap_or(now.plus(self.settings.cache_ttl));
        Identity {
            provider: provider.id().clone(),
            issuer: self.rules.issuer.clone(),
            subject: token.subject,
            proof: Proof::AccessToken,
            username: names.username(&token.claims, now),
            email: names.email(&token.claims, now),
            groups: names.groups(&token.claims),
            groups_unknown: names.groups_unknown(&token.claims),
            scopes: token.scopes,
            claims: token.claims,
            expires_at,
            words: Words::default(),
        }
    }
}

impl Remembered {
    fn unknown(error: ProviderError, now: Timestamp) -> Self {
        Self {
            evidence: Evidence::Unknown(error),
            until: now.plus(UNKNOWN_TTL),
        }
    }

    fn verdict(self) -> Verdict {
        match self.evidence {
            Evidence::Good(identity) => Ok(identity),
            Evidence::Bad(error) => Err(BearerError::Token(error)),
            Evidence::Unknown(error) => Err(BearerError::Provider(error)),
        }
    }
}

impl Provider {
    /// What is known of a signed token from an earlier request.
    pub(super) fn remembers_jwt(&self, fingerprint: &Fingerprint, now: Timestamp) -> Option<Verdict> {
        let bearer = self.bearer.as_ref()?;
        let remembered = bearer
            .signed
            .get(fingerprint)
            .filter(|remembered| now < remembered.until)?;
        bearer.counters.signed_hit.inc();
        Some(remembered.verdict())
    }

    /// Checks a token that says that this provider signed it; the verdict is `Provider` when its keys cannot be had.
    pub(super) async fn verify_jwt(
        self: &Arc<Self>,
        bearer: &Bearer,
        token: &str,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Finding {
        bearer.counters.signed_miss.inc();
        let checked = match self.verified(bearer, token, now).await {
            Ok(token) => Ok(token),
            // The key may be published at any moment, so nothing is held against such a token.
            Err(error @ (BearerError::Provider(_) | BearerError::Token(TokenError::UnknownKey))) => {
                return Finding {
                    verdict: Err(error),
                    first: false,
                };
            }
            Err(BearerError::Token(error)) => Err(error),
        };
        let judged = bearer.judged(checked, self, now);
        let stale = |remembered: &Remembered| remembered.until <= now;
        let entry = bearer.signed.entry(fingerprint).or_insert_with_if(|| judged, stale);
        Finding {
            first: entry.is_fresh(),
            verdict: entry.into_value().verdict(),
        }
    }

    async fn verified(
        self: &Arc<Self>,
        bearer: &Bearer,
        token: &str,
        now: Timestamp,
    ) -> Result<AccessToken, BearerError> {
        let keys = self.keys(now).await?;
        let checked = self.checked(bearer, token, &keys, now);
        if !matches!(checked, Err(TokenError::UnknownKey)) {
            return Ok(checked?);
        }
        match self.keys_newer_than(&keys, now).await {
            Some(newer) => Ok(self.checked(bearer, token, &*newer?, now)?),
            None => Err(TokenError::UnknownKey.into()),
        }
    }

    fn checked(&self, bearer: &Bearer, token: &str, keys: &KeySet, now: Timestamp) -> Result<AccessToken, TokenError> {
        let verified = Unverified::read(token)?.verify(keys, &bearer.settings.algorithms)?;
        access_token::from_jwt(verified, &bearer.rules, now)
    }

    /// Asks the provider, once however many want to know; the call outlives whoever asked first (I18).
    pub(super) async fn introspect(
        self: &Arc<Self>,
        bearer: &Bearer,
        token: &str,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Finding {
        if let Some(verdict) = bearer.remembers(&fingerprint, now).await {
            return Finding { verdict, first: false };
        }
        bearer.counters.introspected_miss.inc();
        let (provider, answers, token) = (self.clone(), bearer.introspected.clone(), token.to_owned());
        let task = tokio::spawn(async move {
            let stale = |remembered: &Remembered| remembered.until <= now;
            let answer = provider.introspected(&token, now);
            let entry = answers.entry(fingerprint).or_insert_with_if(answer, stale).await;
            (entry.is_fresh(), entry.into_value())
        });
        match task.await {
            Ok((first, remembered)) => Finding {
                verdict: remembered.verdict(),
                first,
            },
            Err(_) => Finding {
                verdict: Err(self.unavailable("the call was cut short").into()),
                first: false,
            },
        }
    }

    async fn introspected(self: &Arc<Self>, token: &str, now: Timestamp) -> Remembered {
        let Some(bearer) = &self.bearer else {
            return Remembered::unknown(self.unavailable("it checks no tokens"), now);
        };
        match self.ask_about(token, now).await {
            Ok(answer) => bearer.judged(access_token::from_introspection(answer, &bearer.rules, now), self, now),
            Err(error) => Remembered::unknown(error, now),
        }
    }

    async fn ask_about(
        self: &Arc<Self>,
        token: &str,
        now: Timestamp,
    ) -> Result<introspection::Introspected, ProviderError> {
        let endpoint = match &self.endpoints.introspection {
            Some(endpoint) => endpoint.clone(),
            None => {
                let endpoint = self.metadata(now).await?.introspection_endpoint.clone();
                endpoint.ok_or_else(|| self.unavailable("it has no introspection endpoint"))?
            }
        };
        let request = introspection::request(&endpoint, &self.settings.client, token);
        let answer = self.call("introspection", request).await?;
        // Whatever is wrong with the answer, the token is neither good nor bad (N-089, N-090).
        introspection::read(&answer).map_err(|error| self.unavailable(error))
    }
}

/// The provider among those `allowed` that a token says it is from.
pub(super) fn issuer_of<'a>(
    token: &str,
    candidates: &[(&'a Arc<Provider>, &'a Bearer)],
) -> Result<Option<(&'a Arc<Provider>, &'a Bearer)>, TokenError> {
    let unverified = Unverified::read(token)?;
    let issuer = unverified.claimed_issuer().ok_or(TokenError::Claim("iss"))?;
    let says = |(provider, bearer): &&(&Arc<Provider>, &Bearer)| {
        bearer.reads_jwts() && provider.settings.issuer.as_str() == issuer
    };
    Ok(candidates.iter().find(says).copied())
}
