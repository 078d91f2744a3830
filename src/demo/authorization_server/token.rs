//! The token endpoint (RFC 6749 §3.2).

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{
    Client, Office,
    client_authentication::{Refused, authenticate, not_stored},
    issue::{Wanted, has_scope},
    state::{Grant, State},
};
use crate::{
    demo::site::{self, Answer, Parameters},
    secret::random_text,
};

impl Office {
    pub(super) fn token(&self, request: &Request<Bytes>) -> Answer {
        let form = Parameters::parse(request.body());
        let mut state = self.state();
        match self.tokens(&mut state, request, &form) {
            Ok(tokens) => not_stored(site::json(StatusCode::OK, &tokens)),
            Err(refused) => refused.answer(),
        }
    }

    fn tokens(&self, state: &mut State, request: &Request<Bytes>, form: &Parameters) -> Result<Value, Refused> {
        let client = authenticate(state, request, form)?.clone();
        if form.repeat() {
            return Err(Refused("invalid_request"));
        }
        if form
            .value("resource")
            .is_some_and(|resource| resource != client.audience)
        {
            return Err(Refused("invalid_target"));
        }
        match form.value("grant_type") {
            Some("authorization_code") => self.by_code(state, &client, form),
            Some("refresh_token") => self.by_refresh_token(state, &client, form),
            Some("client_credentials") => self.by_credentials(state, &client, form),
            Some(_) => Err(Refused("unsupported_grant_type")),
            None => Err(Refused("invalid_request")),
        }
    }

    fn by_code(&self, state: &mut State, client: &Client, form: &Parameters) -> Result<Value, Refused> {
        let now = self.clock.now();
        let code = form.value("code").and_then(|code| state.codes.at_mut(code));
        let code = code
            .filter(|code| code.grant.client == client.id)
            .ok_or(Refused("invalid_grant"))?;
        if code.used {
            // Somebody else has it too (RFC 6749 §4.1.2).
            let family = code.grant.family.clone();
            state.revoke_family(&family);
            return Err(Refused("invalid_grant"));
        }
        code.used = true;
        let verified = form
            .value("code_verifier")
            .is_some_and(|verifier| fits(verifier, &code.challenge));
        if now >= code.until || form.value("redirect_uri") != Some(&code.redirect_uri) || !verified {
            return Err(Refused("invalid_grant"));
        }
        let grant = code.grant.clone();
        Ok(self.granted(state, client, grant.clone(), grant.scope))
    }

    fn by_refresh_token(&self, state: &mut State, client: &Client, form: &Parameters) -> Result<Value, Refused> {
        let token = form
            .value("refresh_token")
            .and_then(|token| state.refresh_tokens.at_mut(token));
        let token = token
            .filter(|token| token.grant.client == client.id)
            .ok_or(Refused("invalid_grant"))?;
        let grant = token.grant.clone();
        if token.used {
            // A rotated token has come back: one of two holders is a thief (RFC 9700 §4.14.2).
            state.revoke_family(&grant.family);
            return Err(Refused("invalid_grant"));
        }
        let scope = form.value("scope").unwrap_or(&grant.scope).to_owned();
        if !scope.split(' ').all(|one| has_scope(&grant.scope, one)) {
            return Err(Refused("invalid_scope"));
        }
        token.used = true;
        Ok(self.granted(state, client, grant, scope))
    }

    fn by_credentials(&self, state: &mut State, client: &Client, form: &Parameters) -> Result<Value, Refused> {
        if client.secret.is_none() {
            return Err(Refused("unauthorized_client"));
        }
        let scope = form.value("scope").unwrap_or_default();
        if !scope
            .split(' ')
            .all(|one| one.is_empty() || client.scopes.iter().any(|known| known == one))
        {
            return Err(Refused("invalid_scope"));
        }
        let wanted = wanted(client, random_text::<12>(), None, scope);
        let access_token = self.access_token(state, wanted);
        Ok(self.response(&access_token, scope))
    }

    /// The tokens of a login; a refresh narrows the access token's scope, and not the grant's.
    fn granted(&self, state: &mut State, client: &Client, grant: Grant, scope: String) -> Value {
        let username = Some(grant.login.username.clone());
        let wanted = wanted(client, grant.family.clone(), username, &scope);
        let access_token = self.access_token(state, wanted);
        let mut response = self.response(&access_token, &scope);
        if let Some(response) = response.as_object_mut() {
            if has_scope(&grant.scope, "openid") {
                response.insert(
                    "id_token".to_owned(),
                    json!(self.id_token(state, &grant, &access_token)),
                );
            }
            // OpenID Connect Core §12.2: an ID token of a refresh has no need of the nonce.
            let grant = Grant { nonce: None, ..grant };
            if !state.keeps_refresh_tokens {
                response.insert("refresh_token".to_owned(), json!(self.refresh_token(state, grant)));
            }
        }
        response
    }

    fn response(&self, access_token: &str, scope: &str) -> Value {
        let lifetime = self.access_token_lifetime.as_secs();
        json!({ "access_token": access_token, "token_type": "Bearer", "expires_in": lifetime, "scope": scope })
    }
}

fn wanted(client: &Client, family: String, username: Option<String>, scope: &str) -> Wanted {
    Wanted {
        family,
        client: client.id.clone(),
        username,
        audience: client.audience.clone(),
        scope: scope.to_owned(),
        kind: client.access_tokens,
    }
}

/// Whether a verifier is what its challenge promised (RFC 7636 §4.6).
fn fits(verifier: &str, challenge: &str) -> bool {
    let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
    (43..=128).contains(&verifier.len()) && URL_SAFE_NO_PAD.encode(hash) == challenge
}
