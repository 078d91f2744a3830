//! Logout tokens: what makes one, and that nothing else stands for one.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    NOW,
    signer::{jwk, key_set, sign, sign_text},
    with,
};
use crate::{
    identity::{Issuer, Subject, TokenError},
    oauth::{
        id_token::Rules,
        jwt::Algorithm,
        logout_token::{LogoutToken, Over, check},
    },
};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn good() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "wiki", "iat": NOW.unix(), "exp": NOW.unix() + 120, "jti": "j1",
        "events": {EVENT: {}}, "sub": "ann", "sid": "s1",
    })
}

fn read(header: &Value, claims: &Value) -> Result<LogoutToken, TokenError> {
    read_text(&sign(header, claims))
}

fn read_text(token: &str) -> Result<LogoutToken, TokenError> {
    let rules = Rules {
        issuer: Issuer::new("https://id.example.com"),
        client_id: "wiki".to_owned(),
        algorithms: vec![Algorithm::ES256],
        clock_skew: Duration::from_secs(30),
    };
    check(token, &rules, &key_set(&[jwk("ES256")]), NOW)
}

fn es256(kind: &str) -> Value {
    json!({"alg": "ES256", "typ": kind})
}

#[test]
fn n_109_a_logout_token_names_a_session_or_a_person() {
    let person = Over::Person(Subject::new("ann").unwrap());
    let session = Over::Session("s1".into());
    let cases = [
        (json!({}), session.clone()),
        (json!({"sub": null}), session),
        (json!({"sid": null}), person.clone()),
        (json!({"sid": null, "aud": ["wiki"]}), person.clone()),
        (json!({"sid": null, "iat": NOW.unix() - 299}), person),
    ];
    for (changes, over) in cases {
        let token = read(&es256("logout+jwt"), &with(&good(), &changes)).unwrap();
        assert_eq!((token.over, &*token.id), (over, "j1"), "{changes}");
        assert!(token.refused_from <= NOW.plus(Duration::from_secs(150)));
    }
}

#[test]
fn n_109_the_type_is_that_of_a_logout_token_or_left_open() {
    for header in [
        es256("logout+jwt"),
        es256("application/LOGOUT+JWT"),
        es256("JWT"),
        json!({"alg": "ES256"}),
    ] {
        assert!(read(&header, &good()).is_ok(), "{header}");
    }
    for kind in ["at+jwt", "dpop+jwt", "secevent+jwt", "logout"] {
        assert_eq!(read(&es256(kind), &good()), Err(TokenError::Type), "{kind}");
    }
    for algorithm in ["none", "HS256", "RS256", "es256"] {
        assert_eq!(
            read(&json!({"alg": algorithm}), &good()),
            Err(TokenError::Algorithm),
            "{algorithm}"
        );
    }
}

#[test]
fn n_109_n_115_anything_else_is_refused() {
    let now = NOW.unix();
    let cases = [
        (json!({"iss": null}), TokenError::Claim("iss")),
        (json!({"iss": "https://evil.example.com"}), TokenError::UnknownIssuer),
        (json!({"aud": null}), TokenError::Claim("aud")),
        (json!({"aud": []}), TokenError::Audience),
        (json!({"aud": "blog"}), TokenError::Audience),
        (json!({"aud": ["wiki", "blog"]}), TokenError::Audience),
        (json!({"iat": null}), TokenError::Claim("iat")),
        (json!({"iat": "now"}), TokenError::Claim("iat")),
        (json!({"iat": now - 331}), TokenError::Expired),
        (json!({"iat": now + 31}), TokenError::NotYetValid),
        (json!({"exp": null}), TokenError::Claim("exp")),
        (json!({"exp": now - 31}), TokenError::Expired),
        (json!({"jti": null}), TokenError::Claim("jti")),
        (json!({"jti": ""}), TokenError::Claim("jti")),
        (json!({"jti": 7}), TokenError::Claim("jti")),
        (json!({"nonce": "n"}), TokenError::Type),
        (json!({"nonce": ""}), TokenError::Type),
        (json!({"events": null}), TokenError::Claim("events")),
        (json!({"events": {}}), TokenError::Claim("events")),
        (json!({"events": [EVENT]}), TokenError::Claim("events")),
        (json!({"events": {EVENT: true}}), TokenError::Claim("events")),
        (
            json!({"events": {"https://example.com/else": {}}}),
            TokenError::Claim("events"),
        ),
        (json!({"sub": null, "sid": null}), TokenError::Claim("sub")),
        (json!({"sub": 7}), TokenError::Claim("sub")),
        (json!({"sid": ""}), TokenError::Claim("sid")),
        (json!({"sid": ["s1"]}), TokenError::Claim("sid")),
    ];
    for (changes, error) in cases {
        assert_eq!(
            read(&es256("logout+jwt"), &with(&good(), &changes)),
            Err(error),
            "{changes}"
        );
    }
}

#[test]
fn n_109_who_did_not_sign_it_did_not_say_it() {
    let (header, claims) = (es256("logout+jwt").to_string(), good().to_string());
    for signed_by in ["none", "ES384", "HS256"] {
        let token = sign_text(&header, &claims, signed_by);
        assert_eq!(read_text(&token), Err(TokenError::Signature), "{signed_by}");
    }
}
