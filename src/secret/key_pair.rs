//! Fresh key pairs for signatures.

use aws_lc_rs::{
    error::Unspecified,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::Secret;

/// What a key pair signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPairKind {
    /// On the curve P-256 (RFC 7518 §3.4).
    Es256,
    /// RFC 8032.
    Ed25519,
}

/// A fresh private key, PKCS #8 in PEM (RFC 5958, RFC 7468 §10); other programs read it as well.
///
/// # Panics
/// When the generator of the operating system fails: nothing that follows could be trusted.
pub fn new_key_pair(kind: KeyPairKind) -> Secret {
    #[expect(clippy::expect_used, reason = "without randomness nothing here is safe to do")]
    let der = der(kind).expect("the random number generator of the operating system failed");
    let text = Zeroizing::new(STANDARD.encode(&*der));
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    // Base64 is ASCII: every 64 bytes are 64 characters.
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----");
    Secret::new(pem)
}

fn der(kind: KeyPairKind) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let document = match kind {
        KeyPairKind::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?,
        KeyPairKind::Ed25519 => Ed25519KeyPair::generate()?.to_pkcs8v1()?,
    };
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_pair_is_fresh_and_is_a_pem_of_short_lines() {
        for kind in [KeyPairKind::Es256, KeyPairKind::Ed25519] {
            let [one, other] = [(); 2].map(|()| new_key_pair(kind));
            assert!(!one.matches(other.expose()));
            assert!(one.expose().lines().all(|line| (1..=64).contains(&line.len())));
        }
    }
}
