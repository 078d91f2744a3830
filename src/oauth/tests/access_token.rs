//! What an access token must say at the resource server (RFC 9068 §4, RFC 7662 §2.2).

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    NOW,
    signer::{jwk, key_set, sign},
    with,
};
use crate::{
    identity::{Issuer, TokenError},
    oauth::{
        access_token::{AccessToken, Rules, from_jwt},
        jwt::{Algorithm, Unverified},
    },
    time::Timestamp,
};

pub(super) fn good() -> Value {
    let now = NOW.unix();
    json!({
        "iss": "https://id.example.com", "aud": ["https://api.example.com"], "sub": "ann", "client_id": "app",
        "iat": now, "exp": now + 300, "jti": "1", "scope": "read write",
    })
}

pub(super) fn rules() -> Rules {
    Rules {
        missing_audience_until: None,
        issuer: Issuer::new("https://id.example.com"),
        audiences: vec!["https://old.example.com".into(), "https://api.example.com".into()],
        kind: Some("at+jwt".into()),
        clock_skew: Duration::from_secs(30),
    }
}

fn any_kind() -> Rules {
    Rules { kind: None, ..rules() }
}

fn check_as(rules: &Rules, header: &Value, claims: &Value) -> Result<AccessToken, TokenError> {
    let token = sign(header, claims);
    let verified = Unverified::read(&token)?.verify(&key_set(&[jwk("ES256")]), &[Algorithm::ES256])?;
    from_jwt(verified, rules, NOW)
}

fn check(claims: &Value) -> Result<AccessToken, TokenError> {
    check_as(&rules(), &json!({ "alg": "ES256", "typ": "at+jwt" }), claims)
}

fn changed(changes: &Value) -> Result<(), TokenError> {
    check(&with(&good(), changes)).map(drop)
}

fn of_kind(rules: &Rules, kind: Option<&str>) -> Result<(), TokenError> {
    let header = match kind {
        Some(kind) => json!({ "alg": "ES256", "typ": kind }),
        None => json!({ "alg": "ES256" }),
    };
    check_as(rules, &header, &good()).map(drop)
}

#[test]
fn a_good_token_says_who_may_do_what_until_when() {
    let token = check(&good()).unwrap();
    assert_eq!(token.subject.as_str(), "ann");
    assert_eq!(token.scopes.to_string(), "read write");
    assert_eq!(token.expires_at, Some(Timestamp::from_unix(NOW.unix() + 330)));
    assert_eq!(token.claims.text("client_id"), Some("app"));
}

#[test]
fn n_072_the_profile_takes_its_own_kind_and_no_other() {
    for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert_eq!(of_kind(&rules(), Some(kind)), Ok(()), "{kind}");
    }
    for kind in [
        "JWT",
        "jwt",
        "",
        "at",
        "at+jwt ",
        "at+jwt;v=1",
        "text/at+jwt",
        "application/application/at+jwt",
    ] {
        assert_eq!(of_kind(&rules(), Some(kind)), Err(TokenError::Type), "{kind}");
    }
    assert_eq!(of_kind(&rules(), None), Err(TokenError::Type));
}

#[test]
fn n_072_a_kind_is_configured_in_any_spelling() {
    for kind in ["AT+JWT", "application/at+jwt"] {
        let rules = Rules {
            kind: Some(kind.into()),
            ..rules()
        };
        assert_eq!(of_kind(&rules, Some("at+jwt")), Ok(()), "{kind}");
        let claims = with(&good(), &json!({ "jti": null }));
        let outcome = check_as(&rules, &json!({ "alg": "ES256", "typ": "at+jwt" }), &claims);
        assert_eq!(outcome.map(drop), Err(TokenError::Claim("jti")), "{kind}");
    }
}

#[test]
fn n_081_where_any_kind_will_do_another_kind_of_token_does_not() {
    for kind in ["at+jwt", "JWT", "application/jwt", "Bearer"] {
        assert_eq!(of_kind(&any_kind(), Some(kind)), Ok(()), "{kind}");
    }
    assert_eq!(of_kind(&any_kind(), None), Ok(()));
    for kind in [
        "logout+jwt",
        "dpop+jwt",
        "DPoP+JWT",
        "application/dpop+jwt",
        "token-introspection+jwt",
        "secevent+jwt",
        "id+jwt",
        "oauth-authz-req+jwt",
        "client-authentication+jwt",
        "entity-statement+jwt",
        "kb+jwt",
        "dc+sd-jwt",
    ] {
        assert_eq!(of_kind(&any_kind(), Some(kind)), Err(TokenError::Type), "{kind}");
    }
}

#[test]
fn n_072_an_id_token_opens_nothing() {
    for mark in ["nonce", "at_hash"] {
        for rules in [rules(), any_kind()] {
            for value in [json!("x"), json!(1), json!([])] {
                let claims = with(&good(), &json!({ mark: value }));
                let outcome = check_as(&rules, &json!({ "alg": "ES256", "typ": "at+jwt" }), &claims);
                assert_eq!(outcome.map(drop), Err(TokenError::Type), "{mark}");
            }
        }
    }
}

#[test]
fn n_073_the_profile_requires_its_claims() {
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        assert_eq!(changed(&json!({ name: null })), Err(TokenError::Claim(name)), "{name}");
        for value in [json!({}), json!([1]), json!(true)] {
            assert_eq!(
                changed(&json!({ name: value })),
                Err(TokenError::Claim(name)),
                "{name}: {value}"
            );
        }
    }
}

#[test]
fn outside_the_profile_fewer_claims_are_required() {
    let header = json!({ "alg": "ES256" });
    let fewer = with(
        &good(),
        &json!({ "client_id": null, "iat": null, "jti": null, "scope": null }),
    );
    assert!(check_as(&any_kind(), &header, &fewer).unwrap().scopes.is_empty());
    for name in ["iss", "exp", "aud", "sub"] {
        let outcome = check_as(&any_kind(), &header, &with(&fewer, &json!({ name: null })));
        assert_eq!(outcome.map(drop), Err(TokenError::Claim(name)), "{name}");
    }
}

#[test]
fn n_074_the_token_is_for_this_place() {
    for audience in [
        json!("https://api.example.com"),
        json!(["x", "https://old.example.com"]),
    ] {
        assert_eq!(changed(&json!({ "aud": audience })), Ok(()), "{audience}");
    }
    for audience in [
        json!("https://api.example.com/"),
        json!([]),
        json!(["other"]),
        json!(""),
    ] {
        assert_eq!(
            changed(&json!({ "aud": audience })),
            Err(TokenError::Audience),
            "{audience}"
        );
    }
    let audience = json!(["https://api.example.com", 5]);
    assert_eq!(changed(&json!({ "aud": audience })), Err(TokenError::Claim("aud")));
}

#[test]
fn n_067_the_issuer_is_equal_to_the_byte() {
    for issuer in [
        "https://id.example.com/",
        "https://id.example.co",
        "HTTPS://id.example.com",
    ] {
        assert_eq!(
            changed(&json!({ "iss": issuer })),
            Err(TokenError::UnknownIssuer),
            "{issuer}"
        );
    }
    let issuers = json!(["https://id.example.com"]);
    assert_eq!(changed(&json!({ "iss": issuers })), Err(TokenError::Claim("iss")));
}

#[test]
fn n_075_the_token_ends_when_the_skew_is_over() {
    for (end, outcome) in [
        (1, Ok(())),
        (-29, Ok(())),
        (-30, Err(TokenError::Expired)),
        (-31, Err(TokenError::Expired)),
    ] {
        assert_eq!(changed(&json!({ "exp": NOW.unix() + end })), outcome, "{end}");
    }
    assert_eq!(
        changed(&json!({ "exp": NOW.unix() as f64 - 29.5 })),
        Err(TokenError::Expired)
    );
    for far in [
        json!(1e18),
        json!(-1e18),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
    ] {
        assert_eq!(changed(&json!({ "exp": far })), Err(TokenError::Claim("exp")), "{far}");
    }
}

#[test]
fn n_076_the_token_begins_where_the_skew_ends() {
    for name in ["nbf", "iat"] {
        assert_eq!(changed(&json!({ name: NOW.unix() + 30 })), Ok(()), "{name}");
        assert_eq!(
            changed(&json!({ name: NOW.unix() + 31 })),
            Err(TokenError::NotYetValid),
            "{name}"
        );
        assert_eq!(
            changed(&json!({ name: "soon" })),
            Err(TokenError::Claim(name)),
            "{name}"
        );
    }
}

#[test]
fn n_094_a_token_that_is_bound_to_a_key_is_no_bearer_token() {
    for bound in [json!({ "jkt": "x" }), json!({ "x5t#S256": "x" }), json!({}), json!(1)] {
        assert_eq!(
            changed(&json!({ "cnf": bound })),
            Err(TokenError::SenderConstrained),
            "{bound}"
        );
    }
}

#[test]
fn n_068_the_scopes_are_a_list_or_an_array_of_either_name() {
    let scopes = |changes: Value| check(&with(&good(), &changes)).map(|token| token.scopes.to_string());
    assert_eq!(scopes(json!({ "scope": null, "scp": ["a", "b"] })).unwrap(), "a b");
    assert_eq!(scopes(json!({ "scope": null, "scp": "a  b " })).unwrap(), "a b");
    assert_eq!(scopes(json!({ "scope": ["a"], "scp": "admin" })).unwrap(), "a");
    assert_eq!(scopes(json!({ "scope": "" })).unwrap(), "");
    assert_eq!(scopes(json!({ "scope": null })).unwrap(), "");
    for value in [json!(1), json!({ "admin": true }), json!(["a", 1])] {
        assert_eq!(
            scopes(json!({ "scope": value })),
            Err(TokenError::Claim("scope")),
            "{value}"
        );
        assert_eq!(
            scopes(json!({ "scope": null, "scp": value })),
            Err(TokenError::Claim("scp")),
            "{value}"
        );
    }
}

#[test]
fn n_068_one_scope_of_an_array_is_one_scope() {
    let token = check(&with(&good(), &json!({ "scope": ["read admin"] }))).unwrap();
    assert!(!token.scopes.contains("admin"));
}

fn another_type() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        Just(json!({})),
        Just(json!([])),
        Just(json!([[]])),
        Just(json!([null])),
        Just(json!({ "ann": 1 })),
    ]
}

proptest! {
    #[test]
    fn a_registered_claim_of_another_type_makes_no_token_good(index in 0..9_usize, value in another_type()) {
        let name = ["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "client_id", "scope"][index];
        let mut claims = good();
        claims[name] = value.clone();
        // Any number may be a time, and no scopes are scopes.
        let same_type = matches!(name, "exp" | "nbf" | "iat") && value.is_number() || name == "scope" && value == json!([]);
        prop_assert!(same_type || check(&claims).is_err());
    }
}
