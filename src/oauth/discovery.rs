//! What an authorization server says of itself (RFC 8414, OIDC Discovery 1.0).

use bytes::Bytes;
use http::{Request, Response, Uri};
use serde_json::Value;
use url::{Host, Url};

use super::{
    answer::{AnswerError, get, json_object},
    jwt::Algorithm,
};
use crate::identity::{Claims, Issuer};

/// The members that this gateway uses.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub authorization_endpoint: Option<Url>,
    pub token_endpoint: Option<Uri>,
    pub userinfo_endpoint: Option<Uri>,
    pub introspection_endpoint: Option<Uri>,
    pub revocation_endpoint: Option<Uri>,
    pub end_session_endpoint: Option<Url>,
    pub jwks_uri: Option<Uri>,
    /// Every authorization response carries `iss` (RFC 9207 §3).
    pub response_names_issuer: bool,
    /// `None` where it is not said.
    pub id_token_algorithms: Option<Vec<Algorithm>>,
    /// It lists its prompts, and has `login` but not `select_account` (Initiating User Registration 1.0 §4).
    pub changes_account_by_login: bool,
    /// It lists its methods of PKCE, and S256 is not among them (RFC 8414 §2).
    pub refuses_s256: bool,
}

/// Where the document may be: after the issuer's path, and before it (OIDC Discovery §4, RFC 8414 §3.1).
pub fn requests(issuer: &Issuer) -> Vec<Request<Bytes>> {
    let Ok(url) = Url::parse(issuer.as_str()) else {
        return Vec::new();
    };
    let path = url.path().trim_end_matches('/');
    let places = [
        format!("{path}/.well-known/openid-configuration"),
        format!("/.well-known/oauth-authorization-server{path}"),
    ];
    let at = |place: &String| {
        let mut url = url.clone();
        url.set_path(place);
        url.as_str().parse::<Uri>().ok().map(|uri| get(&uri))
    };
    places.iter().filter_map(at).collect()
}

impl Metadata {
    /// # Errors
    /// When the answer is no metadata, or that of another issuer (RFC 8414 §3.3).
    pub fn read(response: &Response<Bytes>, issuer: &Issuer) -> Result<Self, AnswerError> {
        let document = json_object(response)?;
        if document.text("issuer") != Some(issuer.as_str()) {
            return Err(AnswerError::Nonsense("the metadata is that of another issuer"));
        }
        let algorithms = texts(&document, "id_token_signing_alg_values_supported");
        let methods = texts(&document, "code_challenge_methods_supported");
        let prompts = texts(&document, "prompt_values_supported");
        let prompts_with = |prompt| prompts.as_ref().is_some_and(|prompts| prompts.contains(&prompt));
        let url = |name| endpoint(&document, name);
        Ok(Self {
            authorization_endpoint: url("authorization_endpoint")?,
            token_endpoint: uri(url("token_endpoint")?),
            userinfo_endpoint: uri(url("userinfo_endpoint")?),
            introspection_endpoint: uri(url("introspection_endpoint")?),
            revocation_endpoint: uri(url("revocation_endpoint")?),
            end_session_endpoint: url("end_session_endpoint")?,
            jwks_uri: uri(url("jwks_uri")?),
            response_names_issuer: document.member("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
            id_token_algorithms: algorithms.map(|names| names.into_iter().filter_map(Algorithm::named).collect()),
            changes_account_by_login: prompts_with("login") && !prompts_with("select_account"),
            refuses_s256: methods.is_some_and(|methods| !methods.contains(&"S256")),
        })
    }
}

/// A URL that a secret may be sent to: https or this very machine, and no fragment (RFC 6749 §3.1).
pub fn trustworthy(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let protected = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let plain = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    (protected && plain).then_some(url)
}

/// The same place, as a request names it.
pub fn uri(url: Option<Url>) -> Option<Uri> {
    url?.as_str().parse().ok()
}

fn endpoint(document: &Claims, name: &str) -> Result<Option<Url>, AnswerError> {
    match document.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_str()
            .and_then(trustworthy)
            .map(Some)
            .ok_or(AnswerError::Nonsense("an endpoint of the metadata is not an https URL")),
    }
}

fn texts<'a>(document: &'a Claims, name: &str) -> Option<Vec<&'a str>> {
    let values = document.member(name)?.as_array()?;
    Some(values.iter().filter_map(Value::as_str).collect())
}
