//! What a route asks of an identity: AND between keys, OR within a list.

use std::fmt;

use serde_json::Value;

use crate::identity::{ClaimPath, Identity, Scopes};

/// The keys of an `allow` or a `deny` table; an empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requirements {
    pub groups: Vec<Box<str>>,
    pub emails: Vec<Box<str>>,
    pub email_domains: Vec<Box<str>>,
    pub subjects: Vec<Box<str>>,
    /// All of them are needed.
    pub scopes: Scopes,
    pub claims: Vec<ClaimRule>,
}

/// A claim must have, or contain, one of these values.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRule {
    pub path: ClaimPath,
    /// Strings, numbers or booleans.
    pub values: Vec<Value>,
}

/// A key of the table, for the reason of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    Groups,
    Emails,
    EmailDomains,
    Subjects,
    Scopes,
    Claims,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Groups => "groups",
            Self::Emails => "emails",
            Self::EmailDomains => "email_domains",
            Self::Subjects => "subjects",
            Self::Scopes => "scopes",
            Self::Claims => "claims",
        })
    }
}

impl Requirements {
    /// The first key, other than `scopes`, that the identity does not meet.
    pub fn first_unmet(&self, identity: &Identity) -> Option<Requirement> {
        self.verdicts(identity)
            .find(|(requirement, met)| !met && *requirement != Requirement::Scopes)
            .map(|(requirement, _)| requirement)
    }

    pub fn scopes_held(&self, identity: &Identity) -> bool {
        self.scopes.iter().all(|scope| identity.scopes.contains(scope))
    }

    /// Whether the table asks for something and the identity meets all of it: when a `deny` table applies.
    pub fn all_apply(&self, identity: &Identity) -> bool {
        !self.is_empty() && self.verdicts(identity).all(|(_, met)| met)
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every key that asks for something, with whether the identity meets it.
    pub fn verdicts(&self, identity: &Identity) -> impl Iterator<Item = (Requirement, bool)> {
        let asked = |requirement, list: &[Box<str>], met: bool| (!list.is_empty()).then_some((requirement, met));
        [
            asked(Requirement::Groups, &self.groups, self.group_held(identity)),
            asked(Requirement::Emails, &self.emails, self.email_listed(identity)),
            asked(
                Requirement::EmailDomains,
                &self.email_domains,
                self.email_domain_listed(identity),
            ),
            asked(Requirement::Subjects, &self.subjects, self.subject_listed(identity)),
            (!self.scopes.is_empty()).then(|| (Requirement::Scopes, self.scopes_held(identity))),
            (!self.claims.is_empty()).then(|| (Requirement::Claims, self.claims.iter().all(|rule| rule.met(identity)))),
        ]
        .into_iter()
        .flatten()
    }

    fn group_held(&self, identity: &Identity) -> bool {
        self.groups.iter().any(|group| identity.groups.contains(group))
    }

    fn email_listed(&self, identity: &Identity) -> bool {
        let Some(email) = &identity.email else { return false };
        self.emails.iter().any(|listed| listed.eq_ignore_ascii_case(email))
    }

    fn email_domain_listed(&self, identity: &Identity) -> bool {
        let Some(domain) = identity.email.as_deref().and_then(domain) else {
            return false;
        };
        self.email_domains
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(domain))
    }

    fn subject_listed(&self, identity: &Identity) -> bool {
        self.subjects
            .iter()
            .any(|listed| **listed == *identity.subject.as_str())
    }
}

/// What follows the one `@`; an address with several has no domain that two programs agree on.
fn domain(email: &str) -> Option<&str> {
    let (local, domain) = email.split_once('@')?;
    (!local.is_empty() && !domain.is_empty() && !domain.contains('@')).then_some(domain)
}

impl ClaimRule {
    fn met(&self, identity: &Identity) -> bool {
        match identity.claims.at(&self.path) {
            Some(Value::Array(members)) => members.iter().any(|member| self.lists(member)),
            Some(value) => self.lists(value),
            None => false,
        }
    }

    fn lists(&self, value: &Value) -> bool {
        let scalar = value.is_string() || value.is_boolean() || value.is_number();
        scalar && self.values.contains(value)
    }
}
