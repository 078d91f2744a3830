//! Who this gateway is to an authorization server (RFC 6749 §2.3).

use crate::secret::Secret;

/// The client as it is registered.
#[derive(Clone, Debug)]
pub struct ClientRegistration {
    pub client_id: String,
    pub auth: ClientAuth,
}

/// How the client proves that it is itself at the token, introspection and revocation endpoints.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Form-encoded, then base64 in `Authorization: Basic` (RFC 6749 §2.3.1).
    SecretBasic(Secret),
    /// In the request body.
    SecretPost(Secret),
    /// A public client: its `client_id` alone.
    None,
}
