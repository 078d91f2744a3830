//! What is signed here verifies here, and says which key it was.

use serde_json::json;

use super::answer;
use crate::{
    identity::TokenError,
    oauth::{
        jwks::KeySet,
        jwt::{Algorithm, SigningKey, Unverified},
    },
    secret::{KeyPairKind, new_key_pair},
};

fn key(kind: KeyPairKind) -> SigningKey {
    SigningKey::from_pem(new_key_pair(kind).expose()).unwrap()
}

fn set(keys: &[&SigningKey]) -> KeySet {
    let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
    KeySet::read(&answer(200, &json!({ "keys": keys }))).unwrap()
}

#[test]
fn what_is_signed_verifies_with_what_is_published_and_with_nothing_else() {
    for (kind, algorithm) in [
        (KeyPairKind::Es256, Algorithm::ES256),
        (KeyPairKind::Ed25519, Algorithm::EdDSA),
    ] {
        let (ours, theirs) = (key(kind), key(kind));
        let token = ours.sign("Some+jwt", &json!({ "sub": "ann" })).unwrap();
        let verify = |keys: &[&SigningKey]| Unverified::read(&token).unwrap().verify(&set(keys), &[algorithm]);
        let verified = verify(&[&theirs, &ours]).unwrap();
        assert_eq!(verified.claims.text("sub"), Some("ann"));
        assert_eq!(verified.kind().as_deref(), Some("some+jwt"));
        assert_eq!(verify(&[&theirs]).unwrap_err(), TokenError::UnknownKey);
    }
}

#[test]
fn an_identifier_is_the_thumbprint_of_the_key() {
    // RFC 8037, appendix A.1 to A.3, as PKCS #8.
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
               -----END PRIVATE KEY-----\n";
    let key = SigningKey::from_pem(pem).unwrap();
    assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(key.published()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(key.published().as_object().unwrap().len(), 6, "and nothing private");
}

#[test]
fn what_is_no_private_key_of_these_curves_is_none() {
    for text in [
        "",
        "x",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert!(SigningKey::from_pem(text).is_none(), "{text}");
    }
}
