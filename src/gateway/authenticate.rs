//! Who sent the request, as far as its credential proves it.

use std::sync::Arc;

use super::{Error, Gateway, Visit, renew::Renewal};
use crate::{
    identity::TokenError,
    policy::{Access, Admission, Authentication, Origin, Route},
    provider::BearerError,
    secret::Secret,
    session::{CookieJar, Held, Place, Presented, Session},
    time::Timestamp,
    upstream::headers::{Authorization, Credential},
};

impl Gateway {
    /// An explicit credential decides alone; the session counts only where there is none (I13, N-082).
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
        let Access::Protected(admission) = &route.access else {
            return Ok(Authentication::Anonymous);
        };
        let authentication = match &credential.authorization {
            Authorization::Absent if admission.session => {
                return self.by_session(admission, credential, origin, visit, now).await;
            }
            Authorization::Absent => Authentication::Anonymous,
            Authorization::Bearer(token) if admission.bearer => self.by_token(admission, token, now).await?,
            Authorization::Bearer(_) | Authorization::Other => Authentication::Rejected(TokenError::NotAccepted),
            Authorization::Malformed => Authentication::Rejected(TokenError::Malformed),
        };
        Ok(authentication)
    }

    async fn by_token(&self, admission: &Admission, token: &Secret, now: Timestamp) -> Result<Authentication, Error> {
        let found = self
            .providers
            .authenticate_bearer(&admission.providers, token.expose(), now);
        match found.await {
            Ok(identity) => Ok(Authentication::Verified(identity)),
            Err(BearerError::Token(error)) => Ok(Authentication::Rejected(error)),
            Err(BearerError::Provider(error)) => Err(Error::Provider(error)),
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
        let (held, changed) = match self.renewed_if_due(session, place, now).await {
            None => (held, stale),
            Some(Renewal::Renewed(login, place)) => {
                let unkept = matches!(place, Place::Browser);
                let session = session.renewed(login, now).into();
                let renewed = Held {
                    session,
                    place,
                    sealed_by,
                };
                (Arc::new(renewed), unkept)
            }
            Some(Renewal::Ended) => {
                self.streams.end(&session.id);
                return Ok(None);
            }
            // The old access token is good for a little longer: nobody has to notice.
            Some(Renewal::Failed(_) | Renewal::Unknown(_)) if now < session.login.access_expires_at => (held, stale),
            Some(Renewal::Failed(error)) => return Err(Error::Provider(error)),
            Some(Renewal::Unknown(error)) => return Err(Error::Store(error)),
        };
        if !changed {
            return Ok(Some(held));
        }
        let place = held.place.clone();
        let session = held.session.seen(now).into();
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

    async fn renewed_if_due(&self, session: &Session, place: &Place, now: Timestamp) -> Option<Renewal> {
        session.login.refresh_token.as_ref()?;
        let due = session
            .login
            .access_expires_at
            .minus(self.sessions.settings().refresh_before);
        if now < due {
            return None;
        }
        let provider = self.providers.of_login(&session.login)?;
        let renewal = self.renewals.renew(&self.sessions, provider, session, place, now);
        Some(renewal.await)
    }

    pub(super) fn identified(&self, session: &Session, now: Timestamp) -> Authentication {
        let Some(provider) = self.providers.of_login(&session.login) else {
            return Authentication::Anonymous;
        };
        let ends_at = self.sessions.ends_at(session);
        Authentication::Verified(session.identity(provider.claim_names(), ends_at, now))
    }
}
