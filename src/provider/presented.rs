//! A token that somebody presents: what is known of it, what its signature says, and what the provider says.

use std::sync::Arc;

use super::{BearerError, Provider, bearer, bearer::Bearer};
use crate::{
    identity::{Identity, TokenError},
    oauth::jwt::{self, Unverified},
    secret::Fingerprint,
    time::Timestamp,
};

/// Who presents a token, or why nobody does.
pub type Verdict = Result<Arc<Identity>, BearerError>;

/// What was found out about a token that was not known.
#[derive(Debug)]
pub struct Finding {
    pub verdict: Verdict,
    /// Whether this is the first to find it out; those who come after only share it.
    pub first: bool,
}

/// A token on its way through the questions, the cheapest first; each is asked only when those before had no answer.
#[derive(Debug)]
pub struct PresentedToken<'a> {
    pub(super) token: &'a str,
    pub(super) fingerprint: Fingerprint,
    pub(super) candidates: Vec<(&'a Arc<Provider>, &'a Bearer)>,
}

impl PresentedToken<'_> {
    /// What earlier requests found out; `None` when something is left to be asked.
    pub async fn known(&self, now: Timestamp) -> Option<Verdict> {
        if self.token.len() > jwt::MAX_LENGTH {
            return Some(Err(TokenError::TooLong.into()));
        }
        let mut signed = self.candidates.iter();
        let signed = signed.find_map(|(provider, _)| provider.remembers_jwt(&self.fingerprint, now));
        if signed.is_some() {
            return signed;
        }
        let mut answers = Answers::default();
        for (_, bearer) in self.asked() {
            match bearer.remembers(&self.fingerprint, now).await {
                Some(Ok(identity)) => return Some(Ok(identity)),
                Some(answer) => answers.add(answer),
                None => answers.missing = true,
            }
        }
        answers.all()
    }

    /// What the signature says; `None` when it says nothing and somebody can be asked.
    ///
    /// Providers are told apart by the token's `iss` before any key is fetched.
    pub async fn by_signature(&self, now: Timestamp) -> Option<Finding> {
        let mut verdict = TokenError::UnknownIssuer;
        if self.is_jwt() && self.candidates.iter().any(|(_, bearer)| bearer.reads_jwts()) {
            match bearer::issuer_of(self.token, &self.candidates) {
                Ok(Some((provider, bearer))) => {
                    let verified = provider.verify_jwt(bearer, self.token, self.fingerprint, now);
                    return Some(Box::pin(verified).await);
                }
                Ok(None) => {}
                // It is from none of those who sign what is read here; who is asked may know it all the same.
                Err(error) => verdict = error,
            }
        }
        if self.asked().next().is_some() {
            return None;
        }
        // To see that took no work.
        Some(Finding {
            verdict: Err(verdict.into()),
            first: false,
        })
    }

    /// What the providers say that can be asked, in order; whoever awaits this may do so without the request.
    pub fn by_introspection(&self, now: Timestamp) -> impl Future<Output = Finding> + Send + use<> {
        let asked: Vec<_> = self.asked().map(|(provider, _)| Arc::clone(provider)).collect();
        let (token, fingerprint) = (self.token.to_owned(), self.fingerprint);
        async move {
            let mut answers = Answers::default();
            let mut first = false;
            for provider in &asked {
                let Some(bearer) = &provider.bearer else { continue };
                let finding = provider.introspect(bearer, &token, fingerprint, now).await;
                first |= finding.first;
                match finding.verdict {
                    Ok(identity) => {
                        return Finding {
                            verdict: Ok(identity),
                            first,
                        };
                    }
                    answer @ Err(_) => answers.add(answer),
                }
            }
            let verdict = answers.all().unwrap_or(Err(TokenError::UnknownIssuer.into()));
            Finding { verdict, first }
        }
    }

    /// When nobody is left who could bring the answer.
    pub fn cut_short(&self) -> BearerError {
        let asked = self.asked().next();
        asked.map_or(TokenError::UnknownIssuer.into(), |(provider, _)| {
            provider.unavailable("the call was cut short").into()
        })
    }

    fn is_jwt(&self) -> bool {
        Unverified::looks_like(self.token)
    }

    fn asked(&self) -> impl Iterator<Item = &(&Arc<Provider>, &Bearer)> {
        let is_jwt = self.is_jwt();
        let asked = self.candidates.iter();
        asked.filter(move |(_, bearer)| bearer.introspects(is_jwt))
    }
}

/// What those said who do not know a token.
#[derive(Debug, Default)]
struct Answers {
    worst: Option<Verdict>,
    missing: bool,
}

impl Answers {
    fn add(&mut self, answer: Verdict) {
        // Who could not be asked might have known the token.
        if !matches!(self.worst, Some(Err(BearerError::Provider(_)))) {
            self.worst = Some(answer);
        }
    }

    /// `None` while somebody has not been asked.
    fn all(self) -> Option<Verdict> {
        self.worst.filter(|_| !self.missing)
    }
}
