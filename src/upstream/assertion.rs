//! A signed token by which an application sees that a request came through this gateway, and whose it is (RFC 7519).
//!
//! It is kept for half of its life, under all that is signed and the login or token that it rests on: whatever of that
//! changes makes another.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use moka::sync::Cache;
use serde::Serialize;
use serde_json::{Value, json};

use super::{UpstreamError, template::GroupFilter, vouch::Evidence};
use crate::{
    identity::{Identity, auth_time},
    oauth::jwt::SigningKey,
    policy::Origin,
    secret::{Fingerprint, FingerprintKey, KeyPairKind, new_key_pair},
    time::Timestamp,
};

/// What a route's application is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    pub header: HeaderName,
    /// What `aud` says.
    pub audience: Box<str>,
    /// From `iat` to `exp`; at most [`LONGEST_LIFE`].
    pub ttl: Duration,
    /// The groups that are told: these, and those that begin so; empty: all.
    pub groups: Vec<GroupFilter>,
    /// A longer token is not sent.
    pub max_bytes: usize,
}

/// No assertion is good for longer.
pub const LONGEST_LIFE: Duration = Duration::from_secs(60);
/// How long whoever checks assertions may keep the keys.
pub const KEYS_MAX_AGE: Duration = Duration::from_secs(300);
/// The `typ` of an assertion, so that no other token passes for one (RFC 8725 §3.11).
const KIND: &str = "vestibule+jwt";

/// Of assertions that are kept.
const SIGNED_BYTES: u64 = 16 * 1024 * 1024;
/// So many keys of earlier configurations are published at most.
const MAX_RETIRED: usize = 16;

/// Signs assertions, and publishes the keys that they are checked with.
pub(super) struct Signer {
    /// The first signs.
    keys: Vec<Arc<SigningKey>>,
    /// Whether the only key was made here, because the file names none.
    is_made: bool,
    retired: Vec<Retired>,
    fingerprints: FingerprintKey,
    signed: Cache<Fingerprint, Signed>,
}

/// A key of an earlier configuration: what it signed is about for a while.
#[derive(Clone)]
struct Retired {
    key: Arc<SigningKey>,
    until: Timestamp,
}

#[derive(Clone)]
struct Signed {
    value: HeaderValue,
    at: Timestamp,
    expires_at: Timestamp,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Without a key given, one is made that lasts as long as the process; reloads keep it.
    pub(super) fn new(given: Vec<SigningKey>, earlier: Option<&Self>, now: Timestamp) -> Self {
        let is_made = given.is_empty();
        let keys = match earlier {
            Some(earlier) if is_made && earlier.is_made => earlier.keys.clone(),
            Some(_) | None if is_made => made().into_iter().map(Arc::new).collect(),
            Some(_) | None => given.into_iter().map(Arc::new).collect(),
        };
        Self {
            retired: earlier.map_or_else(Vec::new, |earlier| earlier.retired_beside(&keys, now)),
            keys,
            is_made,
            fingerprints: FingerprintKey::random(),
            signed: Cache::builder()
                .weigher(|_, signed: &Signed| u32::try_from(signed.value.len().saturating_add(256)).unwrap_or(u32::MAX))
                .max_capacity(SIGNED_BYTES)
                .time_to_live(LONGEST_LIFE)
                .build(),
        }
    }

    /// The keys that were published so far, and are not among these.
    fn retired_beside(&self, keys: &[Arc<SigningKey>], now: Timestamp) -> Vec<Retired> {
        let until = now.plus(LONGEST_LIFE).plus(KEYS_MAX_AGE);
        let latest = self.keys.iter().map(|key| Retired {
            key: key.clone(),
            until,
        });
        let before = self.retired.iter().filter(|retired| now < retired.until).cloned();
        let gone = |retired: &Retired| keys.iter().all(|key| key.id() != retired.key.id());
        latest.chain(before).filter(gone).take(MAX_RETIRED).collect()
    }

    /// The public halves (RFC 7517 §5).
    pub(super) fn published(&self, now: Timestamp) -> Value {
        let retired = self.retired.iter().filter(|retired| now < retired.until);
        let keys = self.keys.iter().chain(retired.map(|retired| &retired.key));
        json!({ "keys": keys.map(|key| key.published()).collect::<Vec<_>>() })
    }

    /// The assertion for this request.
    ///
    /// # Errors
    /// When it is longer than allowed, and when nothing can be signed.
    pub(super) fn assertion(
        &self,
        assertion: &Assertion,
        identity: &Identity,
        origin: &Origin,
        evidence: &Evidence<'_>,
    ) -> Result<HeaderValue, UpstreamError> {
        let issuer = origin.to_string();
        let mut claims = Claims::of(assertion, identity, &issuer);
        let failed = || UpstreamError::Identity(assertion.header.clone());
        let content = serde_json::to_vec(&claims).map_err(|_| failed())?;
        let life = assertion.ttl.as_secs().to_be_bytes();
        let fingerprint = self.fingerprints.of(&[&content, &life, evidence.holder.as_bytes()]);
        let now = evidence.now;
        let good = |signed: &Signed| {
            signed.at <= now && now < signed.expires_at && now.since(signed.at).saturating_mul(2) <= assertion.ttl
        };
        if let Some(signed) = self.signed.get(&fingerprint).filter(good) {
            return Ok(signed.value);
        }
        // What it rests on ends earlier, perhaps.
        let expires_at = now.plus(assertion.ttl).min(identity.expires_at);
        claims.iat = Some(now.unix());
        claims.exp = Some(expires_at.unix());
        let token = self.keys.first().and_then(|key| key.sign(KIND, &claims));
        let token = token
            .filter(|token| token.len() <= assertion.max_bytes)
            .ok_or_else(failed)?;
        let mut value = HeaderValue::try_from(token).map_err(|_| failed())?;
        value.set_sensitive(true);
        let signed = Signed {
            value: value.clone(),
            at: now,
            expires_at,
        };
        self.signed.insert(fingerprint, signed);
        Ok(value)
    }
}

fn made() -> Option<SigningKey> {
    SigningKey::from_pem(new_key_pair(KeyPairKind::Es256).expose())
}

/// What an assertion says; there is no `jti`, because one serves several requests.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    /// Of the configuration.
    provider: &'a str,
    /// Whose `sub` it is: only both together are somebody (OIDC Core §5.7).
    provider_iss: &'a str,
    /// Left out where nobody knows them, which is not the same as none.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// A verified one.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

impl<'a> Claims<'a> {
    /// All but the times.
    fn of(assertion: &'a Assertion, identity: &'a Identity, issuer: &'a str) -> Self {
        let told = |group: &&str| assertion.groups.is_empty() || assertion.groups.iter().any(|some| some.takes(group));
        let claims = &identity.claims;
        Self {
            iss: issuer,
            aud: &assertion.audience,
            sub: identity.subject.as_str(),
            provider: identity.provider.as_str(),
            provider_iss: identity.issuer.as_str(),
            groups: (!identity.groups_unknown)
                .then(|| identity.groups.iter().map(|group| &**group).filter(told).collect()),
            username: identity.username.as_deref(),
            name: claims.text("name"),
            email: identity.email.as_deref(),
            acr: claims.text("acr"),
            amr: claims.member("amr"),
            auth_time: auth_time(claims).map(Timestamp::unix),
            iat: None,
            exp: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::{
        identity::{Claims as IdentityClaims, Issuer, Proof, ProviderId, Scopes, Subject, Words},
        policy::Scheme,
    };

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const MAX: usize = 16 * 1024;

    fn identity() -> Identity {
        Identity {
            provider: ProviderId::new("corp"),
            issuer: Issuer::new("https://id.example.com"),
            subject: Subject::new("1").unwrap(),
            proof: Proof::Session,
            username: Some("ann".into()),
            email: None,
            groups: vec!["staff".into()],
            groups_unknown: false,
            scopes: Scopes::default(),
            claims: IdentityClaims::default(),
            expires_at: NOW.plus(Duration::from_secs(3_600)),
            words: Words::default(),
        }
    }

    fn reports() -> Assertion {
        Assertion {
            header: HeaderName::from_static("x-vestibule-assertion"),
            audience: "reports".into(),
            ttl: LONGEST_LIFE,
            groups: Vec::new(),
            max_bytes: MAX,
        }
    }

    fn signer() -> Signer {
        Signer::new(Vec::new(), None, NOW)
    }

    fn signed(signer: &Signer, assertion: &Assertion, identity: &Identity, holder: &str, at: u64) -> String {
        let origin = Origin {
            scheme: Scheme::Https,
            host: "reports.example.com".into(),
            port: None,
        };
        let evidence = Evidence {
            holder,
            access_token: None,
            now: NOW.plus(Duration::from_secs(at)),
        };
        let value = signer.assertion(assertion, identity, &origin, &evidence).unwrap();
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    }

    fn claims(token: &str) -> Value {
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn one_serves_for_half_of_its_life_and_no_longer() {
        let (signer, ann) = (signer(), identity());
        let at = |seconds| signed(&signer, &reports(), &ann, "session", seconds);
        let first = at(0);
        assert_eq!(at(30), first);
        let second = at(31);
        assert_ne!(second, first);
        assert_eq!(claims(&second)["exp"], NOW.unix() + 91);
        // A clock that was put back makes another, too.
        assert_ne!(at(30), second);
    }

    #[test]
    fn whatever_is_signed_or_rested_on_makes_another() {
        let (signer, ann) = (signer(), identity());
        let first = signed(&signer, &reports(), &ann, "session", 0);
        let changed = |identity: Identity| signed(&signer, &reports(), &identity, "session", 0);
        let others = [
            signed(&signer, &reports(), &ann, "another session", 0),
            signed(
                &signer,
                &Assertion {
                    audience: "wiki".into(),
                    ..reports()
                },
                &ann,
                "session",
                0,
            ),
            signed(
                &signer,
                &Assertion {
                    ttl: Duration::from_secs(30),
                    ..reports()
                },
                &ann,
                "session",
                0,
            ),
            changed(Identity {
                groups: vec!["staff".into(), "admins".into()],
                ..identity()
            }),
            changed(Identity {
                subject: Subject::new("2").unwrap(),
                ..identity()
            }),
            changed(Identity {
                issuer: Issuer::new("https://other.example.com"),
                ..identity()
            }),
            changed(Identity {
                email: Some("ann@example.com".into()),
                ..identity()
            }),
        ];
        for other in &others {
            assert_ne!(*other, first, "{}", claims(other));
        }
        assert_eq!(signed(&signer, &reports(), &ann, "session", 0), first);
    }

    #[test]
    fn none_outlives_what_it_rests_on() {
        let ends = Identity {
            expires_at: NOW.plus(Duration::from_secs(10)),
            ..identity()
        };
        let signer = signer();
        let token = signed(&signer, &reports(), &ends, "session", 0);
        assert_eq!(claims(&token)["exp"], NOW.unix() + 10);
    }

    #[test]
    fn only_some_groups_are_told_and_a_token_that_is_too_long_is_not_sent() {
        let groups = vec![GroupFilter::Exactly("ops".into())];
        let token = signed(&signer(), &Assertion { groups, ..reports() }, &identity(), "session", 0);
        assert_eq!(claims(&token)["groups"], json!([]));
        let elsewhere = Identity {
            groups_unknown: true,
            ..identity()
        };
        let token = signed(&signer(), &reports(), &elsewhere, "session", 0);
        assert_eq!(claims(&token).get("groups"), None);
        let origin = Origin {
            scheme: Scheme::Https,
            host: "a".into(),
            port: None,
        };
        let evidence = Evidence {
            holder: "session",
            access_token: None,
            now: NOW,
        };
        let short = Assertion {
            max_bytes: 100,
            ..reports()
        };
        let refused = signer().assertion(&short, &identity(), &origin, &evidence);
        assert!(matches!(refused, Err(UpstreamError::Identity(_))));
    }

    fn ids(signer: &Signer, at: Timestamp) -> Vec<Value> {
        let published = signer.published(at);
        let keys = published["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].clone()).collect()
    }

    #[test]
    fn a_key_stays_published_for_as_long_as_what_it_signed_may_be_about() {
        let key = || SigningKey::from_pem(new_key_pair(KeyPairKind::Ed25519).expose()).unwrap();
        let (made, given, next) = (signer(), key(), key());
        let [own] = <[Value; 1]>::try_from(ids(&made, NOW)).unwrap();
        let kept = Signer::new(Vec::new(), Some(&made), NOW);
        assert_eq!(ids(&kept, NOW), ids(&made, NOW), "a reload keeps it");

        let [first, second] = [&given, &next].map(|key| Value::from(key.id()));
        let given = Signer::new(vec![given], Some(&kept), NOW);
        assert_eq!(ids(&given, NOW), [first.clone(), own.clone()]);
        let next = Signer::new(vec![next], Some(&given), NOW);
        assert_eq!(ids(&next, NOW), [second.clone(), first, own]);
        assert_eq!(ids(&next, NOW.plus(LONGEST_LIFE).plus(KEYS_MAX_AGE)), [second]);
    }
}
