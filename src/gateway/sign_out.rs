//! Somebody signs out, here and at the provider.

use std::{sync::Arc, time::Duration};

use http::{Method, Response, StatusCode, header};

use super::{Error, Gateway, Visit, endpoints::parameter, login::CHOICE, pages::Extent, respond};
use crate::{
    policy::{Client, Initiator, Origin},
    secret::random_text,
    session::{CookieJar, Session, Whose},
    time::Timestamp,
    upstream::{
        body::Body,
        headers::{Credential, Scrubbed},
    },
};

const LOGOUT: &str = "logout";
const LOGOUT_LIFETIME: Duration = Duration::from_secs(600);
/// How a state begins that comes back from signing out everywhere.
const EVERYWHERE: &str = "everywhere-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MaySignOut {
    Yes,
    AfterAsking,
    No,
}

impl Gateway {
    /// Local session first, then the provider's (OIDC RP-Initiated Logout §2).
    pub(super) async fn sign_out(
        &self,
        query: &str,
        request: &Scrubbed,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        let jar = self.sessions.jar(origin, &credential.cookies);
        if let Some(state) = parameter(query, "state")?
            && jar.value(LOGOUT) == Some(&state)
        {
            visit.cookies.extend(jar.delete(LOGOUT));
            return Ok(self.pages.signed_out(extent_of(&state), &visit.id()));
        }
        let extent = match parameter(query, "everywhere")? {
            Some(_) => Extent::Everywhere,
            None => Extent::Here,
        };
        match may_sign_out(request, visit) {
            MaySignOut::Yes => {}
            MaySignOut::AfterAsking => {
                let path = self.sign_out_path(extent);
                return Ok(self.pages.confirm_sign_out(extent, &path, &visit.id()));
            }
            MaySignOut::No => return Err(Error::ForeignSignOut),
        }
        let session = match extent {
            Extent::Here => self.sessions.end(&jar, origin, now).await?,
            Extent::Everywhere => self.end_everywhere(&jar, origin, now).await?,
        };
        visit.cookies.extend(jar.delete_split());
        // Who logs in here next may be somebody else.
        if jar.value(CHOICE).is_some() {
            visit.cookies.extend(jar.delete(CHOICE));
        }
        let state = state_of(extent);
        let elsewhere = match &session {
            Some(session) => self.end_at_provider(session, origin, &state, now).await,
            None => None,
        };
        if visit.reader.client != Client::Navigation {
            return Ok(respond::empty(StatusCode::NO_CONTENT));
        }
        if let Some(location) = elsewhere {
            visit.cookies.extend(jar.set(LOGOUT, &state, LOGOUT_LIFETIME));
            return Ok(respond::redirect(&location));
        }
        Ok(self.pages.signed_out(extent, &visit.id()))
    }

    /// All sessions of whoever this browser's session is of; the browser's own goes last, so that it can try again.
    async fn end_everywhere(
        &self,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, Error> {
        let Some(presented) = self.sessions.present(jar, origin, now).await? else {
            return Ok(None);
        };
        let session = presented.held.session.clone();
        let login = &session.login;
        let whose = Whose::Subject(&login.subject);
        self.sessions.end_of(&login.issuer, whose, now, now).await?;
        self.sessions.end(jar, origin, now).await?;
        Ok(Some(session))
    }

    /// Gives the refresh token back, and says where the browser ends its session at the provider.
    async fn end_at_provider(&self, session: &Session, origin: &Origin, state: &str, now: Timestamp) -> Option<String> {
        let provider = self.providers.of_login(&session.login)?;
        self.give_back_token(session, now);
        let back = self.absolute(origin, "sign_out");
        provider
            .end_session_url(session.login.id_token.as_ref(), &back, state, now)
            .await
    }

    /// Nobody needs the refresh token of a session that has ended (RFC 7009).
    pub(super) fn give_back_token(&self, session: &Session, now: Timestamp) {
        if let Some(provider) = self.providers.of_login(&session.login)
            && let Some(refresh_token) = &session.login.refresh_token
        {
            provider.revoke(refresh_token.clone(), now);
        }
    }

    fn sign_out_path(&self, extent: Extent) -> String {
        let query = match extent {
            Extent::Here => "",
            Extent::Everywhere => "?everywhere",
        };
        format!("{}/sign_out{query}", self.settings.auth_prefix)
    }
}

/// A page of another site can send a browser here, but not sign anybody out (N-107).
fn may_sign_out(request: &Scrubbed, visit: &Visit<'_>) -> MaySignOut {
    let headers = &request.parts().headers;
    let says_so = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
    let posted = request.parts().method == Method::POST;
    match (visit.reader.initiator, posted) {
        (Initiator::OwnSite, true) => MaySignOut::Yes,
        (Initiator::OwnSite, false) if says_so => MaySignOut::Yes,
        (Initiator::OwnSite | Initiator::ForeignSite, false) => MaySignOut::AfterAsking,
        (Initiator::ForeignSite, true) => MaySignOut::No,
    }
}

/// What the provider hands back when it is done there.
fn state_of(extent: Extent) -> String {
    match extent {
        Extent::Here => random_text::<16>(),
        Extent::Everywhere => format!("{EVERYWHERE}{}", random_text::<16>()),
    }
}

fn extent_of(state: &str) -> Extent {
    match state.starts_with(EVERYWHERE) {
        true => Extent::Everywhere,
        false => Extent::Here,
    }
}
