//! What a test turns and reads: counted calls, faults, and tokens that nobody logged in for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::error::Unspecified;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{AccessTokenKind, AuthorizationServer, Client, User, endpoints, issue::Wanted};
use crate::{demo::keys::Keys, secret::random_text};

/// An endpoint whose calls are counted, and which can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Discovery,
    Token,
    Introspection,
    Keys,
    Userinfo,
    Revocation,
    /// Where groups are that a token has no room for.
    Groups,
}

impl Place {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            endpoints::OPENID_METADATA | endpoints::OAUTH_METADATA => Self::Discovery,
            "/token" => Self::Token,
            "/introspect" => Self::Introspection,
            "/jwks" => Self::Keys,
            "/userinfo" => Self::Userinfo,
            "/revoke" => Self::Revocation,
            "/claims" | "/member_of" => Self::Groups,
            _ => return None,
        })
    }
}

/// What an endpoint does wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It answers this, whatever it is asked.
    Answer {
        status: StatusCode,
        content_type: String,
        body: Bytes,
    },
    /// It does at once what it is asked, and answers later.
    Delay(Duration),
}

impl Fault {
    /// An answer; a status that does not exist is 500.
    pub fn answer(status: u16, content_type: &str, body: &[u8]) -> Self {
        Self::Answer {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            content_type: content_type.to_owned(),
            body: Bytes::copy_from_slice(body),
        }
    }

    pub const fn delay(delay: Duration) -> Self {
        Self::Delay(delay)
    }
}

#[derive(Debug, Default)]
pub(super) struct Control(Mutex<Wheels>);

#[derive(Debug, Default)]
struct Wheels {
    calls: BTreeMap<Place, usize>,
    faults: BTreeMap<Place, Fault>,
}

impl Control {
    /// Counts a call, and tells how it is to go wrong.
    pub(super) fn arrive(&self, path: &str) -> Option<Fault> {
        let place = Place::at(path)?;
        let mut wheels = self.wheels();
        let calls = wheels.calls.entry(place).or_default();
        *calls = calls.saturating_add(1);
        wheels.faults.get(&place).cloned()
    }

    fn wheels(&self) -> MutexGuard<'_, Wheels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a test does to the server.
impl AuthorizationServer {
    /// How often an endpoint was called, also when it failed.
    pub fn calls(&self, place: Place) -> usize {
        self.office.control.wheels().calls.get(&place).copied().unwrap_or(0)
    }

    /// From now on, an endpoint fails like this.
    pub fn fault(&self, place: Place, fault: Fault) {
        self.office.control.wheels().faults.insert(place, fault);
    }

    pub fn clear_faults(&self) {
        self.office.control.wheels().faults.clear();
    }

    /// Makes new keys, publishes them, and forgets those before.
    ///
    /// # Errors
    /// When the keys cannot be made.
    pub fn rotate_keys(&self) -> Result<(), Unspecified> {
        let keys = Keys::generate()?;
        self.office.state().keys = keys;
        Ok(())
    }

    /// The published keys.
    pub fn jwks(&self) -> Value {
        self.office.state().keys.published()
    }

    pub fn forget_refresh_tokens(&self) {
        self.office.state().refresh_tokens.clear();
    }

    /// Issues no refresh tokens from now on.
    pub fn keep_refresh_tokens(&self) {
        self.office.state().keeps_refresh_tokens = true;
    }

    /// Registers a client, or registers it anew.
    pub fn register(&self, client: Client) {
        let mut state = self.office.state();
        state.clients.retain(|known| known.id != client.id);
        state.clients.push(client);
    }

    /// Adds addresses to which a client's browsers may return, after login and after logout.
    pub fn register_redirect(&self, client: &str, redirect_uri: &str, post_logout_redirect_uri: &str) {
        let mut state = self.office.state();
        if let Some(client) = state.clients.iter_mut().find(|known| known.id == client) {
            client.redirect_uris.push(redirect_uri.to_owned());
            client
                .post_logout_redirect_uris
                .push(post_logout_redirect_uri.to_owned());
        }
    }

    /// Where a client is told from now on that somebody is gone.
    pub fn register_backchannel_logout(&self, client: &str, uri: &str) {
        let mut state = self.office.state();
        if let Some(client) = state.clients.iter_mut().find(|known| known.id == client) {
            client.backchannel_logout_uri = Some(uri.to_owned());
        }
    }

    /// Adds somebody who can log in, or changes what is known of them.
    pub fn add_user(&self, user: User) {
        let mut state = self.office.state();
        state.users.retain(|known| known.username != user.username);
        state.users.push(user);
    }

    /// An access token without a login, as a JWT; for somebody unknown it has no claims but `sub`.
    pub fn issue_jwt(&self, username: &str, audience: &str, scope: &str) -> String {
        self.issue(username, audience, scope, AccessTokenKind::Jwt)
    }

    /// An access token without a login, which only introspection understands.
    pub fn issue_opaque(&self, username: &str, audience: &str, scope: &str) -> String {
        self.issue(username, audience, scope, AccessTokenKind::Opaque)
    }

    fn issue(&self, username: &str, audience: &str, scope: &str, kind: AccessTokenKind) -> String {
        let wanted = Wanted {
            family: random_text::<12>(),
            client: "script".to_owned(),
            username: Some(username.to_owned()),
            audience: audience.to_owned(),
            scope: scope.to_owned(),
            kind,
        };
        self.office.access_token(&mut self.office.state(), wanted)
    }

    /// Makes an access token inactive; who verifies a JWT by its signature does not notice.
    pub fn revoke(&self, token: &str) {
        self.office.state().access_tokens.remove(token);
    }

    /// Signs any claims under any header, with the key that fits its `alg`: "ES256", or else RS256.
    ///
    /// The header is signed as it is: without a `kid` unless there is one.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.office.state().keys.sign(header, claims)
    }
}
