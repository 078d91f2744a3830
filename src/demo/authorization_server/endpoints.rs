//! What is asked about the server, about tokens and about people once there is a login, and the end of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{
    Gone, Office,
    authorize::{login_cookie, with_login_cookie, with_query},
    client_authentication::{authenticate, authenticate_with_secret, not_stored},
    issue::has_scope,
    pages,
    state::{AccessToken, State},
};
use crate::demo::site::{self, Answer, Parameters};

pub(super) const OPENID_METADATA: &str = "/.well-known/openid-configuration";
pub(super) const OAUTH_METADATA: &str = "/.well-known/oauth-authorization-server";

impl Office {
    /// RFC 8414 §2 and OpenID Connect Discovery §3.
    pub(super) fn metadata(&self) -> Answer {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let secrets = ["client_secret_basic", "client_secret_post"];
        let metadata = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"),
            "userinfo_endpoint": at("/userinfo"),
            "introspection_endpoint": at("/introspect"),
            "revocation_endpoint": at("/revoke"),
            "end_session_endpoint": at("/logout"),
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
            "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "introspection_endpoint_auth_methods_supported": secrets,
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "prompt_values_supported": ["none", "login", "select_account"],
            "authorization_response_iss_parameter_supported": true,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
        });
        site::json(StatusCode::OK, &metadata)
    }

    /// RFC 7662 §2.
    pub(super) fn introspect(&self, request: &Request<Bytes>) -> Answer {
        let form = Parameters::parse(request.body());
        let state = self.state();
        if let Err(refused) = authenticate_with_secret(&state, request, &form) {
            return refused.answer();
        }
        let token = form.value("token").and_then(|token| self.active(&state, token));
        not_stored(site::json(StatusCode::OK, &self.introspection(&state, token)))
    }

    fn introspection(&self, state: &State, token: Option<&AccessToken>) -> Value {
        let Some(token) = token else {
            return json!({ "active": false });
        };
        let mut facts = self.facts(state, token);
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("active".to_owned(), json!(true));
            facts.insert("token_type".to_owned(), json!("Bearer"));
            if let Some(username) = &token.username {
                facts.insert("username".to_owned(), json!(username));
            }
        }
        facts
    }

    /// RFC 7009 §2: it succeeds, whatever the token was.
    pub(super) fn revoke(&self, request: &Request<Bytes>) -> Answer {
        let form = Parameters::parse(request.body());
        let mut state = self.state();
        let client = match authenticate(&state, request, &form) {
            Ok(client) => client.id.clone(),
            Err(refused) => return refused.answer(),
        };
        let token = form.value("token").unwrap_or_default();
        let refresh = state
            .refresh_tokens
            .at(token)
            .filter(|known| known.grant.client == client);
        if let Some(family) = refresh.map(|known| known.grant.family.clone()) {
            state.revoke_family(&family);
        }
        if state
            .access_tokens
            .at(token)
            .is_some_and(|known| known.client == client)
        {
            state.access_tokens.remove(token);
        }
        not_stored(site::text(StatusCode::OK, ""))
    }

    /// OpenID Connect Core §5.3.
    pub(super) fn userinfo(&self, request: &Request<Bytes>) -> Answer {
        let state = self.state();
        let token = bearer(request).and_then(|token| self.active(&state, token));
        let Some((token, user)) = token.and_then(|token| Some((token, state.user(token.username.as_deref()?)?))) else {
            return challenge(StatusCode::UNAUTHORIZED, "invalid_token");
        };
        if !has_scope(&token.scope, "openid") {
            return challenge(StatusCode::FORBIDDEN, "insufficient_scope");
        }
        let mut claims = self.told(&state, user, &token.scope);
        claims.insert("sub".to_owned(), json!(user.sub));
        not_stored(site::json(StatusCode::OK, &Value::Object(claims)))
    }

    /// Who is logged in here with this browser, and how that ends.
    pub(super) fn welcome(&self, request: &Request<Bytes>) -> Answer {
        let state = self.state();
        let login = login_cookie(request).and_then(|cookie| state.logins.at(cookie));
        pages::welcome(&self.issuer, login.map(|login| login.username.as_str()))
    }

    /// OpenID Connect RP-Initiated Logout §2.
    pub(super) fn log_out(self: &Arc<Self>, request: &Request<Bytes>) -> Answer {
        let parameters = match *request.method() {
            Method::POST => Parameters::parse(request.body()),
            _ => Parameters::of_query(request),
        };
        let mut state = self.state();
        if let Some(login) = login_cookie(request).and_then(|cookie| state.logins.remove(cookie)) {
            let sub = state.user(&login.username).map_or(&login.username, |user| &user.sub);
            let gone = Gone::Session {
                sub: sub.clone(),
                sid: login.sid,
            };
            self.clone().deliver_later(self.notices(&state, &gone));
        }
        let answer = match way_back(&state, &parameters) {
            Some(address) => site::see_other(&address),
            None => pages::notice(
                StatusCode::OK,
                "You are logged out",
                "Next time, you are asked for your password.",
            ),
        };
        with_login_cookie(answer, "", "; Max-Age=0")
    }

    pub(super) fn active<'a>(&self, state: &'a State, token: &str) -> Option<&'a AccessToken> {
        state
            .access_tokens
            .at(token)
            .filter(|token| self.clock.now() < token.until)
    }
}

/// The registered address to return to, of the client that a good ID token or else `client_id` names.
fn way_back(state: &State, parameters: &Parameters) -> Option<String> {
    let named = parameters.value("client_id").map(str::to_owned);
    let id = match parameters.value("id_token_hint") {
        Some(hint) => {
            let audience = state.keys.read(hint)?.get("aud")?.as_str()?.to_owned();
            Some(audience).filter(|audience| named.is_none_or(|named| named == *audience))
        }
        None => named,
    }?;
    let address = parameters.value("post_logout_redirect_uri")?;
    let known = &state.client(&id)?.post_logout_redirect_uris;
    let address = known.iter().find(|known| *known == address)?;
    Some(match parameters.value("state") {
        Some(state) => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("state", state)
                .finish();
            with_query(address, &query)
        }
        None => address.clone(),
    })
}

pub(super) fn bearer(request: &Request<Bytes>) -> Option<&str> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// RFC 6750 §3.
pub(super) fn challenge(status: StatusCode, error: &str) -> Answer {
    let mut answer = not_stored(site::json(status, &json!({ "error": error })));
    if let Ok(challenge) = HeaderValue::from_str(&format!("Bearer error=\"{error}\"")) {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}
