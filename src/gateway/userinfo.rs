//! Who is logged in, for an application that runs in the browser.

use http::{Response, StatusCode};
use serde_json::json;

use super::{Error, Gateway, Visit, respond};
use crate::{
    identity::TokenError,
    policy::{Authentication, Challenge, Client, Origin},
    time::Timestamp,
    upstream::{
        body::Body,
        headers::{Authorization, Credential},
    },
};

impl Gateway {
    /// Tells a browser who its session is of, and never a token; it counts as a request like any other.
    pub(super) async fn userinfo(
        &self,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        // A script reads the answer, whoever asked for it.
        visit.reader.client = Client::Programmatic;
        let authentication = match &credential.authorization {
            Authorization::Absent => self.whose_session(credential, origin, visit, now).await?,
            Authorization::Bearer(_) | Authorization::Other => Authentication::Rejected(TokenError::NotAccepted),
            Authorization::Malformed | Authorization::Several => Authentication::Rejected(TokenError::Malformed),
        };
        visit.authenticated_as(&authentication);
        let identity = match authentication {
            Authentication::Verified(identity) => identity,
            Authentication::Anonymous => return Ok(self.challenge(&Challenge::TokenMissing, origin, None, visit)),
            Authentication::Rejected(error) => {
                return Ok(self.challenge(&Challenge::InvalidToken(error), origin, None, visit));
            }
        };
        let document = json!({
            "sub": identity.subject.as_str(),
            "username": identity.username,
            "email": identity.email,
            "groups": (!identity.groups_unknown).then_some(&identity.groups),
            "provider": identity.provider.as_str(),
            "expires_at": identity.expires_at.unix(),
        });
        Ok(respond::json(StatusCode::OK, &document))
    }

    async fn whose_session(
        &self,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Authentication, Error> {
        let jar = self.sessions.jar(origin, &credential.cookies);
        let held = match self.sessions.present(&jar, origin, now).await? {
            Some(presented) => self.kept_fresh(presented, &jar, origin, visit, now).await?,
            None => None,
        };
        let Some(held) = held else {
            visit.cookies.extend(jar.delete_split());
            return Ok(Authentication::Anonymous);
        };
        self.streams.extend(&held);
        Ok(self.identified(&held.session, now))
    }
}
