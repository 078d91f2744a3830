//! The keys that an authorization server publishes (RFC 7517).

use bytes::Bytes;
use http::{Request, Response, Uri};
use serde_json::Value;

use super::{
    answer::{AnswerError, get, json_object},
    jwt::{Algorithm, VerifyingKey},
};

/// Keys for checking signatures; those that cannot be used for that are left out (RFC 7517 §5).
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<Box<str>>,
    /// What the key says that it is for; absent: any algorithm of its type.
    algorithm: Option<Algorithm>,
    key: VerifyingKey,
}

const MAX_KEYS: usize = 64;
/// Two keys may share an id while one replaces the other; more than this many are not tried.
const MAX_TRIES: usize = 8;

impl KeySet {
    pub fn request(endpoint: &Uri) -> Request<Bytes> {
        get(endpoint)
    }

    /// # Errors
    /// When the answer is not a key set, or has no key that can check a signature.
    pub fn read(response: &Response<Bytes>) -> Result<Self, AnswerError> {
        let set = json_object(response)?;
        let keys = set.member("keys").and_then(Value::as_array);
        let keys = keys.ok_or(AnswerError::Nonsense("the key set has no `keys`"))?;
        let keys: Vec<_> = keys.iter().take(MAX_KEYS).filter_map(Key::read).collect();
        match keys.is_empty() {
            true => Err(AnswerError::Nonsense("the key set has no key that can be used")),
            false => Ok(Self(keys)),
        }
    }

    /// The keys that may have made a signature: by id where the token names one, else by type (OIDC Core §10.1).
    pub fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &VerifyingKey> {
        let named = move |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
        let suits = move |key: &&Key| {
            key.key.key_type() == algorithm.key_type() && key.algorithm.is_none_or(|only| only == algorithm)
        };
        self.0
            .iter()
            .filter(named)
            .filter(suits)
            .map(|key| &key.key)
            .take(MAX_TRIES)
    }
}

impl Key {
    /// `None` for a key that is for something else, too weak, or not understood; the others stay good.
    fn read(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let signs = jwk.get("use").is_none_or(|purpose| purpose == "sig");
        let verifies = match jwk.get("key_ops") {
            None => true,
            Some(operations) => operations.as_array()?.iter().any(|operation| operation == "verify"),
        };
        if !signs || !verifies {
            return None;
        }
        let key = match text("kty")? {
            "RSA" => VerifyingKey::rsa(text("n")?, text("e")?)?,
            "EC" => VerifyingKey::elliptic(text("crv")?, text("x")?, text("y")?)?,
            "OKP" => VerifyingKey::edwards(text("crv")?, text("x")?)?,
            // A symmetric key that everybody can fetch proves nothing.
            _ => return None,
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(name) => Some(Algorithm::named(name.as_str()?).filter(|only| only.key_type() == key.key_type())?),
        };
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.into()),
        };
        Some(Self { id, algorithm, key })
    }
}
