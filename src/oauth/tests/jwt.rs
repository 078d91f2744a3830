//! What a signed token may look like, and what no token may.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::signer::{ALGORITHMS, encoded, jwk, key_set, sign, sign_parts, sign_text};
use crate::{
    identity::TokenError,
    oauth::jwt::{Algorithm, MAX_LENGTH, Unverified},
};

fn all() -> Vec<Algorithm> {
    ALGORITHMS
        .into_iter()
        .map(|name| Algorithm::named(name).unwrap())
        .collect()
}

/// Reads a token, and checks its signature with the published key of every type.
fn outcome(token: &str) -> Result<(), TokenError> {
    let keys = ["RS256", "ES256", "ES384", "EdDSA"].map(jwk);
    let token = Unverified::read(token)?;
    token.verify(&key_set(&keys), &all()).map(drop)
}

fn with_header(header: &Value) -> Result<(), TokenError> {
    outcome(&sign(header, &json!({ "sub": "ann" })))
}

#[test]
fn n_043_every_algorithm_verifies_with_its_key_and_not_with_a_changed_claim() {
    for name in ALGORITHMS {
        let token = sign(&json!({ "alg": name }), &json!({ "sub": "ann" }));
        assert_eq!(outcome(&token), Ok(()), "{name}");
        let (header, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let forged = format!("{header}.{}.{signature}", encoded(r#"{"sub":"eve"}"#));
        assert_eq!(outcome(&forged), Err(TokenError::Signature), "{name}");
    }
}

#[test]
fn n_043_no_other_name_is_an_algorithm() {
    let names = [
        "none", "None", "NONE", "HS256", "HS384", "HS512", "rs256", "Rs256", "es256", "EDDSA", "eddsa", "Ed25519",
        "ES512", "ES256K", "RSA-OAEP", "dir", "", " RS256", "RS256 ",
    ];
    for name in names {
        assert_eq!(
            with_header(&json!({ "alg": name })),
            Err(TokenError::Algorithm),
            "{name}"
        );
    }
}

#[test]
fn n_043_an_algorithm_is_named_by_one_text() {
    for alg in ["null", "1", "[\"RS256\"]", "{}", "true"] {
        let token = sign_text(&format!(r#"{{"alg":{alg}}}"#), "{}", "RS256");
        assert_eq!(outcome(&token), Err(TokenError::Algorithm), "{alg}");
    }
    assert_eq!(outcome(&sign_text("{}", "{}", "RS256")), Err(TokenError::Algorithm));
}

#[test]
fn n_043_a_token_without_signature_is_not_signed() {
    let parts = format!("{}.{}", encoded(r#"{"alg":"RS256"}"#), encoded("{}"));
    assert_eq!(outcome(&format!("{parts}.")), Err(TokenError::Signature));
    let unsecured = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded("{}"));
    assert_eq!(outcome(&unsecured), Err(TokenError::Algorithm));
}

#[test]
fn n_077_the_signature_of_one_algorithm_is_none_of_another() {
    for claimed in ALGORITHMS {
        for made in ALGORITHMS.into_iter().filter(|made| *made != claimed) {
            let token = sign_text(&json!({ "alg": claimed }).to_string(), "{}", made);
            assert_eq!(outcome(&token), Err(TokenError::Signature), "{claimed} made by {made}");
        }
    }
}

#[test]
fn n_077_an_algorithm_that_is_not_allowed_is_refused_though_its_key_is_there() {
    for name in ALGORITHMS {
        let others: Vec<_> = all()
            .into_iter()
            .filter(|one| Algorithm::named(name) != Some(*one))
            .collect();
        let token = sign(&json!({ "alg": name }), &json!({}));
        let verified = Unverified::read(&token)
            .unwrap()
            .verify(&key_set(&[jwk(name)]), &others);
        assert_eq!(verified.err(), Some(TokenError::Algorithm), "{name}");
    }
}

#[test]
fn n_077_a_key_of_another_type_fits_no_signature() {
    for (algorithm, key) in [
        ("ES256", "RS256"),
        ("RS256", "ES256"),
        ("ES384", "ES256"),
        ("EdDSA", "ES256"),
    ] {
        let token = sign(&json!({ "alg": algorithm }), &json!({}));
        let verified = Unverified::read(&token).unwrap().verify(&key_set(&[jwk(key)]), &all());
        assert_eq!(verified.err(), Some(TokenError::UnknownKey), "{algorithm}");
    }
}

#[test]
fn n_054_what_is_not_understood_in_the_header_is_refused() {
    let headers = [
        json!({ "alg": "RS256", "crit": ["x-unknown"], "x-unknown": 1 }),
        json!({ "alg": "RS256", "crit": [] }),
        json!({ "alg": "RS256", "crit": null }),
        json!({ "alg": "RS256", "b64": false }),
        json!({ "alg": "RS256", "b64": true }),
        json!({ "alg": "RS256", "zip": "DEF" }),
        json!({ "alg": "RS256", "enc": "A128GCM" }),
        json!({ "alg": "RS256", "cty": "JWT" }),
        json!({ "alg": "RS256", "cty": "jwt" }),
        json!({ "alg": "RS256", "cty": "application/JWT" }),
        json!({ "alg": "RS256", "cty": ["JWT"] }),
        json!({ "alg": "RS256", "kid": 1 }),
        json!({ "alg": "RS256", "kid": null }),
        json!({ "alg": "RS256", "typ": ["at+jwt"] }),
    ];
    for header in headers {
        assert_eq!(with_header(&header), Err(TokenError::Header), "{header}");
    }
}

#[test]
fn n_053_keys_and_addresses_in_the_header_are_not_used() {
    let key = super::signer::stranger(aws_lc_rs::rsa::KeySize::Rsa2048);
    let header = json!({
        "alg": "RS256", "jwk": jwk("RS256"), "jku": "https://evil.example/keys", "x5u": "https://evil.example/", "x5c": ["AA"],
    });
    let token = sign(&header, &json!({}));
    let verified = Unverified::read(&token).unwrap().verify(&key_set(&[key]), &all());
    assert_eq!(verified.err(), Some(TokenError::Signature));
    assert_eq!(outcome(&token), Ok(()));
}

#[test]
fn n_079_a_member_that_stands_twice_is_refused_in_header_and_claims() {
    let cases = [
        (r#"{"alg":"RS256","alg":"RS256"}"#, "{}"),
        (r#"{"alg":"none","alg":"RS256"}"#, "{}"),
        (r#"{"alg":"RS256","x":{"a":1,"a":2}}"#, "{}"),
        (r#"{"alg":"RS256"}"#, r#"{"sub":"ann","sub":"eve"}"#),
        (r#"{"alg":"RS256"}"#, r#"{"sub":"ann","s\u0075b":"eve"}"#),
        (r#"{"alg":"RS256"}"#, r#"{"a":[{"role":"user","role":"admin"}]}"#),
    ];
    for (header, claims) in cases {
        let token = sign_text(header, claims, "RS256");
        assert_eq!(outcome(&token), Err(TokenError::Malformed), "{header} {claims}");
    }
}

#[test]
fn what_is_no_json_object_is_no_header_and_no_claims() {
    for text in ["", "[]", "null", "\"a\"", "{", "{} {}", "{}x", "\u{feff}{}"] {
        let claims = sign_text(r#"{"alg":"RS256"}"#, text, "RS256");
        assert_eq!(outcome(&claims), Err(TokenError::Malformed), "{text}");
        let header = sign_text(text, "{}", "RS256");
        assert_eq!(outcome(&header), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn a_token_has_one_spelling() {
    let (header, claims) = (encoded(r#"{"alg":"RS256" }"#), encoded(r#"{"sub":"anna"}"#));
    // Fifteen and fourteen bytes: the last character of the claims has four bits that say nothing.
    assert_eq!(outcome(&sign_parts(&header, &claims, "RS256")), Ok(()));
    let mut sloppy = claims.clone();
    let last = sloppy.pop().unwrap();
    sloppy.push(char::from_u32(u32::from(last) + 1).unwrap());
    for claims in [
        sloppy,
        format!("{claims}=="),
        format!("{claims}\n"),
        format!(" {claims}"),
        format!("{claims}+/"),
    ] {
        assert_eq!(
            outcome(&sign_parts(&header, &claims, "RS256")),
            Err(TokenError::Malformed),
            "{claims}"
        );
    }
}

#[test]
fn a_signature_has_one_spelling() {
    for algorithm in ALGORITHMS {
        let token = sign(&json!({ "alg": algorithm }), &json!({}));
        for altered in [
            format!("{token}="),
            format!("{token}=="),
            format!("{token}\n"),
            format!("{token}AA"),
        ] {
            assert!(outcome(&altered).is_err(), "{algorithm}");
        }
        let (rest, last) = token.split_at(token.len() - 1);
        let next = char::from(last.as_bytes()[0] + 1);
        assert!(outcome(&format!("{rest}{next}")).is_err(), "{algorithm}");
    }
}

#[test]
fn a_token_has_three_parts() {
    let token = sign(&json!({ "alg": "RS256" }), &json!({}));
    let message = token.rsplit_once('.').unwrap().0;
    for text in [
        "",
        ".",
        "..",
        "a",
        message,
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}.e30.x"),
    ] {
        assert_eq!(outcome(text), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn n_080_a_long_token_is_refused_unread() {
    assert_eq!(outcome(&"a".repeat(MAX_LENGTH)), Err(TokenError::Malformed));
    assert_eq!(outcome(&"a".repeat(MAX_LENGTH + 1)), Err(TokenError::TooLong));
    let long = sign(&json!({ "alg": "RS256" }), &json!({ "x": "a".repeat(MAX_LENGTH) }));
    assert_eq!(outcome(&long), Err(TokenError::TooLong));
}

#[test]
fn a_token_with_two_dots_looks_like_a_jwt_when_its_first_part_is_an_object() {
    let object = encoded("{}");
    for (token, looks) in [
        (format!("{object}.a.b"), true),
        (format!("{object}.."), true),
        (format!("{object}.a"), false),
        (format!("{object}.a.b.c"), false),
        (format!("{object}.a.b.c.d"), false),
        ("opaque".into(), false),
        ("ya29.a0.Af-x".into(), false),
        (format!("{}.a.b", encoded("[]")), false),
        ("..".into(), false),
        (String::new(), false),
    ] {
        assert_eq!(Unverified::looks_like(&token), looks, "{token}");
    }
}

#[test]
fn the_kind_has_no_case_and_no_prefix() {
    for (typ, kind) in [
        ("at+jwt", "at+jwt"),
        ("AT+JWT", "at+jwt"),
        ("application/At+Jwt", "at+jwt"),
        ("JWT", "jwt"),
    ] {
        let token = sign(&json!({ "alg": "ES256", "typ": typ }), &json!({}));
        let verified = Unverified::read(&token)
            .unwrap()
            .verify(&key_set(&[jwk("ES256")]), &all());
        assert_eq!(verified.unwrap().kind().as_deref(), Some(kind));
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic_or_verifies(text in "[a-zA-Z0-9_.=-]{0,300}") {
        prop_assert!(outcome(&text).is_err());
    }
}
