//! What proves to an application that a request is the gateway's word: a signed assertion, an access token, a password.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    AuthorizationOwner, UpstreamError, Upstreams,
    assertion::Assertion,
    template::{self, Template},
};
use crate::{
    identity::Identity,
    policy::{Origin, Permit, RouteId},
    secret::Secret,
    time::Timestamp,
};

/// How a route's application can tell that a request is the gateway's.
#[derive(Clone, Debug, Default)]
pub struct Vouching {
    pub assertion: Option<Assertion>,
    /// Where the access token stands that the person or the program came with; absent: nowhere.
    pub access_token: Option<TokenHeader>,
    pub basic: Option<Basic>,
}

/// Where an access token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHeader {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Authorization,
    /// By itself.
    XForwardedAccessToken,
}

impl TokenHeader {
    pub fn name(self) -> HeaderName {
        match self {
            Self::Authorization => header::AUTHORIZATION,
            Self::XForwardedAccessToken => HeaderName::from_static("x-forwarded-access-token"),
        }
    }
}

/// A name and a password for `Authorization: Basic` (RFC 7617).
#[derive(Clone, Debug)]
pub struct Basic {
    pub username: Template,
    pub password: Secret,
}

/// What an identity rests on.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// Something that this login, or this token, shares with no other; it may be a secret.
    pub holder: &'a str,
    pub access_token: Option<&'a Secret>,
    pub now: Timestamp,
}

impl fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evidence").finish_non_exhaustive()
    }
}

/// The headers that vouch for one request.
#[derive(Debug, Default)]
pub struct Vouched(Vec<(HeaderName, HeaderValue)>);

impl Vouched {
    /// In the place of whatever is there (I5).
    pub(super) fn write(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.insert(name, value);
        }
    }
}

impl Upstreams {
    /// What vouches for a request to whom it may pass to; nothing where nobody in particular passes.
    ///
    /// # Errors
    /// When the identity cannot be written as it would have to be.
    pub fn vouch(&self, permit: &Permit, origin: &Origin, evidence: &Evidence<'_>) -> Result<Vouched, UpstreamError> {
        let (Some(vouching), Some(identity)) = (self.vouching(permit.route()), permit.identity()) else {
            return Ok(Vouched::default());
        };
        let mut headers = Vec::new();
        if let Some(assertion) = &vouching.assertion {
            let value = self.signer.assertion(assertion, identity, origin, evidence)?;
            headers.push((assertion.header.clone(), value));
        }
        if let (Some(place), Some(token)) = (vouching.access_token, evidence.access_token) {
            headers.push((place.name(), place.value(token)?));
        }
        if let Some(basic) = &vouching.basic
            && let Some(value) = basic.value(identity)?
        {
            headers.push((header::AUTHORIZATION, value));
        }
        Ok(Vouched(headers))
    }

    /// What a proxy that asked is to tell the application, as it would be told here.
    ///
    /// # Errors
    /// As when a request is forwarded.
    pub fn told(&self, permit: Permit, vouched: Vouched) -> Result<HeaderMap, UpstreamError> {
        let mut headers = HeaderMap::new();
        let upstream = self.upstreams.get(permit.route().index());
        if let (Some(upstream), Some(identity)) = (upstream, permit.identity()) {
            template::write(identity, &upstream.settings.identity_headers, &mut headers)?;
        }
        vouched.write(&mut headers);
        Ok(headers)
    }

    /// Whether a route's application gets the access token.
    pub fn forwards_access_token(&self, route: RouteId) -> bool {
        self.vouching(route)
            .is_some_and(|vouching| vouching.access_token.is_some())
    }

    /// Whose the `Authorization` header of requests for a route is.
    pub fn authorization_of(&self, route: RouteId) -> AuthorizationOwner {
        let upstream = self.upstreams.get(route.index());
        upstream.map_or_else(AuthorizationOwner::default, |upstream| upstream.settings.authorization)
    }

    fn vouching(&self, route: RouteId) -> Option<&Vouching> {
        self.upstreams
            .get(route.index())
            .map(|upstream| &upstream.settings.vouching)
    }
}

impl TokenHeader {
    fn value(self, token: &Secret) -> Result<HeaderValue, UpstreamError> {
        let text = match self {
            Self::Authorization => format!("Bearer {}", token.expose()),
            Self::XForwardedAccessToken => token.expose().to_owned(),
        };
        secret_value(self.name(), text)
    }
}

impl Basic {
    /// The name; nothing where a claim is missing.
    ///
    /// # Errors
    /// When it has a character that no such name can have (RFC 7617 §2).
    pub fn username(&self, identity: &Identity) -> Result<Option<String>, UpstreamError> {
        let refused = || UpstreamError::Identity(header::AUTHORIZATION);
        let username = self.username.one(identity).map_err(|_| refused())?;
        // What stands behind a colon would be read as the password.
        let is_none = |c: char| c == ':' || c.is_control();
        match username.as_ref().is_some_and(|username| username.contains(is_none)) {
            true => Err(refused()),
            false => Ok(username),
        }
    }

    /// In UTF-8 (RFC 7617 §2.1).
    fn value(&self, identity: &Identity) -> Result<Option<HeaderValue>, UpstreamError> {
        let Some(username) = self.username(identity)? else {
            return Ok(None);
        };
        let pair = format!("{username}:{}", self.password.expose());
        secret_value(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair))).map(Some)
    }
}

/// A value that no log and no compression table of HTTP/2 shows.
fn secret_value(name: HeaderName, text: String) -> Result<HeaderValue, UpstreamError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| UpstreamError::Identity(name))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i20_nothing_that_vouches_is_printed() {
        let token = Secret::new("s3cret");
        for place in [TokenHeader::Authorization, TokenHeader::XForwardedAccessToken] {
            let vouched = Vouched(vec![(place.name(), place.value(&token).unwrap())]);
            let evidence = Evidence {
                holder: "s3cret",
                access_token: Some(&token),
                now: Timestamp::from_unix(0),
            };
            let text = format!("{vouched:?} {evidence:?}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn i6_what_cannot_be_a_header_is_not_sent() {
        let token = Secret::new("a\r\nX-Admin: 1");
        assert!(TokenHeader::Authorization.value(&token).is_err());
    }
}
