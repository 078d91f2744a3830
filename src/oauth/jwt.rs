//! Signed tokens (RFC 7515, RFC 7519, RFC 8725). The only file that knows the JWT library.
//!
//! The library is used for its signatures alone, in both directions. Its claim checks let a missing or mistyped `iss` and `aud` pass, ignore
//! `crit`, and keep the last of two members of one name; the header and the claims are therefore read here.

use aws_lc_rs::{
    digest,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, ParsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};

use super::jwks::KeySet;
use crate::identity::{Claims, TokenError};

/// The signature algorithms that can be configured: none of them symmetric (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// What kind of key makes a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A longer token is refused before anything of it is decoded, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024;

impl Algorithm {
    const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    /// Reads the value of `alg`; case counts (RFC 7515 §4.1.1).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, algorithm)| *algorithm)
    }

    pub fn key_type(self) -> KeyType {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => KeyType::Rsa,
            Self::ES256 => KeyType::P256,
            Self::ES384 => KeyType::P384,
            Self::EdDSA => KeyType::Ed25519,
        }
    }

    fn for_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::RS384 => jsonwebtoken::Algorithm::RS384,
            Self::RS512 => jsonwebtoken::Algorithm::RS512,
            Self::PS256 => jsonwebtoken::Algorithm::PS256,
            Self::PS384 => jsonwebtoken::Algorithm::PS384,
            Self::PS512 => jsonwebtoken::Algorithm::PS512,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::ES384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A public key that signatures can be checked with.
#[derive(Clone)]
pub struct VerifyingKey {
    key_type: KeyType,
    key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("key_type", &self.key_type)
            .finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// Modulus of 2048 to 8192 bits and exponent, in base64url (RFC 7518 §6.3.1, RFC 8725 §3.5).
    pub fn rsa(modulus: &str, exponent: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
        let leading_zero_bytes = bytes.iter().take_while(|byte| **byte == 0).count();
        let significant = bytes.get(leading_zero_bytes..)?;
        let bits = significant
            .len()
            .checked_mul(8)?
            .checked_sub(significant.first()?.leading_zeros() as usize)?;
        let exponent_bytes = URL_SAFE_NO_PAD.decode(exponent).ok()?;
        let is_odd = exponent_bytes.last().is_some_and(|byte| byte & 1 == 1);
        let is_one = exponent_bytes.iter().rev().skip(1).all(|byte| *byte == 0) && exponent_bytes.last() == Some(&1);
        if !(2048..=8192).contains(&bits) || !is_odd || is_one {
            return None;
        }
        let key = DecodingKey::from_rsa_components(modulus, exponent).ok()?;
        Some(Self {
            key_type: KeyType::Rsa,
            key,
        })
    }

    /// A point on the curve `P-256` or `P-384`, in base64url (RFC 7518 §6.2.1, RFC 8725 §3.4).
    pub fn elliptic(curve: &str, x: &str, y: &str) -> Option<Self> {
        let (key_type, size) = match curve {
            "P-256" => (KeyType::P256, 32),
            "P-384" => (KeyType::P384, 48),
            _ => return None,
        };
        let (x_bytes, y_bytes) = (URL_SAFE_NO_PAD.decode(x).ok()?, URL_SAFE_NO_PAD.decode(y).ok()?);
        if x_bytes.len() != size || y_bytes.len() != size {
            return None;
        }
        let point = [&[4], x_bytes.as_slice(), y_bytes.as_slice()].concat();
        let on_curve = match key_type {
            KeyType::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            _ => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
        };
        on_curve.ok()?;
        let key = DecodingKey::from_ec_components(x, y).ok()?;
        Some(Self { key_type, key })
    }

    /// The curve `Ed25519` (RFC 8037 §2).
    pub fn edwards(curve: &str, x: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(x).ok()?;
        if curve != "Ed25519" || bytes.len() != 32 {
            return None;
        }
        let key = DecodingKey::from_ed_components(x).ok()?;
        Some(Self {
            key_type: KeyType::Ed25519,
            key,
        })
    }

    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    fn made(&self, signature: &str, message: &str, algorithm: Algorithm) -> bool {
        self.key_type == algorithm.key_type()
            && jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, algorithm.for_library())
                .unwrap_or(false)
    }
}

/// A private key that signs tokens, and its public half.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    id: Box<str>,
    published: Value,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a private key on the curve P-256 or Ed25519, PKCS #8 in PEM (RFC 5958, RFC 7468 §10).
    pub fn from_pem(pem: &str) -> Option<Self> {
        Self::elliptic(pem).or_else(|| Self::edwards(pem))
    }

    fn elliptic(pem: &str) -> Option<Self> {
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes()).ok()?;
        // An uncompressed point: a byte that says so, then both coordinates.
        let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        let members = json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y });
        Some(Self::new(Algorithm::ES256, "ES256", key, members))
    }

    fn edwards(pem: &str) -> Option<Self> {
        let key = EncodingKey::from_ed_pem(pem.as_bytes()).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8(key.as_bytes()).ok()?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let members = json!({ "crv": "Ed25519", "kty": "OKP", "x": x });
        Some(Self::new(Algorithm::EdDSA, "EdDSA", key, members))
    }

    /// The thumbprint of the members is the key's identifier, the same wherever it is read (RFC 7638 §3).
    fn new(algorithm: Algorithm, name: &str, key: EncodingKey, members: Value) -> Self {
        // The members stand in the order of their names, without blanks, as the thumbprint wants them.
        let thumbprint = digest::digest(&digest::SHA256, members.to_string().as_bytes());
        let id = URL_SAFE_NO_PAD.encode(thumbprint);
        let mut published = members;
        if let Value::Object(published) = &mut published {
            let more = [("use", "sig"), ("alg", name), ("kid", &id)];
            published.extend(more.map(|(member, value)| (member.into(), value.into())));
        }
        Self {
            algorithm,
            key,
            id: id.into(),
            published,
        }
    }

    /// What `kid` says (RFC 7515 §4.1.4).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half, as a JWK (RFC 7517 §4).
    pub fn published(&self) -> &Value {
        &self.published
    }

    /// A token of this `typ` with these claims (RFC 7515 §7.1); `None` when the cryptography refuses to work.
    pub fn sign(&self, kind: &str, claims: &impl Serialize) -> Option<String> {
        let header = Header {
            typ: Some(kind.to_owned()),
            kid: Some(self.id.to_string()),
            ..Header::new(self.algorithm.for_library())
        };
        jsonwebtoken::encode(&header, claims, &self.key).ok()
    }
}

/// A token that has the form of a signed JWT, before its signature is checked.
#[derive(Debug)]
pub struct Unverified<'a> {
    message: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
    kind: Option<String>,
    claims: Claims,
}

impl<'a> Unverified<'a> {
    /// Whether a token has the form of a signed JWT: three parts, the first of which is a JSON object.
    ///
    /// An opaque token may hold two dots; it then is no JWT as long as its first part does not decode to JSON.
    pub fn looks_like(token: &str) -> bool {
        let Some((header, rest)) = token.split_once('.') else {
            return false;
        };
        rest.matches('.').count() == 1
            && URL_SAFE_NO_PAD
                .decode(header)
                .is_ok_and(|json| json.first() == Some(&b'{'))
    }

    /// Reads header and claims, and refuses what nobody here understands (RFC 7515 §4.1.11, RFC 8725 §3.10).
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = json_object(header)?;
        if ["crit", "b64", "zip", "enc"]
            .iter()
            .any(|name| header.member(name).is_some())
            || nests(&header)
        {
            return Err(TokenError::Header);
        }
        let algorithm = header
            .text("alg")
            .and_then(Algorithm::named)
            .ok_or(TokenError::Algorithm)?;
        Ok(Self {
            message,
            signature,
            algorithm,
            key_id: optional_text(&header, "kid")?,
            kind: optional_text(&header, "typ")?,
            claims: json_object(payload)?,
        })
    }

    /// Who the token says issued it; only good for choosing whose keys to try.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// Checks the signature with a key of the set that fits.
    ///
    /// # Errors
    /// `UnknownKey` when no key fits, `Signature` when those that fit did not make it.
    pub fn verify(self, keys: &KeySet, allowed: &[Algorithm]) -> Result<Verified, TokenError> {
        if !allowed.contains(&self.algorithm) {
            return Err(TokenError::Algorithm);
        }
        let made = |key: &VerifyingKey| key.made(self.signature, self.message, self.algorithm);
        let mut fitting = keys.fitting(self.key_id.as_deref(), self.algorithm).peekable();
        if fitting.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        if !fitting.any(made) {
            return Err(TokenError::Signature);
        }
        Ok(Verified {
            algorithm: self.algorithm,
            kind: self.kind,
            claims: self.claims,
        })
    }
}

/// A token whose signature was checked; its claims have yet to be.
#[derive(Debug)]
pub struct Verified {
    pub algorithm: Algorithm,
    kind: Option<String>,
    pub claims: Claims,
}

impl Verified {
    /// The `typ` header in lower case, without the prefix that may be left out (RFC 7515 §4.1.9).
    pub fn kind(&self) -> Option<String> {
        self.kind.as_deref().map(media_type)
    }
}

fn json_object(part: &str) -> Result<Claims, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    Claims::from_json(&json).map_err(|_| TokenError::Malformed)
}

/// Whether the claims are another token (RFC 7519 §5.2); a `cty` that is no text may mean anything.
fn nests(header: &Claims) -> bool {
    header
        .member("cty")
        .is_some_and(|content| content.as_str().is_none_or(|content| media_type(content) == "jwt"))
}

/// In lower case, without the prefix that may be left out (RFC 7515 §4.1.9, §4.1.10).
pub(super) fn media_type(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("application/").map_or(name.clone(), str::to_owned)
}

fn optional_text(header: &Claims, name: &str) -> Result<Option<String>, TokenError> {
    match header.member(name) {
        None => Ok(None),
        Some(value) => value
            .as_str()
            .map(|text| Some(text.to_owned()))
            .ok_or(TokenError::Header),
    }
}
