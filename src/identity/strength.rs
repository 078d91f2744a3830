//! How strongly and how lately somebody has to have logged in (OIDC Core §2, RFC 9470).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Claims;
use crate::time::Timestamp;

/// What is asked of an authentication; what is empty or absent asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strength {
    /// One of these must be the `acr`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<Box<str>>,
    /// One of these must be in the `amr` (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<Box<str>>,
    /// `auth_time` must not be longer ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

/// What an authentication falls short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    Acr,
    Amr,
    MaxAge,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acr => "acr",
            Self::Amr => "amr",
            Self::MaxAge => "max_age",
        })
    }
}

/// How far the provider's clock may be ahead before its `auth_time` counts as none.
const AHEAD: Duration = Duration::from_secs(120);

impl Strength {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first thing that the claims do not show; what they do not say, they do not show.
    pub fn shortfall(&self, claims: &Claims, now: Timestamp) -> Option<Shortfall> {
        if !self.acr_met(claims) {
            return Some(Shortfall::Acr);
        }
        if !self.amr_met(claims) {
            return Some(Shortfall::Amr);
        }
        (!self.age_met(claims, now)).then_some(Shortfall::MaxAge)
    }

    /// What would make up for a shortfall.
    pub fn in_words(&self, shortfall: Shortfall) -> String {
        match shortfall {
            Shortfall::Acr => self.acr.join(" or "),
            Shortfall::Amr => self.amr.join(" or "),
            Shortfall::MaxAge => self
                .max_age
                .map_or_else(String::new, |age| format!("{} s at most", age.as_secs())),
        }
    }

    pub fn acr_met(&self, claims: &Claims) -> bool {
        self.acr.is_empty() || claims.text("acr").is_some_and(|acr| lists(&self.acr, acr))
    }

    pub fn amr_met(&self, claims: &Claims) -> bool {
        let held = || claims.member("amr").and_then(Value::as_array).into_iter().flatten();
        self.amr.is_empty() || held().filter_map(Value::as_str).any(|method| lists(&self.amr, method))
    }

    pub fn age_met(&self, claims: &Claims, now: Timestamp) -> bool {
        let Some(max_age) = self.max_age else { return true };
        auth_time(claims).is_some_and(|at| at <= now.plus(AHEAD) && now.since(at) <= max_age)
    }
}

/// When the person proved who they are (OIDC Core §2).
pub fn auth_time(claims: &Claims) -> Option<Timestamp> {
    claims.member("auth_time")?.as_i64().map(Timestamp::from_unix)
}

fn lists(list: &[Box<str>], value: &str) -> bool {
    list.iter().any(|listed| **listed == *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn claims(value: &Value) -> Claims {
        Claims::from_json(value.to_string().as_bytes()).unwrap()
    }

    fn strength() -> Strength {
        Strength {
            acr: vec!["urn:mfa".into(), "urn:hardware".into()],
            amr: vec!["hwk".into()],
            max_age: Some(Duration::from_secs(900)),
        }
    }

    #[test]
    fn all_that_is_asked_must_be_said() {
        let shortfall = |value| strength().shortfall(&claims(&value), NOW);
        let good = json!({"acr": "urn:mfa", "amr": ["pwd", "hwk"], "auth_time": 1_799_999_100});
        assert_eq!(shortfall(good.clone()), None);
        for (claim, other, missing) in [
            ("acr", json!("urn:password"), Shortfall::Acr),
            ("acr", json!(["urn:mfa"]), Shortfall::Acr),
            ("amr", json!(["pwd"]), Shortfall::Amr),
            ("amr", json!("hwk"), Shortfall::Amr),
            ("auth_time", json!(1_799_999_099), Shortfall::MaxAge),
            ("auth_time", json!("1799999900"), Shortfall::MaxAge),
            ("auth_time", json!(1_800_000_121), Shortfall::MaxAge),
        ] {
            let mut changed = good.clone();
            changed[claim] = other;
            assert_eq!(shortfall(changed.clone()), Some(missing), "{claim} changed");
            changed.as_object_mut().unwrap().remove(claim);
            assert_eq!(shortfall(changed), Some(missing), "{claim} missing");
        }
    }

    #[test]
    fn what_asks_nothing_is_met_by_nobody_in_particular() {
        assert_eq!(Strength::default().shortfall(&Claims::default(), NOW), None);
        assert!(Strength::default().is_empty() && !strength().is_empty());
    }
}
