//! Which application it is that asks (RFC 6749 §2.3).

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::json;

use super::{Client, state::State};
use crate::demo::site::{Answer, Parameters, json};

/// Why a request is refused, in the words of RFC 6749 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

impl Refused {
    pub(super) fn answer(self) -> Answer {
        let status = if self.0 == "invalid_client" {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::BAD_REQUEST
        };
        let mut answer = not_stored(json(status, &json!({ "error": self.0 })));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"clients\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

/// Forbids caches to keep an answer (RFC 6749 §5.1).
pub(super) fn not_stored(mut answer: Answer) -> Answer {
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The client, by its secret, or by its name when it has none.
pub(super) fn authenticate<'a>(
    state: &'a State,
    request: &Request<Bytes>,
    form: &Parameters,
) -> Result<&'a Client, Refused> {
    let (id, secret) = credentials(request, form)?;
    let client = state.client(&id).ok_or(Refused("invalid_client"))?;
    let right = match (&client.secret, &secret) {
        (Some(known), Some(told)) => known.matches(told),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if right {
        Ok(client)
    } else {
        Err(Refused("invalid_client"))
    }
}

/// The client, if it has a secret.
pub(super) fn authenticate_with_secret<'a>(
    state: &'a State,
    request: &Request<Bytes>,
    form: &Parameters,
) -> Result<&'a Client, Refused> {
    authenticate(state, request, form).and_then(|client| {
        let secret = client.secret.as_ref();
        secret.map(|_| client).ok_or(Refused("invalid_client"))
    })
}

fn credentials(request: &Request<Bytes>, form: &Parameters) -> Result<(String, Option<String>), Refused> {
    let (id, secret) = (form.value("client_id"), form.value("client_secret"));
    let Some(header) = request.headers().get(header::AUTHORIZATION) else {
        let id = id.ok_or(Refused("invalid_client"))?;
        return Ok((id.to_owned(), secret.map(str::to_owned)));
    };
    let basic = header.to_str().ok().and_then(basic).ok_or(Refused("invalid_client"))?;
    // One method at a time, and one name.
    if secret.is_some() || id.is_some_and(|id| id != basic.0) {
        return Err(Refused("invalid_request"));
    }
    Ok((basic.0, Some(basic.1)))
}

/// Name and secret, each form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = credentials.split_once(':')?;
    Some((form_decoded(id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    let plain = text.replace('+', " ");
    percent_encoding::percent_decode_str(&plain)
        .decode_utf8_lossy()
        .into_owned()
}
