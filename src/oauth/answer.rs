//! What all messages to and from an authorization server have in common.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use crate::identity::Claims;

/// What an authorization server did instead of answering as the protocol says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It may do better later.
    #[error("it answered {0}")]
    Overloaded(StatusCode),
    /// It does not take this gateway's own credentials (RFC 6749 §5.2 `invalid_client`).
    #[error("it refuses the gateway's own client credentials")]
    Credentials,
    /// It refused what was asked (RFC 6749 §5.2).
    #[error("it refused: {0}")]
    Refused(&'static str),
    #[error("{0}")]
    Nonsense(&'static str),
    #[error("it answered {0}")]
    Unexpected(StatusCode),
}

/// A request for JSON.
pub(super) fn get(endpoint: &Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = endpoint.clone();
    request
        .headers_mut()
        .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request
}

/// A form, to be answered with JSON (RFC 6749 appendix B).
pub(super) fn post(endpoint: &Uri, form: String) -> Request<Bytes> {
    let mut request = get(endpoint);
    *request.method_mut() = Method::POST;
    let urlencoded = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, urlencoded);
    *request.body_mut() = form.into();
    request
}

/// The object of a 200 answer that says that it is JSON; no member stands in it twice.
pub(super) fn json_object(response: &Response<Bytes>) -> Result<Claims, AnswerError> {
    match response.status() {
        StatusCode::OK => body_object(response),
        status => Err(unhappy(status)),
    }
}

/// Reads the body whatever the status says.
pub(super) fn body_object(response: &Response<Bytes>) -> Result<Claims, AnswerError> {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
    if !is_json(content_type) {
        return Err(AnswerError::Nonsense("the answer does not say that it is JSON"));
    }
    Claims::from_json(response.body()).map_err(|_| AnswerError::Nonsense("the answer is not a JSON object"))
}

pub(super) fn unhappy(status: StatusCode) -> AnswerError {
    let later = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    match status {
        status if later => AnswerError::Overloaded(status),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => AnswerError::Credentials,
        status => AnswerError::Unexpected(status),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
