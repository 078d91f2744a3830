//! What must not be printed, compared early or guessed.

mod key_pair;

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
pub use key_pair::{KeyPairKind, new_key_pair};
use secrecy::{ExposeSecret, SecretString};

/// A string that has no debug text, no `==` and no serialisation, and is wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether both hold the same bytes, in time that does not depend on where they differ.
    pub fn matches(&self, candidate: &str) -> bool {
        same_bytes(self.expose().as_bytes(), candidate.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// Compares in time that does not depend on where the two differ; a different length is told at once.
pub fn same_bytes(left: &[u8], right: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(left, right).is_ok()
}

/// Fresh bytes from the operating system's generator.
///
/// # Panics
/// When the generator fails: nothing that follows could be trusted.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "without randomness nothing here is safe to do")]
    rand::fill(&mut bytes).expect("the random number generator of the operating system failed");
    bytes
}

/// `N` fresh bytes as base64url without padding (32 bytes give 43 characters).
pub fn random_text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<N>())
}

/// A key under which secrets are fingerprinted, drawn when the process starts.
#[derive(Clone)]
pub struct FingerprintKey(hmac::Key);

impl FingerprintKey {
    pub fn random() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &random_bytes::<32>()))
    }

    /// One that everybody makes alike who has the same key, and that says nothing about it.
    pub fn derived(key: &[u8], purpose: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, purpose).as_ref()))
    }

    /// The fingerprint of a tuple: each part is preceded by its length, so that no two tuples share one.
    pub fn of(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Fingerprint::from_slice(context.sign().as_ref())
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey([redacted])")
    }
}

/// Stands for a secret in a cache: it can be compared and says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn from_slice(bytes: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(bytes);
        Self(fingerprint)
    }

    /// A fingerprint that another replica took.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A pseudonym for a person in the log: the same on every replica, 16 hexadecimal digits of SHA-256.
pub fn pseudonym(issuer: &str, subject: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [issuer, subject] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut text = String::with_capacity(16);
    for byte in context.finish().as_ref().iter().take(8) {
        let [high, low] = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
        text.extend(high);
        text.extend(low);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_matches_itself_only() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        assert!(!secret.matches("hunter3"));
        assert!(!secret.matches("hunter"));
    }

    #[test]
    fn tuples_that_concatenate_alike_have_different_fingerprints() {
        let key = FingerprintKey::random();
        assert_ne!(key.of(&[b"ab", b"c"]), key.of(&[b"a", b"bc"]));
        assert_ne!(key.of(&[b"abc"]), key.of(&[b"abc", b""]));
    }

    #[test]
    fn random_text_is_fresh_and_unreserved() {
        let text = random_text::<32>();
        assert_eq!(text.len(), 43);
        assert_ne!(text, random_text::<32>());
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }

    #[test]
    fn a_pseudonym_is_sixteen_digits_and_keeps_issuer_and_subject_apart() {
        assert_eq!(pseudonym("https://a", "b").len(), 16);
        assert_ne!(pseudonym("https://a", "b"), pseudonym("https://ab", ""));
    }
}
