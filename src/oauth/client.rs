//! Who this gateway is to an authorization server (RFC 6749 §2.3).

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{HeaderValue, Request, Uri, header};

use super::answer::post;
use crate::secret::Secret;

/// The client as it is registered.
#[derive(Clone, Debug, PartialEq)]
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

/// Secrets have no `==` of their own; here it tells whether anything changed at a reload.
impl PartialEq for ClientAuth {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SecretBasic(one), Self::SecretBasic(other)) | (Self::SecretPost(one), Self::SecretPost(other)) => {
                one.matches(other.expose())
            }
            (Self::None, Self::None) => true,
            (Self::SecretBasic(_) | Self::SecretPost(_) | Self::None, _) => false,
        }
    }
}

impl ClientRegistration {
    /// A form to an endpoint that wants to know who asks: one method of authentication, and nothing in the URL.
    pub(super) fn post(&self, endpoint: &Uri, parameters: &[(&str, &str)]) -> Request<Bytes> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(parameters);
        match &self.auth {
            ClientAuth::SecretBasic(_) => {}
            ClientAuth::SecretPost(secret) => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", secret.expose());
            }
            ClientAuth::None => {
                form.append_pair("client_id", &self.client_id);
            }
        }
        let mut request = post(endpoint, form.finish());
        if let ClientAuth::SecretBasic(secret) = &self.auth {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, basic(&self.client_id, secret));
        }
        request
    }
}

fn basic(id: &str, secret: &Secret) -> HeaderValue {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(id), encoded(secret.expose()));
    let value = format!("Basic {}", STANDARD.encode(pair));
    // Base64 has no character that a header cannot hold.
    let mut value = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(auth: ClientAuth) -> ClientRegistration {
        ClientRegistration {
            client_id: "a:b c".into(),
            auth,
        }
    }

    fn request(auth: ClientAuth) -> Request<Bytes> {
        let endpoint = Uri::from_static("https://id.example.com/token");
        registration(auth).post(&endpoint, &[("grant_type", "x y")])
    }

    #[test]
    fn n_028_id_and_secret_are_form_encoded_before_base64() {
        let request = request(ClientAuth::SecretBasic(Secret::new("%ü ")));
        let value = request.headers()[header::AUTHORIZATION].to_str().unwrap();
        let decoded = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(decoded, b"a%3Ab+c:%25%C3%BC+");
        assert_eq!(request.body(), "grant_type=x+y");
        assert!(!format!("{request:?}").contains(value));
    }

    #[test]
    fn n_029_a_request_authenticates_by_one_method() {
        let posted = request(ClientAuth::SecretPost(Secret::new("s&=")));
        assert!(posted.headers().get(header::AUTHORIZATION).is_none());
        assert_eq!(posted.body(), "grant_type=x+y&client_id=a%3Ab+c&client_secret=s%26%3D");
        let public = request(ClientAuth::None);
        assert!(public.headers().get(header::AUTHORIZATION).is_none());
        assert_eq!(public.body(), "grant_type=x+y&client_id=a%3Ab+c");
        assert_eq!(public.uri().query(), None);
    }
}
