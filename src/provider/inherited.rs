//! What providers know, taken over by those of a new configuration.

use std::sync::Arc;

use super::{Endpoints, Provider, Providers, Settings, bearer::Bearer, kept::Kept};
use crate::{identity::ProviderId, oauth::token::Login};

impl Providers {
    /// The provider that these settings describe, with what is known of it and good for them too; `None` where they mean
    /// another one.
    pub(super) fn inherited(&self, settings: &Settings) -> Option<Arc<Provider>> {
        let known = self.by_id(&settings.id)?;
        if known.settings == *settings {
            return Some(known.clone());
        }
        let same = known.settings.issuer == settings.issuer
            && known.settings.trust == settings.trust
            && known.settings.limits == settings.limits;
        same.then(|| Arc::new(known.under(settings.clone())))
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
    /// The same server, asked as these settings say. What it said of itself stays, its keys as long as they are looked for
    /// in the same place, and what was found out of tokens as long as they are judged alike.
    fn under(&self, settings: Settings) -> Self {
        let keys_stay = self.settings.endpoints.jwks_uri == settings.endpoints.jwks_uri;
        let verdicts_stay = self.settings.but_for_logins(&settings) == settings;
        let bearer = || {
            let bearer = settings.bearer.clone()?;
            Some(Arc::new(Bearer::new(bearer, &settings, &self.metrics)))
        };
        Self {
            endpoints: Endpoints::of(&settings.endpoints),
            transport: self.transport.clone(),
            metrics: self.metrics.clone(),
            metadata: self.metadata.clone(),
            keys: match keys_stay {
                true => self.keys.clone(),
                false => Kept::new(settings.id.clone()),
            },
            bearer: match verdicts_stay {
                true => self.bearer.clone(),
                false => bearer(),
            },
            settings,
        }
    }
}

impl Settings {
    /// These, with what concerns nothing but logins as it is in the `other` ones.
    fn but_for_logins(&self, other: &Self) -> Self {
        let other = other.clone();
        Self {
            display_name: other.display_name,
            scopes: other.scopes,
            authorization_params: other.authorization_params,
            id_token_algorithms: other.id_token_algorithms,
            assumed_token_lifetime: other.assumed_token_lifetime,
            clock_skew: other.clock_skew,
            userinfo: other.userinfo,
            wanted_claims: other.wanted_claims,
            ..self.clone()
        }
    }
}
