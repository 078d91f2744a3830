//! People in more groups than a token holds, as Entra ID has them: the token says that somebody else knows (OpenID
//! Connect Core §5.6.2), and there are two places to ask.

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    AuthorizationServer, Office, User,
    endpoints::{bearer, challenge},
    issue::claims,
    state::State,
};
use crate::demo::site::{self, Answer, Parameters};

/// Groups on one page of the list.
const PAGE: usize = 100;

impl AuthorizationServer {
    /// From now on tokens and userinfo leave out the groups of whoever is in more than this.
    pub fn groups_in_tokens_at_most(&self, count: usize) {
        self.office.state().groups_in_tokens = count;
    }
}

impl Office {
    /// What tokens and userinfo tell of somebody.
    pub(super) fn told(&self, state: &State, user: &User, scope: &str) -> Map<String, Value> {
        let mut told = claims(user, scope);
        if user.groups.len() > state.groups_in_tokens && told.remove("groups").is_some() {
            let source = json!({ "endpoint": format!("{}/claims", self.issuer) });
            told.insert("_claim_names".to_owned(), json!({ "groups": "src1" }));
            told.insert("_claim_sources".to_owned(), json!({ "src1": source }));
        }
        told
    }

    /// The groups in a signed answer (§5.6.2.2).
    pub(super) fn distributed_claims(&self, request: &Request<Bytes>) -> Answer {
        let state = self.state();
        let Some(user) = self.bearer_user(&state, request) else {
            return challenge(StatusCode::UNAUTHORIZED, "invalid_token");
        };
        let claims = json!({ "iss": self.issuer, "sub": user.sub, "groups": user.groups });
        let token = state.keys.sign(&state.keys.header("JWT"), &claims);
        site::answer(StatusCode::OK, "application/jwt", token.into())
    }

    /// The groups page by page, as Microsoft Graph lists them.
    pub(super) fn member_of(&self, request: &Request<Bytes>) -> Answer {
        let state = self.state();
        let Some(user) = self.bearer_user(&state, request) else {
            return challenge(StatusCode::UNAUTHORIZED, "invalid_token");
        };
        let parameters = Parameters::of_query(request);
        let skip = parameters.value("skip").and_then(|skip| skip.parse().ok()).unwrap_or(0);
        let group = |id: &String| json!({ "@odata.type": "#microsoft.graph.group", "id": id });
        let groups: Vec<_> = user.groups.iter().skip(skip).take(PAGE).map(group).collect();
        let mut page = json!({ "value": groups });
        let next = skip.saturating_add(PAGE);
        if let (Some(page), true) = (page.as_object_mut(), next < user.groups.len()) {
            let link = format!("{}/member_of?skip={next}", self.issuer);
            page.insert("@odata.nextLink".to_owned(), json!(link));
        }
        site::json(StatusCode::OK, &page)
    }

    fn bearer_user<'a>(&self, state: &'a State, request: &Request<Bytes>) -> Option<&'a User> {
        let token = bearer(request).and_then(|token| self.active(state, token))?;
        state.user(token.username.as_deref()?)
    }
}
