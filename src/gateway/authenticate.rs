//! Who sent the request, as far as its credential proves it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Error, Gateway, Visit, evidence::has_good_token, renew::Renewal};
use crate::{
    identity::TokenError,
    policy::{Access, Admission, Authentication, Client, Origin, Preflight, Route},
    provider::{BearerError, PresentedToken, Verdict},
    secret::Secret,
    session::{CookieJar, Held, Place, Presented, Session},
    time::Timestamp,
    upstream::{
        AuthorizationOwner,
        headers::{Authorization, Credential},
        target::AmbiguousTarget,
    },
};

/// How long a request waits for fresh tokens while the old ones still serve.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a session's tokens are fresh.
enum Freshness {
    Fresh,
    /// Somebody is at it, and the old ones serve meanwhile.
    Underway,
    Replaced(Renewal),
}

impl Gateway {
    /// An explicit credential that is bad is an error, whatever else there is (I13, N-082); of a good one and a session,
    /// the route says which counts.
    ///
    /// # Errors
    /// When nobody can tell, because whoever would know is down.
    pub(super) async fn authenticate(
        &self,
        route: &Route,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Authentication, Error> {
        let authorization = self.authorization(route, credential)?;
        let Access::Protected(admission) = &route.access else {
            return Ok(Authentication::Anonymous);
        };
        if (visit.reader.client, admission.preflight) == (Client::Preflight, Preflight::Pass) {
            return Ok(Authentication::Anonymous);
        }
        let authentication = match authorization {
            Authorization::Absent if admission.session => {
                let by_session = self.by_session(admission, credential, origin, visit, now).await?;
                return Ok(self.with_token_for(route, by_session, visit, now));
            }
            Authorization::Absent => Authentication::Anonymous,
            Authorization::Bearer(token) if admission.bearer => {
                let by_token = self.by_token(admission, token, visit.address, now).await?;
                match by_token {
                    Authentication::Verified(token) if admission.session_first() => {
                        let by_session = self.by_session(admission, credential, origin, visit, now);
                        let by_session = Box::pin(by_session).await?;
                        Admission::beside(token, self.with_token_for(route, by_session, visit, now))
                    }
                    by_token => by_token,
                }
            }
            Authorization::Bearer(_) | Authorization::Other => Authentication::Rejected(TokenError::NotAccepted),
            Authorization::Malformed | Authorization::Several => Authentication::Rejected(TokenError::Malformed),
        };
        Ok(authentication)
    }

    /// The header as far as it is for us: where it is the application's own, nobody reads more of it than that it is one.
    fn authorization<'a>(&self, route: &Route, credential: &'a Credential) -> Result<&'a Authorization, Error> {
        match (self.upstreams.authorization_of(route.id), &credential.authorization) {
            (AuthorizationOwner::Gateway, authorization) => Ok(authorization),
            (AuthorizationOwner::Application, Authorization::Several) => {
                Err(AmbiguousTarget("it has more than one Authorization").into())
            }
            (AuthorizationOwner::Application, _) => Ok(&Authorization::Absent),
        }
    }

    /// Who presents a token that is known has no limit.
    async fn by_token(
        &self,
        admission: &Admission,
        token: &Secret,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Authentication, Error> {
        let presented = self.providers.presented(&admission.providers, token.expose());
        let verdict = match presented.known(now).await {
            Some(verdict) => verdict,
            None => Box::pin(self.find_out(&presented, address, now)).await?,
        };
        match verdict {
            Ok(identity) => Ok(Authentication::Verified(identity)),
            Err(BearerError::Token(error)) => Ok(Authentication::Rejected(error)),
            Err(BearerError::Provider(error)) => Err(Error::Provider(error)),
        }
    }

    /// A token that is not known yet. Whose tokens keep turning out bad has nobody asked about the next.
    async fn find_out(
        &self,
        presented: &PresentedToken<'_>,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Verdict, Error> {
        if let Some(finding) = presented.by_signature(now).await {
            return Ok(self.limits.counted(finding, address)?);
        }
        self.limits.bad_tokens.look(address)?;
        let (asked, limits) = (presented.by_introspection(now), self.limits.clone());
        // Whoever hangs up before the provider has answered is counted all the same.
        let counted = tokio::spawn(async move { limits.counted(asked.await, address) });
        match counted.await {
            Ok(verdict) => Ok(verdict?),
            Err(_) => Ok(Err(presented.cut_short())),
        }
    }

    /// A session that is unknown, tampered with or over is nobody's, and its cookies are taken back.
    async fn by_session(
        &self,
        admission: &Admission,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Authentication, Error> {
        let jar = self.sessions.jar(origin, &credential.cookies);
        let Some(presented) = self.sessions.present(&jar, origin, now).await? else {
            visit.cookies.extend(jar.delete_split());
            self.give_back(&jar, origin, now).await?;
            return Ok(Authentication::Anonymous);
        };
        // Logged in elsewhere: that session is still good for the routes of its provider.
        let login = &presented.held.session.login;
        if self.providers.of_login(login).is_none() || !admission.providers.contains(&login.provider) {
            return Ok(Authentication::Anonymous);
        }
        let Some(held) = self.kept_fresh(presented, &jar, origin, visit, now).await? else {
            visit.cookies.extend(jar.delete_split());
            return Ok(Authentication::Anonymous);
        };
        self.streams.extend(&held);
        let authentication = self.identified(&held.session, now);
        visit.session = Some(held);
        Ok(authentication)
    }

    /// Where the application gets the access token, a session without a good one is not enough: logging in again yields
    /// one, and the session goes on elsewhere.
    fn with_token_for(
        &self,
        route: &Route,
        authentication: Authentication,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Authentication {
        let lacks = |held: &Arc<Held>| !has_good_token(&held.session, now);
        if self.upstreams.forwards_access_token(route.id) && visit.session.as_ref().is_some_and(lacks) {
            visit.session = None;
            return Authentication::Anonymous;
        }
        authentication
    }

    /// The session with an access token that is good for a while; `None` when the provider ended it.
    pub(super) async fn kept_fresh(
        &self,
        presented: Presented,
        jar: &CookieJar<'_>,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<Held>>, Error> {
        let Presented { held, stale } = presented;
        let Held {
            session,
            place,
            sealed_by,
        } = &*held;
        let sealed_by = *sealed_by;
        let (held, changed) = match self.freshness(session, place, now).await {
            Freshness::Fresh => (held, stale),
            // A cookie with the old tokens could reach the browser after the one with the new ones.
            Freshness::Underway => (held, false),
            Freshness::Replaced(Renewal::Renewed(login, place)) => {
                let moved = session.seen_from != Some(visit.address);
                let unkept = matches!(place, Place::Browser) || moved;
                let session = session.renewed(login, now).into();
                let renewed = Held {
                    session,
                    place,
                    sealed_by,
                };
                (Arc::new(renewed), unkept)
            }
            Freshness::Replaced(Renewal::Ended) => {
                self.streams.end(&session.id);
                return Ok(None);
            }
            // The old access token is good for a little longer: nobody has to notice.
            Freshness::Replaced(Renewal::Failed(_) | Renewal::Unknown(_)) if still_serves(session, now) => {
                (held, stale)
            }
            Freshness::Replaced(Renewal::Failed(error)) => return Err(Error::Provider(error)),
            Freshness::Replaced(Renewal::Unknown(error)) => return Err(Error::Store(error)),
        };
        if !changed {
            return Ok(Some(held));
        }
        let place = held.place.clone();
        let session = held.session.seen(now).seen_from(visit.address).into();
        let sealed_by = self.sessions.ring().first();
        let held = Held {
            session,
            place,
            sealed_by,
        };
        let cookies = self.sessions.keep(&held.session, &held.place, jar, origin, now).await?;
        visit.cookies.extend(cookies);
        Ok(Some(held.into()))
    }

    /// Nobody else had the refresh token of a session that was ended while its browser was away (RFC 7009).
    async fn give_back(&self, jar: &CookieJar<'_>, origin: &Origin, now: Timestamp) -> Result<(), Error> {
        let ended = self.sessions.ended_meanwhile(jar, origin, now).await?;
        if let Some(session) = ended {
            self.give_back_token(&session, now);
        }
        Ok(())
    }

    async fn freshness(&self, session: &Arc<Session>, place: &Place, now: Timestamp) -> Freshness {
        let is_due = || now >= session.refresh_due(self.sessions.settings().refresh_before);
        if session.login.refresh_token.is_none() || !is_due() {
            return Freshness::Fresh;
        }
        let Some(provider) = self.providers.of_login(&session.login) else {
            return Freshness::Fresh;
        };
        let renewal = self.renewals.renew(&self.sessions, provider, session, place, now);
        if !still_serves(session, now) {
            return Freshness::Replaced(renewal.await);
        }
        match timeout(PATIENCE, renewal).await {
            Ok(renewal) => Freshness::Replaced(renewal),
            Err(_) => Freshness::Underway,
        }
    }

    pub(super) fn identified(&self, session: &Session, now: Timestamp) -> Authentication {
        let Some(provider) = self.providers.of_login(&session.login) else {
            return Authentication::Anonymous;
        };
        let ends_at = self.sessions.ends_at(session);
        Authentication::Verified(session.identity(provider.claim_names(), ends_at, now))
    }
}

/// Whether the access token is good for a little longer.
fn still_serves(session: &Session, now: Timestamp) -> bool {
    now < session.login.access_expires_at
}
