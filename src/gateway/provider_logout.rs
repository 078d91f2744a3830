//! A provider says that somebody's session there is over, itself or through the browser.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tokio::time::timeout;

use super::{Error, Gateway, Visit, endpoints::parameter, respond};
use crate::{
    identity::Issuer,
    oauth::logout_token::{LogoutToken, Over},
    provider::LogoutError,
    session::Whose,
    time::Timestamp,
    upstream::{body::Body, headers::Scrubbed},
};

const MAX_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Logins within this time of a logout may be from before it: clocks differ, and a code may be under way.
const DOUBT: Duration = Duration::from_secs(30);

impl Gateway {
    /// Ends what a logout token says, once (OIDC Back-Channel Logout §2.5 to §2.8).
    ///
    /// # Errors
    /// Only when nobody can tell whether the token is good, or its sessions cannot be ended: the provider tries again,
    /// and is not refused for that, because a token is used up last.
    pub(super) async fn backchannel_logout(
        &self,
        request: Scrubbed,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        let token = match logout_token(request).await {
            Ok(token) => token,
            Err(reason) => return self.refuse_logout(reason, visit),
        };
        let (provider, token) = match self.providers.check_logout_token(&token, now).await {
            Ok(good) => good,
            Err(LogoutError::Token(error)) => return self.refuse_logout(error, visit),
            Err(LogoutError::Provider(error)) => return Err(error.into()),
        };
        let name = ["logout token", provider.issuer().as_str(), &token.id];
        if self.sessions.is_used(&name).await? {
            return self.refuse_logout("the logout token was used before", visit);
        }
        let ended = self.end_as_told(provider.issuer(), &token, now).await?;
        self.sessions.use_up(&name, token.refused_from, now).await?;
        tracing::info!(provider = %provider.id(), ended, "the provider ended sessions");
        Ok(respond::empty(StatusCode::OK))
    }

    /// Whose logout tokens keep turning out bad is told to wait; a good one that comes in between counts all the same.
    fn refuse_logout(&self, reason: impl ToString, visit: &mut Visit<'_>) -> Result<Response<Body>, Error> {
        self.limits.bad_logouts.count(visit.address)?;
        Ok(refused(reason, visit))
    }

    async fn end_as_told(&self, issuer: &Issuer, token: &LogoutToken, now: Timestamp) -> Result<usize, Error> {
        let whose = match &token.over {
            Over::Session(sid) => Whose::Sid(sid),
            Over::Person(subject) => Whose::Subject(subject),
        };
        let at = token.issued_at.plus(DOUBT);
        Ok(self.sessions.end_of(issuer, whose, at, now).await?)
    }

    /// Ends one session whose name the provider gave the browser (OIDC Front-Channel Logout §3).
    ///
    /// Browsers bring no cookie into a frame of another site, so that the name alone has to do: nobody else knows it.
    pub(super) async fn frontchannel_logout(
        &self,
        query: &str,
        visit: &Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        self.limits.frames.count(visit.address)?;
        let issuer = parameter(query, "iss")?.ok_or(Error::Parameter("iss"))?;
        let provider = self.providers.of_issuer(&issuer).ok_or(Error::Parameter("iss"))?;
        let sid = parameter(query, "sid")?.filter(|sid| !sid.is_empty());
        let sid = sid.ok_or(Error::Parameter("sid"))?;
        if !self.frontchannel.take(now) {
            return Err(Error::TooManyLogouts);
        }
        let whose = Whose::Sid(&sid);
        self.sessions.end_of(provider.issuer(), whose, now, now).await?;
        Ok(page_in_frame(provider.issuer()))
    }
}

/// The one parameter that counts, of a form (§2.5).
async fn logout_token(request: Scrubbed) -> Result<String, &'static str> {
    let content_type = request.parts().headers.get(header::CONTENT_TYPE);
    if !content_type.is_some_and(is_form) {
        return Err("the body is no form");
    }
    let body = Limited::new(request.into_body(), MAX_BODY);
    let body: Bytes = match timeout(BODY_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err("the body is too long, or broke off"),
        Err(_) => return Err("the body took too long"),
    };
    let mut tokens = form_urlencoded::parse(&body).filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(token.into_owned()),
        (None, _) => Err("there is no logout token"),
        (Some(_), Some(_)) => Err("there are several logout tokens"),
    }
}

fn is_form(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// The reason stands in the log alone (§2.8).
fn refused(reason: impl ToString, visit: &mut Visit<'_>) -> Response<Body> {
    visit.reason = Some(reason.to_string());
    respond::json(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_request" }))
}

/// Nothing to see, and only the provider may show it in a frame (§3).
fn page_in_frame(issuer: &Issuer) -> Response<Body> {
    let mut response = respond::empty(StatusCode::OK);
    let origin = url::Url::parse(issuer.as_str()).map(|issuer| issuer.origin().ascii_serialization());
    let policy = format!(
        "default-src 'none'; frame-ancestors {}",
        origin.as_deref().unwrap_or("'none'")
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("frame-ancestors 'none'"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    response
}

/// How many sessions may be ended by name alone in each minute.
///
/// Each leaves a mark for as long as a session may live, and marks that strangers make must not push out others.
#[derive(Debug)]
pub(super) struct Allowance {
    per_minute: u64,
    /// The minute, and how many were ended in it.
    taken: Mutex<(i64, u64)>,
}

/// Half of what the store of a single process remembers.
const MARKS: u64 = 50_000;

impl Allowance {
    pub(super) fn over(lifetime: Duration) -> Self {
        let minutes = lifetime.as_secs().div_ceil(60).max(1);
        Self {
            per_minute: MARKS.checked_div(minutes).unwrap_or(1).max(1),
            taken: Mutex::default(),
        }
    }

    fn take(&self, now: Timestamp) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.unix().div_euclid(60);
        if taken.0 != minute {
            *taken = (minute, 0);
        }
        taken.1 = taken.1.saturating_add(1);
        taken.1 <= self.per_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_end_no_more_sessions_than_can_be_remembered() {
        let allowance = Allowance::over(Duration::from_secs(8 * 3_600));
        let now = Timestamp::from_unix(1_767_225_600);
        let taken = (0..1_000).filter(|_| allowance.take(now)).count();
        assert_eq!(taken, 104);
        assert!(taken * 8 * 60 <= 50_000);
        assert!(allowance.take(now.plus(Duration::from_secs(60))));
        assert!(Allowance::over(Duration::MAX).take(now));
    }
}
