//! Tokens: what stands in them, and for whom.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{
    AccessTokenKind, Office, User,
    state::{AccessToken, Grant, RefreshToken, State},
};
use crate::secret::random_text;

/// An access token that is to be made.
pub(super) struct Wanted {
    pub(super) family: String,
    pub(super) client: String,
    /// `None`: the client's own.
    pub(super) username: Option<String>,
    pub(super) audience: String,
    pub(super) scope: String,
    pub(super) kind: AccessTokenKind,
}

impl Office {
    pub(super) fn access_token(&self, state: &mut State, wanted: Wanted) -> String {
        let now = self.clock.now();
        let kind = wanted.kind;
        let token = AccessToken {
            family: wanted.family,
            client: wanted.client,
            username: wanted.username,
            audience: wanted.audience,
            scope: wanted.scope,
            id: random_text::<16>(),
            issued: now,
            until: now.plus(self.access_token_lifetime),
        };
        let value = match kind {
            AccessTokenKind::Jwt => state
                .keys
                .sign(&state.keys.header("at+jwt"), &self.facts(state, &token)),
            AccessTokenKind::Opaque => random_text::<32>(),
        };
        state.access_tokens.put(value.clone(), token);
        value
    }

    /// What an access token says: in a JWT (RFC 9068 §2.2), or when it is asked about (RFC 7662 §2.2).
    pub(super) fn facts(&self, state: &State, token: &AccessToken) -> Value {
        let user = token.username.as_deref().and_then(|username| state.user(username));
        let subject = user
            .map(|user| user.sub.as_str())
            .or(token.username.as_deref())
            .unwrap_or(&token.client);
        let mut facts = user
            .map(|user| self.told(state, user, "profile email groups"))
            .unwrap_or_default();
        facts.insert("iss".to_owned(), json!(self.issuer));
        facts.insert("sub".to_owned(), json!(subject));
        facts.insert("aud".to_owned(), json!(token.audience));
        facts.insert("client_id".to_owned(), json!(token.client));
        facts.insert("iat".to_owned(), json!(token.issued));
        facts.insert("exp".to_owned(), json!(token.until));
        facts.insert("jti".to_owned(), json!(token.id));
        facts.insert("scope".to_owned(), json!(token.scope));
        Value::Object(facts)
    }

    pub(super) fn refresh_token(&self, state: &mut State, grant: Grant) -> String {
        let value = random_text::<32>();
        state
            .refresh_tokens
            .put(value.clone(), RefreshToken { grant, used: false });
        value
    }

    /// An ID token (OpenID Connect Core §2), bound to its access token.
    pub(super) fn id_token(&self, state: &State, grant: &Grant, access_token: &str) -> String {
        let now = self.clock.now();
        let user = state.user(&grant.login.username);
        let mut facts = user
            .map(|user| self.told(state, user, &grant.scope))
            .unwrap_or_default();
        facts.retain(|name, _| !self.claims_in_userinfo_only.contains(name));
        facts.insert("iss".to_owned(), json!(self.issuer));
        facts.insert(
            "sub".to_owned(),
            json!(user.map_or(&grant.login.username, |user| &user.sub)),
        );
        facts.insert("aud".to_owned(), json!(grant.client));
        facts.insert("iat".to_owned(), json!(now));
        facts.insert("exp".to_owned(), json!(now.plus(self.access_token_lifetime)));
        facts.insert("auth_time".to_owned(), json!(grant.login.at));
        facts.insert("acr".to_owned(), json!(grant.login.factors.acr()));
        facts.insert("amr".to_owned(), json!(grant.login.factors.amr()));
        facts.insert("at_hash".to_owned(), json!(left_half(access_token)));
        facts.insert("sid".to_owned(), json!(grant.login.sid));
        if let Some(nonce) = &grant.nonce {
            facts.insert("nonce".to_owned(), json!(nonce));
        }
        state.keys.sign(&state.keys.header("JWT"), &Value::Object(facts))
    }
}

/// What somebody's scopes tell about them (OpenID Connect Core §5.4, and `groups`).
pub(super) fn claims(user: &User, scope: &str) -> Map<String, Value> {
    let mut claims = Map::new();
    if has_scope(scope, "profile") {
        claims.insert("preferred_username".to_owned(), json!(user.username));
        claims.insert("name".to_owned(), json!(user.name));
    }
    if has_scope(scope, "email")
        && let Some(email) = &user.email
    {
        claims.insert("email".to_owned(), json!(email));
        claims.insert("email_verified".to_owned(), json!(true));
    }
    if has_scope(scope, "groups") {
        claims.insert("groups".to_owned(), json!(user.groups));
    }
    claims
}

pub(super) fn has_scope(scope: &str, wanted: &str) -> bool {
    scope.split(' ').any(|one| one == wanted)
}

/// The left half of the hash, for `at_hash` (OpenID Connect Core §3.1.3.6).
fn left_half(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}
