//! Giving a token back (RFC 7009).

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};

use super::{
    answer::{AnswerError, unhappy},
    client::ClientRegistration,
};
use crate::secret::Secret;

/// Revokes a refresh token, and with it what came from it (§2.1).
pub fn request(endpoint: &Uri, client: &ClientRegistration, refresh_token: &Secret) -> Request<Bytes> {
    let parameters = [("token", refresh_token.expose()), ("token_type_hint", "refresh_token")];
    client.post(endpoint, &parameters)
}

/// A token that was good for nothing counts as revoked (§2.2).
pub fn read(response: &Response<Bytes>) -> Result<(), AnswerError> {
    match response.status() {
        StatusCode::OK => Ok(()),
        status => Err(unhappy(status)),
    }
}
