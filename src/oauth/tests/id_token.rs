//! What an ID token must say to be a login (OIDC Core §3.1.3.7).

use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::{
    NOW,
    signer::{ALGORITHMS, encoded, jwk, key_set, sign},
    with,
};
use crate::{
    identity::{Claims, Issuer, Subject, TokenError},
    oauth::{
        id_token::{self, Rules},
        jwt::Algorithm,
    },
};

pub(super) const ACCESS_TOKEN: &str = "jHkWEdUXMU1BwAsC4vtUsZwnvTvm41Z5";

pub(super) fn good() -> Value {
    let now = NOW.unix();
    json!({
        "iss": "https://id.example.com", "aud": "door", "sub": "ann", "nonce": "n-1", "iat": now, "exp": now + 300,
        "name": "Ann",
    })
}

pub(super) fn rules() -> Rules {
    Rules {
        issuer: Issuer::new("https://id.example.com"),
        client_id: "door".into(),
        algorithms: ALGORITHMS.into_iter().filter_map(Algorithm::named).collect(),
        clock_skew: Duration::from_secs(30),
    }
}

fn check_with_header(header: &Value, claims: &Value) -> Result<(Subject, Claims), TokenError> {
    let keys = ["RS256", "ES256", "ES384", "EdDSA"].map(jwk);
    id_token::check(
        &sign(header, claims),
        ACCESS_TOKEN,
        Some("n-1"),
        &rules(),
        &key_set(&keys),
        NOW,
    )
}

fn check(changes: &Value) -> Result<(), TokenError> {
    check_with_header(&json!({ "alg": "ES256" }), &with(&good(), changes)).map(drop)
}

fn refuses(name: &'static str, values: &[Value]) {
    for value in values {
        // A `null` that stands in the token is no missing claim.
        let mut claims = good();
        claims[name] = value.clone();
        let outcome = check_with_header(&json!({ "alg": "ES256" }), &claims);
        assert_eq!(outcome.map(drop), Err(TokenError::Claim(name)), "{name}: {value}");
    }
    assert_eq!(
        check(&json!({ name: null })),
        Err(TokenError::Claim(name)),
        "{name} missing"
    );
}

#[test]
fn a_good_token_says_who_logged_in_without_the_protocols_own_claims() {
    let (subject, claims) = check_with_header(&json!({ "alg": "ES256", "typ": "JWT" }), &good()).unwrap();
    assert_eq!(subject.as_str(), "ann");
    let names: Vec<_> = claims.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["iss", "name", "sub"]);
}

#[test]
fn n_041_the_issuer_is_one_text_equal_to_the_byte() {
    refuses(
        "iss",
        &[json!(null), json!(1), json!({}), json!(["https://id.example.com"])],
    );
    for issuer in [
        "https://id.example.com/",
        "https://ID.example.com",
        "http://id.example.com",
        "",
    ] {
        assert_eq!(
            check(&json!({ "iss": issuer })),
            Err(TokenError::UnknownIssuer),
            "{issuer}"
        );
    }
}

#[test]
fn n_042_the_audience_is_this_client_and_nobody_else() {
    refuses(
        "aud",
        &[
            json!(null),
            json!(1),
            json!({ "door": 1 }),
            json!(["door", 1]),
            json!([["door"]]),
        ],
    );
    assert_eq!(check(&json!({ "aud": ["door"] })), Ok(()));
    assert_eq!(check(&json!({ "aud": ["door"], "azp": "door" })), Ok(()));
    for audience in [
        json!("Door"),
        json!([]),
        json!(["other"]),
        json!(["door", "other"]),
        json!("door other"),
    ] {
        let changes = json!({ "aud": audience, "azp": "door" });
        assert_eq!(check(&changes), Err(TokenError::Audience), "{audience}");
    }
}

#[test]
fn n_042_the_authorized_party_is_this_client() {
    for party in [json!("other"), json!(""), json!(1), json!(["door"])] {
        assert_eq!(
            check(&json!({ "azp": party })),
            Err(TokenError::Claim("azp")),
            "{party}"
        );
    }
}

#[test]
fn n_044_the_token_ends_on_its_second_and_the_skew_excuses_thirty() {
    let end = |seconds: i64| check(&json!({ "exp": NOW.unix() + seconds }));
    assert_eq!(end(1), Ok(()));
    assert_eq!(end(0), Ok(()));
    assert_eq!(end(-29), Ok(()));
    assert_eq!(end(-30), Err(TokenError::Expired));
    refuses(
        "exp",
        &[
            json!(null),
            json!("1900000300"),
            json!([1]),
            json!(1e18),
            json!(-1e10),
            json!(true),
        ],
    );
}

#[test]
fn n_044_the_token_was_made_just_now() {
    let made = |seconds: i64| check(&json!({ "iat": NOW.unix() + seconds }));
    assert_eq!(made(30), Ok(()));
    assert_eq!(made(31), Err(TokenError::NotYetValid));
    assert_eq!(made(-630), Ok(()));
    assert_eq!(made(-631), Err(TokenError::Expired));
    refuses("iat", &[json!(null), json!("1900000000"), json!({}), json!(1e300)]);
}

#[test]
fn n_044_the_token_has_begun_where_it_says_when() {
    let begins = |seconds: i64| check(&json!({ "nbf": NOW.unix() + seconds }));
    assert_eq!(begins(30), Ok(()));
    assert_eq!(begins(31), Err(TokenError::NotYetValid));
    assert_eq!(check(&json!({ "nbf": "0" })), Err(TokenError::Claim("nbf")));
}

#[test]
fn n_045_the_nonce_is_the_one_that_was_sent() {
    refuses(
        "nonce",
        &[
            json!(null),
            json!(1),
            json!(["n-1"]),
            json!(""),
            json!("n-2"),
            json!("n-1 "),
            json!("N-1"),
        ],
    );
}

#[test]
fn n_046_the_subject_is_short_visible_ascii() {
    refuses(
        "sub",
        &[
            json!(null),
            json!(1),
            json!(""),
            json!("a".repeat(256)),
            json!("å"),
            json!("a\nb"),
            json!(["a"]),
        ],
    );
    assert_eq!(check(&json!({ "sub": "a".repeat(255) })), Ok(()));
}

#[test]
fn n_047_the_hash_of_the_access_token_is_right_where_it_is_there() {
    for algorithm in ALGORITHMS {
        let function = match algorithm {
            "RS256" | "PS256" | "ES256" => &digest::SHA256,
            "RS384" | "PS384" | "ES384" => &digest::SHA384,
            _ => &digest::SHA512,
        };
        let hash = |text: &str| {
            let hash = digest::digest(function, text.as_bytes());
            encoded(&hash.as_ref()[..hash.as_ref().len() / 2])
        };
        let check = |at_hash: Value| {
            let claims = with(&good(), &json!({ "at_hash": at_hash }));
            check_with_header(&json!({ "alg": algorithm }), &claims).map(drop)
        };
        assert_eq!(check(json!(hash(ACCESS_TOKEN))), Ok(()), "{algorithm}");
        for wrong in [
            json!(hash("another")),
            json!(""),
            json!(1),
            json!(format!("{}=", hash(ACCESS_TOKEN))),
        ] {
            assert_eq!(check(wrong), Err(TokenError::Claim("at_hash")), "{algorithm}");
        }
    }
}

#[test]
fn n_043_a_token_of_another_kind_is_no_login() {
    for kind in [
        "at+jwt",
        "application/at+jwt",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "",
        "JOSE",
    ] {
        let outcome = check_with_header(&json!({ "alg": "ES256", "typ": kind }), &good());
        assert_eq!(outcome.map(drop), Err(TokenError::Type), "{kind}");
    }
    for kind in ["JWT", "jwt", "application/jwt"] {
        assert!(
            check_with_header(&json!({ "alg": "ES256", "typ": kind }), &good()).is_ok(),
            "{kind}"
        );
    }
}

#[test]
fn n_043_an_algorithm_that_is_not_configured_is_refused() {
    let rules = Rules {
        algorithms: vec![Algorithm::RS256],
        ..rules()
    };
    let keys = key_set(&[jwk("RS256"), jwk("ES256")]);
    for (algorithm, refused) in [("ES256", true), ("PS256", true), ("none", true), ("RS256", false)] {
        let token = sign(&json!({ "alg": algorithm }), &good());
        let outcome = id_token::check(&token, ACCESS_TOKEN, Some("n-1"), &rules, &keys, NOW);
        assert_eq!(outcome.err(), refused.then_some(TokenError::Algorithm), "{algorithm}");
    }
}
