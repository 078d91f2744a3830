//! More about who logged in (OIDC Core §5.3).

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};

use super::answer::{AnswerError, get, json_object};
use crate::{
    identity::{Claims, Subject},
    secret::Secret,
};

/// Asks with the access token of the login (§5.3.1).
///
/// # Errors
/// When the access token has characters that no header can hold.
pub fn request(endpoint: &Uri, access_token: &Secret) -> Result<Request<Bytes>, AnswerError> {
    let value = format!("Bearer {}", access_token.expose());
    let mut value =
        HeaderValue::from_str(&value).map_err(|_| AnswerError::Nonsense("the access token is not a token"))?;
    value.set_sensitive(true);
    let mut request = get(endpoint);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(request)
}

/// What only the ID token can say: who it is, and how and when they proved it (§2).
const NOT_ITS_OWN: [&str; 6] = ["sub", "iss", "aud", "acr", "amr", "auth_time"];

/// The claims, when they are about the same person (§5.3.2). A signed answer is refused, for it was not asked for.
///
/// # Errors
/// When the answer is none, or is about somebody else.
pub fn read(response: &Response<Bytes>, subject: &Subject) -> Result<Claims, AnswerError> {
    let claims = json_object(response)?;
    match claims.text("sub") {
        Some(sub) if sub == subject.as_str() => Ok(claims.without(&NOT_ITS_OWN)),
        _ => Err(AnswerError::Nonsense("userinfo is about somebody else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_does_not_say_how_strong_a_login_was() {
        let body = br#"{"sub":"ann","acr":"urn:mfa","amr":["hwk"],"auth_time":1800000000,"email":"ann@example.com"}"#;
        let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        let response = response.body(Bytes::from_static(body)).unwrap();
        let claims = read(&response, &Subject::new("ann").unwrap()).unwrap();
        assert_eq!(claims.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["email"]);
    }
}
