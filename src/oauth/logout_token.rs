//! The logout token: a provider says that somebody's session there is over (OIDC Back-Channel Logout 1.0 §2.4).

use std::time::Duration;

use serde_json::Value;

use super::{id_token::Rules, jwks::KeySet, jwt::Unverified, registered};
use crate::{
    identity::{Claims, Subject, TokenError},
    time::Timestamp,
};

/// A logout token that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// Tells this token from every other of the same provider.
    pub id: Box<str>,
    pub over: Over,
    pub issued_at: Timestamp,
    /// From then on it is refused for its age, so its `id` need not be remembered any longer.
    pub refused_from: Timestamp,
}

/// What is over at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// One session.
    Session(Box<str>),
    /// All sessions of somebody.
    Person(Subject),
}

/// A token that is older was kept by somebody, or was delayed beyond use.
const MAX_AGE: Duration = Duration::from_secs(300);
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// A longer identifier is nobody's.
const MAX_IDENTIFIER: usize = 255;

/// Checks a logout token (§2.6), all but whether it was used before.
///
/// # Errors
/// `UnknownKey` where fetching the keys anew may help; anything else is final.
pub fn check(token: &str, rules: &Rules, keys: &KeySet, now: Timestamp) -> Result<LogoutToken, TokenError> {
    let token = Unverified::read(token)?.verify(keys, &rules.algorithms)?;
    // Providers older than the registration of the type say `JWT`, or nothing.
    if token.kind().is_some_and(|kind| kind != "logout+jwt" && kind != "jwt") {
        return Err(TokenError::Type);
    }
    let claims = &token.claims;
    registered::issued_by(claims, rules.issuer.as_str())?;
    let audiences = registered::audiences(claims)?;
    if audiences.is_empty() || audiences.iter().any(|audience| *audience != rules.client_id) {
        return Err(TokenError::Audience);
    }
    let expires_at = registered::lifetime(claims, rules.clock_skew, now)?;
    let issued_at = registered::date(claims, "iat", now)?.ok_or(TokenError::Claim("iat"))?;
    let refused_from = expires_at.min(issued_at.plus(MAX_AGE)).plus(rules.clock_skew);
    if refused_from <= now {
        return Err(TokenError::Expired);
    }
    is_logout(claims)?;
    Ok(LogoutToken {
        id: identifier(claims, "jti")?.ok_or(TokenError::Claim("jti"))?.into(),
        over: over(claims)?,
        issued_at,
        refused_from,
    })
}

/// It tells of a logout, and cannot stand for an ID token (§2.4).
fn is_logout(claims: &Claims) -> Result<(), TokenError> {
    if claims.member("nonce").is_some() {
        return Err(TokenError::Type);
    }
    let event = claims
        .member("events")
        .and_then(Value::as_object)
        .and_then(|events| events.get(EVENT));
    match event {
        Some(Value::Object(_)) => Ok(()),
        Some(_) | None => Err(TokenError::Claim("events")),
    }
}

/// One session where it is named, else all of the person.
fn over(claims: &Claims) -> Result<Over, TokenError> {
    let subject = match claims.member("sub") {
        Some(_) => Some(registered::subject(claims)?),
        None => None,
    };
    match (identifier(claims, "sid")?, subject) {
        (Some(sid), _) => Ok(Over::Session(sid.into())),
        (None, Some(subject)) => Ok(Over::Person(subject)),
        (None, None) => Err(TokenError::Claim("sub")),
    }
}

fn identifier<'a>(claims: &'a Claims, name: &'static str) -> Result<Option<&'a str>, TokenError> {
    let Some(value) = claims.member(name) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or(TokenError::Claim(name))?;
    match (1..=MAX_IDENTIFIER).contains(&text.len()) {
        true => Ok(Some(text)),
        false => Err(TokenError::Claim(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Issuer, oauth::jwt::Algorithm};
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use bytes::Bytes;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_unix(1_767_225_600);

    struct Provider(EcdsaKeyPair);

    impl Provider {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        }

        fn keys(&self) -> KeySet {
            let point = self.0.public_key().as_ref();
            let [x, y] = [&point[1..33], &point[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
            let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]});
            let response = http::Response::builder().header("content-type", "application/json");
            KeySet::read(&response.body(Bytes::from(jwks.to_string())).unwrap()).unwrap()
        }
    }

    fn good() -> Value {
        json!({
            "iss": "https://id.example.com", "aud": "wiki", "iat": NOW.unix(), "exp": NOW.unix() + 120, "jti": "j1",
            "events": {EVENT: {}}, "sub": "ann", "sid": "s1",
        })
    }

    /// The good token with some members replaced; null takes one away.
    fn with(changes: &Value) -> Value {
        let mut claims = good();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn read(header: &Value, claims: &Value) -> Result<LogoutToken, TokenError> {
        let provider = Provider::new();
        let rules = Rules {
            issuer: Issuer::new("https://id.example.com"),
            client_id: "wiki".to_owned(),
            algorithms: vec![Algorithm::ES256],
            clock_skew: Duration::from_secs(30),
        };
        check(&provider.sign(header, claims), &rules, &provider.keys(), NOW)
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
            let token = read(&es256("logout+jwt"), &with(&changes)).unwrap();
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
            assert_eq!(read(&es256("logout+jwt"), &with(&changes)), Err(error), "{changes}");
        }
    }

    #[test]
    fn n_109_a_foreign_signature_does_not_count() {
        let (ours, theirs) = (Provider::new(), Provider::new());
        let rules = Rules {
            issuer: Issuer::new("https://id.example.com"),
            client_id: "wiki".to_owned(),
            algorithms: vec![Algorithm::ES256],
            clock_skew: Duration::ZERO,
        };
        let token = theirs.sign(&es256("logout+jwt"), &good());
        assert_eq!(check(&token, &rules, &ours.keys(), NOW), Err(TokenError::Signature));
    }
}
