//! How an application can tell that a request is the gateway's, and with what.

use http::{HeaderValue, Response, StatusCode, header};

use super::{Error, Gateway, Visit, respond};
use crate::{
    policy::{Origin, Permit},
    session::Session,
    time::Timestamp,
    upstream::{
        assertion::KEYS_MAX_AGE,
        body::Body,
        headers::{Authorization, Credential},
        vouch::{Evidence, Vouched},
    },
};

impl Gateway {
    /// What vouches for a request, by the session or the token that it came with.
    pub(super) fn vouch(
        &self,
        permit: &Permit,
        origin: &Origin,
        credential: &Credential,
        visit: &Visit<'_>,
        now: Timestamp,
    ) -> Result<Vouched, Error> {
        let (holder, access_token) = match (&visit.session, &credential.authorization) {
            (Some(held), _) => (&*held.session.id, held.session.login.access_token.as_ref()),
            (None, Authorization::Bearer(token)) => (token.expose(), Some(token)),
            (
                None,
                Authorization::Absent | Authorization::Other | Authorization::Malformed | Authorization::Several,
            ) => {
                return Ok(Vouched::default());
            }
        };
        let evidence = Evidence {
            holder,
            access_token,
            now,
        };
        Ok(self.upstreams.vouch(permit, origin, &evidence)?)
    }

    /// The keys that assertions are checked with, for whoever asks (RFC 7517 §5).
    pub(super) fn published_keys(&self, now: Timestamp) -> Response<Body> {
        let mut response = respond::json(StatusCode::OK, &self.upstreams.published_keys(now));
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/jwk-set+json");
        headers.insert(header::CONTENT_TYPE, kind);
        let caching = format!("public, max-age={}", KEYS_MAX_AGE.as_secs());
        if let Ok(caching) = HeaderValue::try_from(caching) {
            headers.insert(header::CACHE_CONTROL, caching);
        }
        response
    }
}

/// Whether a session has an access token that an application could use.
pub(super) fn has_good_token(session: &Session, now: Timestamp) -> bool {
    session.login.access_token.is_some() && now < session.login.access_expires_at
}
