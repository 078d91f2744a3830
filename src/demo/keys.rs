//! The keys of the development authorization server: made when it starts, never written down.

use std::fmt;

use aws_lc_rs::{
    error::Unspecified,
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
        UnparsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::secret::random_text;

/// One key for RS256 and one for ES256.
pub(super) struct Keys {
    rsa: rsa::KeyPair,
    ec: EcdsaKeyPair,
    /// What their identifiers end with.
    generation: String,
}

impl Keys {
    pub(super) fn generate() -> Result<Self, Unspecified> {
        Ok(Self {
            rsa: rsa::KeyPair::generate(KeySize::Rsa2048)?,
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            generation: random_text::<6>(),
        })
    }

    /// A header for a token of `typ` that names the key for RS256.
    pub(super) fn header(&self, typ: &str) -> Value {
        json!({ "alg": "RS256", "typ": typ, "kid": self.id("rsa") })
    }

    /// Signs claims under any header, with the key that fits its `alg` (RFC 7515 §7.1); ES256 by its name, else RS256.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let [header_part, claims_part] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let input = format!("{header_part}.{claims_part}");
        let signature = match header.get("alg").and_then(Value::as_str) {
            Some("ES256") => self.with_ec(input.as_bytes()),
            _ => self.with_rsa(input.as_bytes()),
        };
        // Nobody takes a token without a signature, so that a key that fails is noticed where the token is used.
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap_or_default()))
    }

    /// The claims of a token that was signed here with RS256, whether or not its time is over.
    pub(super) fn read(&self, token: &str) -> Option<Value> {
        let (input, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.rsa.public_key());
        key.verify(input.as_bytes(), &signature).ok()?;
        let (_, claims) = input.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// The public halves (RFC 7517 §5).
    pub(super) fn published(&self) -> Value {
        json!({ "keys": [self.published_rsa(), self.published_ec()] })
    }

    fn published_rsa(&self) -> Value {
        // PKCS #1 in DER; of 2048 bits, modulus and exponent always stand at the same places.
        let der = self.rsa.public_key().as_ref();
        let [modulus, exponent] = [9..265, 267..270].map(|range| encoded(der.get(range)));
        let kid = self.id("rsa");
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": modulus, "e": exponent })
    }

    fn published_ec(&self) -> Value {
        // An uncompressed point: a byte that says so, then both coordinates.
        let point = self.ec.public_key().as_ref();
        let [x, y] = [1..33, 33..65].map(|range| encoded(point.get(range)));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id("ec"), "x": x, "y": y })
    }

    fn with_rsa(&self, input: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature)
            .ok()?;
        Some(signature)
    }

    fn with_ec(&self, input: &[u8]) -> Option<Vec<u8>> {
        let signature = self.ec.sign(&SystemRandom::new(), input).ok()?;
        Some(signature.as_ref().to_vec())
    }

    fn id(&self, kind: &str) -> String {
        format!("{kind}-{}", self.generation)
    }
}

fn encoded(bytes: Option<&[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes.unwrap_or_default())
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.generation)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RsaPublicKeyComponents};

    use super::*;

    fn bytes(key: &Value, name: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap()
    }

    #[test]
    fn what_is_signed_verifies_with_what_is_published() {
        let keys = Keys::generate().unwrap();
        let published = keys.published();

        let token = keys.sign(&keys.header("JWT"), &json!({ "sub": "ann" }));
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let rsa = &published["keys"][0];
        let rsa = RsaPublicKeyComponents {
            n: bytes(rsa, "n"),
            e: bytes(rsa, "e"),
        };
        rsa.verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature)
            .unwrap();
        assert_eq!(keys.read(&token), Some(json!({ "sub": "ann" })));

        let token = keys.sign(&json!({ "alg": "ES256" }), &json!({}));
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let ec = &published["keys"][1];
        let point = [vec![4], bytes(ec, "x"), bytes(ec, "y")].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(input.as_bytes(), &signature)
            .unwrap();
    }

    #[test]
    fn foreign_tokens_are_not_read() {
        let (ours, theirs) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        assert_eq!(ours.read(&theirs.sign(&theirs.header("JWT"), &json!({}))), None);
        assert_eq!(ours.read("a.b"), None);
    }
}
