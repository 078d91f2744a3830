//! Which published keys are loaded, and which of them are tried.

use aws_lc_rs::rsa::KeySize;
use http::{Method, Uri, header};
use serde_json::{Value, json};

use super::{
    answer, answer_as,
    signer::{encoded, jwk, key_set, sign, stranger},
    with,
};
use crate::{
    identity::TokenError,
    oauth::{
        answer::AnswerError,
        jwks::KeySet,
        jwt::{Algorithm, Unverified},
    },
};

fn read(keys: &Value) -> Result<KeySet, AnswerError> {
    KeySet::read(&answer(200, &json!({ "keys": keys })))
}

/// What becomes of a token with this header where these keys are published.
fn outcome(header: &Value, keys: &[Value]) -> Result<(), TokenError> {
    let token = sign(header, &json!({}));
    let allowed = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
    Unverified::read(&token)?.verify(&key_set(keys), &allowed).map(drop)
}

fn is_loaded(key: &Value) -> bool {
    read(&json!([key])).is_ok()
}

#[test]
fn the_keys_are_asked_for_with_get_and_no_credentials() {
    let request = KeySet::request(&Uri::from_static("https://id.example.com/keys?x=1"));
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.uri(), "https://id.example.com/keys?x=1");
    assert_eq!(request.headers().len(), 1);
    assert_eq!(request.headers()[header::ACCEPT], "application/json");
}

#[test]
fn n_052_a_key_for_something_else_is_not_loaded() {
    for purpose in [
        json!({ "use": "enc" }),
        json!({ "use": 1 }),
        json!({ "use": ["sig"] }),
        json!({ "key_ops": ["sign"] }),
        json!({ "key_ops": ["encrypt", "wrapKey"] }),
        json!({ "key_ops": [] }),
        json!({ "key_ops": "verify" }),
        json!({ "use": "sig", "key_ops": ["sign"] }),
        json!({ "use": "enc", "key_ops": ["verify"] }),
        json!({ "alg": "RSA-OAEP" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "none" }),
        json!({ "alg": 256 }),
        json!({ "alg": "ES256" }),
        json!({ "kid": 1 }),
        json!({ "kty": "rsa" }),
        json!({ "kty": "EC" }),
    ] {
        assert!(!is_loaded(&with(&jwk("RS256"), &purpose)), "{purpose}");
    }
    for purpose in [
        json!({}),
        json!({ "use": "sig" }),
        json!({ "key_ops": ["sign", "verify"] }),
        json!({ "alg": "PS512" }),
        json!({ "kid": "", "x5t": "?", "x5c": 1, "ext": true }),
    ] {
        assert!(is_loaded(&with(&jwk("RS256"), &purpose)), "{purpose}");
    }
}

#[test]
fn n_052_a_symmetric_key_is_not_loaded() {
    let secret = json!({ "kty": "oct", "k": encoded([7; 32]), "kid": "s" });
    assert!(!is_loaded(&secret));
    let keys = [secret, jwk("RS256")];
    assert_eq!(
        outcome(&json!({ "alg": "HS256", "kid": "s" }), &keys),
        Err(TokenError::Algorithm)
    );
}

#[test]
fn n_052_a_key_makes_only_signatures_of_the_algorithm_that_it_names() {
    let key = with(&jwk("RS256"), &json!({ "alg": "RS256", "kid": "a" }));
    assert_eq!(
        outcome(&json!({ "alg": "RS256", "kid": "a" }), std::slice::from_ref(&key)),
        Ok(())
    );
    assert_eq!(
        outcome(&json!({ "alg": "PS256", "kid": "a" }), &[key]),
        Err(TokenError::UnknownKey)
    );
}

#[test]
fn n_078_a_weak_rsa_key_is_not_loaded() {
    let good = jwk("RS256");
    assert!(is_loaded(&good));
    assert!(is_loaded(&stranger(KeySize::Rsa3072)));
    let modulus = |bytes: usize, first: &[u8]| {
        let mut modulus = vec![0xff; bytes];
        modulus[..first.len()].copy_from_slice(first);
        encoded(modulus)
    };
    for change in [
        json!({ "n": modulus(128, &[]) }),
        json!({ "n": modulus(256, &[0x7f]) }),
        json!({ "n": modulus(257, &[0, 0x7f]) }),
        json!({ "n": modulus(1025, &[1]) }),
        json!({ "n": "" }),
        json!({ "n": 5 }),
        json!({ "n": null }),
        json!({ "n": format!("{}==", good["n"].as_str().unwrap()) }),
        json!({ "e": encoded([1]) }),
        json!({ "e": encoded([0, 0, 1]) }),
        json!({ "e": encoded([0]) }),
        json!({ "e": encoded([1, 0, 0]) }),
        json!({ "e": "" }),
        json!({ "e": 65537 }),
        json!({ "e": null }),
    ] {
        assert!(!is_loaded(&with(&good, &change)), "{change}");
    }
}

#[test]
fn n_078_a_point_that_is_not_on_its_curve_is_not_loaded() {
    for (algorithm, size) in [("ES256", 32), ("ES384", 48)] {
        let good = jwk(algorithm);
        assert!(is_loaded(&good));
        let short = encoded(vec![1; size - 1]);
        for change in [
            json!({ "x": good["y"], "y": good["x"] }),
            json!({ "y": good["x"] }),
            json!({ "x": encoded(vec![0; size]), "y": encoded(vec![0; size]) }),
            json!({ "x": encoded(vec![0xff; size]) }),
            json!({ "x": short }),
            json!({ "y": null }),
            json!({ "crv": null }),
            json!({ "crv": "secp256k1" }),
            json!({ "crv": "P-521" }),
            json!({ "crv": if size == 32 { "P-384" } else { "P-256" } }),
            json!({ "crv": "Ed25519" }),
        ] {
            assert!(!is_loaded(&with(&good, &change)), "{algorithm} {change}");
        }
    }
}

#[test]
fn n_078_an_edwards_key_is_thirty_two_bytes_on_its_curve() {
    let good = jwk("EdDSA");
    assert!(is_loaded(&good));
    for change in [
        json!({ "x": encoded([1; 31]) }),
        json!({ "x": encoded([1; 33]) }),
        json!({ "x": null }),
        json!({ "crv": "Ed448" }),
        json!({ "crv": "X25519" }),
        json!({ "kty": "EC" }),
    ] {
        assert!(!is_loaded(&with(&good, &change)), "{change}");
    }
}

#[test]
fn n_052_a_key_that_is_not_understood_leaves_the_others_good() {
    let odd = [
        json!(null),
        json!(1),
        json!("key"),
        json!({}),
        json!({ "kty": "PQC" }),
        json!({ "kty": 1 }),
    ];
    for odd in odd.into_iter().chain([with(&jwk("RS256"), &json!({ "kid": 7 }))]) {
        assert_eq!(
            outcome(&json!({ "alg": "RS256" }), &[odd.clone(), jwk("RS256")]),
            Ok(()),
            "{odd}"
        );
    }
}

#[test]
fn a_set_without_a_key_that_can_be_used_is_none() {
    for keys in [
        json!([]),
        json!({}),
        json!(null),
        json!("RSA"),
        json!([{ "kty": "oct", "k": "AAAA" }]),
    ] {
        assert!(matches!(read(&keys), Err(AnswerError::Nonsense(_))), "{keys}");
    }
    assert!(KeySet::read(&answer(200, &json!({}))).is_err());
    assert!(KeySet::read(&answer(200, &json!([jwk("RS256")]))).is_err());
    let good = json!({ "keys": [jwk("RS256")] });
    assert!(KeySet::read(&answer_as(200, "application/jwk-set+json", &good.to_string())).is_ok());
    assert!(KeySet::read(&answer_as(200, "text/html", &good.to_string())).is_err());
    assert_eq!(
        KeySet::read(&answer(503, &good)).err(),
        Some(AnswerError::Overloaded(http::StatusCode::SERVICE_UNAVAILABLE))
    );
}

#[test]
fn n_051_all_keys_of_one_id_are_tried() {
    let named = |key: Value| with(&key, &json!({ "kid": "a" }));
    let keys = [
        named(jwk("ES256")),
        named(stranger(KeySize::Rsa2048)),
        named(jwk("RS256")),
    ];
    for algorithm in ["RS256", "ES256"] {
        assert_eq!(
            outcome(&json!({ "alg": algorithm, "kid": "a" }), &keys),
            Ok(()),
            "{algorithm}"
        );
    }
    assert_eq!(
        outcome(&json!({ "alg": "EdDSA", "kid": "a" }), &keys),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(
        outcome(&json!({ "alg": "RS256", "kid": "A" }), &keys),
        Err(TokenError::UnknownKey)
    );
}

#[test]
fn n_051_without_an_id_all_keys_of_the_type_are_tried() {
    let stranger = |kid: &str| with(&stranger(KeySize::Rsa2048), &json!({ "kid": kid }));
    let keys = [
        jwk("ES256"),
        stranger("a"),
        stranger("b"),
        with(&jwk("RS256"), &json!({ "kid": "c" })),
    ];
    assert_eq!(outcome(&json!({ "alg": "RS256" }), &keys), Ok(()));
    assert_eq!(
        outcome(&json!({ "alg": "RS256" }), &keys[..3]),
        Err(TokenError::Signature)
    );
}

#[test]
fn n_051_no_more_than_eight_keys_are_tried() {
    let stranger = stranger(KeySize::Rsa2048);
    let mut keys = vec![stranger; 8];
    keys.push(jwk("RS256"));
    assert_eq!(outcome(&json!({ "alg": "RS256" }), &keys), Err(TokenError::Signature));
    assert_eq!(outcome(&json!({ "alg": "RS256" }), &keys[1..]), Ok(()));
}
