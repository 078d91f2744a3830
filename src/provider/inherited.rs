//! What providers know, taken over by those of a new configuration.

use std::sync::Arc;

use super::{Endpoints, Provider, Providers, Settings};
use crate::{identity::ProviderId, oauth::token::Login};

impl Providers {
    /// The provider that these settings describe, with all that is known of it; `None` where it would be another one.
    pub(super) fn inherited(&self, settings: &Settings) -> Option<Arc<Provider>> {
        let known = self.by_id(&settings.id)?;
        let wanting = Settings {
            wanted_claims: settings.wanted_claims.clone(),
            ..known.settings.clone()
        };
        if known.settings == *settings {
            return Some(known.clone());
        }
        // What routes ask for changes nothing of what the provider said.
        (wanting == *settings).then(|| Arc::new(known.with(wanting)))
    }

    /// Who vouched for a login; nobody, when another issuer goes by that name now.
    pub fn of_login(&self, login: &Login) -> Option<&Arc<Provider>> {
        self.by_id(&login.provider)
            .filter(|provider| *provider.issuer() == login.issuer)
    }

    /// Whether a token of this provider that was good to `earlier` ones is good here as well.
    pub fn judge_tokens_like(&self, earlier: &Self, id: &ProviderId) -> bool {
        let (Some(one), Some(other)) = (self.by_id(id), earlier.by_id(id)) else {
            return false;
        };
        let (one, other) = (&one.settings, &other.settings);
        one.issuer == other.issuer
            && one.bearer == other.bearer
            && one.trust == other.trust
            && one.endpoints.jwks_uri == other.endpoints.jwks_uri
            && one.endpoints.introspection == other.endpoints.introspection
    }
}

impl Provider {
    fn with(&self, settings: Settings) -> Self {
        Self {
            endpoints: Endpoints::of(&settings.endpoints),
            transport: self.transport.clone(),
            metrics: self.metrics.clone(),
            metadata: self.metadata.clone(),
            keys: self.keys.clone(),
            bearer: self.bearer.clone(),
            settings,
        }
    }
}
