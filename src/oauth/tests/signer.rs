//! An authorization server's keys, to sign test tokens of every algorithm with.

use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        RsaEncoding,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::answer;
use crate::oauth::jwks::KeySet;

/// All that can be configured.
pub(crate) const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

static RSA: LazyLock<rsa::KeyPair> = LazyLock::new(|| rsa::KeyPair::generate(KeySize::Rsa2048).unwrap());
static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
static ED25519: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

/// A token whose signature is that of its own `alg`.
pub(crate) fn sign(header: &Value, claims: &Value) -> String {
    sign_text(
        &header.to_string(),
        &claims.to_string(),
        header["alg"].as_str().unwrap(),
    )
}

/// Any text as header and claims, signed as `algorithm` says.
pub(crate) fn sign_text(header: &str, claims: &str, algorithm: &str) -> String {
    sign_parts(&encoded(header), &encoded(claims), algorithm)
}

/// Parts that are already encoded, be it badly.
pub(crate) fn sign_parts(header: &str, claims: &str, algorithm: &str) -> String {
    let message = format!("{header}.{claims}");
    let signature = encoded(signature(message.as_bytes(), algorithm));
    format!("{message}.{signature}")
}

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The public key that checks signatures of an algorithm; `kid`, `use` and `alg` are the caller's.
pub(crate) fn jwk(algorithm: &str) -> Value {
    match algorithm {
        "ES256" => elliptic("P-256", P256.public_key().as_ref()),
        "ES384" => elliptic("P-384", P384.public_key().as_ref()),
        "EdDSA" => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(ED25519.public_key().as_ref()) }),
        _ => rsa_jwk(&RSA),
    }
}

/// A public key of a pair whose other half nobody has.
pub(crate) fn stranger(size: KeySize) -> Value {
    rsa_jwk(&rsa::KeyPair::generate(size).unwrap())
}

pub(crate) fn key_set(keys: &[Value]) -> KeySet {
    KeySet::read(&answer(200, &json!({ "keys": keys }))).unwrap()
}

/// What an attacker has who has only the published key.
pub(crate) fn public_rsa_der() -> Vec<u8> {
    RSA.public_key().as_ref().to_vec()
}

fn signature(message: &[u8], algorithm: &str) -> Vec<u8> {
    let random = SystemRandom::new();
    match algorithm {
        "RS256" => with_rsa(&RSA_PKCS1_SHA256, message),
        "RS384" => with_rsa(&RSA_PKCS1_SHA384, message),
        "RS512" => with_rsa(&RSA_PKCS1_SHA512, message),
        "PS256" => with_rsa(&RSA_PSS_SHA256, message),
        "PS384" => with_rsa(&RSA_PSS_SHA384, message),
        "PS512" => with_rsa(&RSA_PSS_SHA512, message),
        "ES256" => P256.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES384" => P384.sign(&random, message).unwrap().as_ref().to_vec(),
        "EdDSA" => ED25519.sign(message).as_ref().to_vec(),
        "HS256" => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &public_rsa_der());
            hmac::sign(&key, message).as_ref().to_vec()
        }
        _ => Vec::new(),
    }
}

fn with_rsa(encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(encoding, &SystemRandom::new(), message, &mut signature)
        .unwrap();
    signature
}

fn rsa_jwk(pair: &rsa::KeyPair) -> Value {
    // PKCS #1 in DER ends with the modulus, two bytes that introduce the exponent, and its three bytes.
    let der = pair.public_key().as_ref();
    let (before, exponent) = der.split_at(der.len() - 3);
    let modulus = &before[before.len() - 2 - pair.public_modulus_len()..before.len() - 2];
    json!({ "kty": "RSA", "n": encoded(modulus), "e": encoded(exponent) })
}

fn elliptic(curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y) })
}
