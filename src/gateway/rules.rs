//! What decides over an exchange that is open when the configuration changes.

use std::{collections::HashMap, sync::Arc};

use crate::{
    identity::{Identity, ProviderId, TokenError},
    policy::{self, Access, Admission, Authentication, Decision, Lookup, Routes},
    provider::Providers,
    session::{Held, Sessions},
    time::Timestamp,
    upstream::lifeline::Asked,
};

/// The part of a configuration that decides.
#[derive(Debug)]
pub(super) struct Rules {
    /// 1 at the start, and one more with every reload.
    pub(super) generation: u64,
    pub(super) sessions: Arc<Sessions>,
    routes: Arc<Routes>,
    providers: Arc<Providers>,
    /// Since which generation the tokens of a provider are judged as they are now.
    judged_since: HashMap<ProviderId, u64>,
}

/// Whom an open exchange is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    Anybody,
    /// Of whoever had this token under some generation.
    Token(&'a Arc<Identity>, u64),
    Session(&'a Held),
}

impl Rules {
    pub(super) fn new(routes: Arc<Routes>, providers: Arc<Providers>, sessions: Arc<Sessions>) -> Self {
        Self {
            generation: 1,
            judged_since: providers.iter().map(|provider| (provider.id().clone(), 1)).collect(),
            sessions,
            routes,
            providers,
        }
    }

    /// The same, as those that follow the `earlier` ones.
    pub(super) fn after(mut self, earlier: &Self) -> Self {
        self.generation = earlier.generation.saturating_add(1);
        for (id, since) in &mut self.judged_since {
            let known = earlier.judged_since.get(id);
            let alike = known.filter(|_| self.providers.judge_tokens_like(&earlier.providers, id));
            *since = alike.copied().unwrap_or(self.generation);
        }
        self
    }

    /// Whether a request would be let in by now that was let in before.
    ///
    /// When its session is over is not asked here: whoever watches it knows better.
    pub(super) fn admit(&self, asked: &Asked, whose: Whose<'_>, now: Timestamp) -> bool {
        let facts = asked.facts(now);
        let Lookup::Found(route) = self.routes.find(&facts) else {
            return false;
        };
        let authentication = match &route.access {
            Access::Public => Authentication::Anonymous,
            Access::Protected(admission) => self.authentication(admission, whose, now),
        };
        match policy::decide(route, &facts, authentication, now) {
            Decision::Allow(_) => true,
            Decision::Login(_) | Decision::Challenge(_) | Decision::Deny(_) => false,
        }
    }

    fn authentication(&self, admission: &Admission, whose: Whose<'_>, now: Timestamp) -> Authentication {
        let verified = match whose {
            Whose::Anybody => None,
            Whose::Token(identity, generation) => self.holder(identity, generation, now),
            Whose::Session(held) => self.person(held, now),
        };
        match verified.filter(|identity| admission.providers.contains(&identity.provider)) {
            Some(identity) => Authentication::Verified(identity),
            None => Authentication::Rejected(TokenError::NotAccepted),
        }
    }

    /// Whoever has the token, as its claims are read by now; nobody, when the token itself would have to be seen again.
    fn holder(&self, identity: &Arc<Identity>, generation: u64, now: Timestamp) -> Option<Arc<Identity>> {
        let since = self.judged_since.get(&identity.provider)?;
        let names = self.providers.by_id(&identity.provider)?.claim_names();
        (*since <= generation).then(|| {
            Arc::new(Identity {
                username: names.username(&identity.claims, now),
                email: names.email(&identity.claims, now),
                groups: names.groups(&identity.claims),
                groups_unknown: names.groups_unknown(&identity.claims),
                ..(**identity).clone()
            })
        })
    }

    /// Whose session it is; nobody's, when the key is gone that its cookie was sealed with.
    fn person(&self, held: &Held, now: Timestamp) -> Option<Arc<Identity>> {
        let provider = self.providers.of_login(&held.session.login)?;
        let not_yet = Timestamp::from_unix(i64::MAX);
        let person = || held.session.identity(provider.claim_names(), not_yet, now);
        self.sessions.ring().has(held.sealed_by).then(person)
    }
}
