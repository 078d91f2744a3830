//! What a route asks of an identity: AND between keys, OR within a list.

use std::fmt;

use ipnet::IpNet;
use serde_json::Value;

use crate::{
    certificate::{Certificate, Name},
    identity::{ClaimPath, Identity, Scopes, Strength},
    policy::{Expression, Names, RequestFacts},
    time::Timestamp,
};

/// The keys of an `allow` or a `deny` table; an empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requirements {
    pub groups: Names,
    pub emails: Vec<Box<str>>,
    pub email_domains: Vec<Box<str>>,
    pub subjects: Vec<Box<str>>,
    /// All of them are needed.
    pub scopes: Scopes,
    pub claims: Vec<ClaimRule>,
    /// What a new login can mend.
    pub strength: Strength,
    /// Where the request comes from.
    pub cidrs: Vec<IpNet>,
    /// What the client proved to be in the handshake of TLS.
    pub client_certificates: Vec<Name>,
    pub expression: Option<Expression>,
}

/// A claim must have, or contain, one of these values.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRule {
    pub path: ClaimPath,
    pub values: Vec<Wanted>,
}

/// What a claim is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A string, a number or a boolean.
    Exactly(Value),
    /// `"eng-*"`: a string that begins so.
    Beginning(Box<str>),
}

/// Who asks, from where and when: all that requirements look at.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub identity: &'a Identity,
    pub request: &'a RequestFacts<'a>,
    pub now: Timestamp,
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
    Cidrs,
    ClientCertificates,
    Acr,
    Amr,
    MaxAge,
    Expression,
}

impl Requirement {
    pub const ALL: [Self; 12] = [
        Self::Groups,
        Self::Emails,
        Self::EmailDomains,
        Self::Subjects,
        Self::Scopes,
        Self::Claims,
        Self::Cidrs,
        Self::ClientCertificates,
        Self::Acr,
        Self::Amr,
        Self::MaxAge,
        // Last, because it costs most.
        Self::Expression,
    ];

    /// Whether getting another credential may help, so that it is asked for instead of being denied.
    fn is_obtainable(self) -> bool {
        match self {
            Self::Scopes | Self::Acr | Self::Amr | Self::MaxAge => true,
            Self::Groups
            | Self::Emails
            | Self::EmailDomains
            | Self::Subjects
            | Self::Claims
            | Self::Cidrs
            | Self::ClientCertificates
            | Self::Expression => false,
        }
    }
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
            Self::Cidrs => "cidrs",
            Self::ClientCertificates => "client_certificates",
            Self::Acr => "acr",
            Self::Amr => "amr",
            Self::MaxAge => "max_age",
            Self::Expression => "expression",
        })
    }
}

impl Requirements {
    /// The first key that is not met and that no other credential of the same person would meet.
    pub fn first_unmet(&self, case: Case<'_>) -> Option<Requirement> {
        self.verdicts(case)
            .find(|(requirement, met)| !met && !requirement.is_obtainable())
            .map(|(requirement, _)| requirement)
    }

    pub fn scopes_held(&self, identity: &Identity) -> bool {
        self.scopes.iter().all(|scope| identity.scopes.contains(scope))
    }

    /// Whether the table asks for something and all of it is met: when a `deny` table applies.
    pub fn all_apply(&self, case: Case<'_>) -> bool {
        let applies = |(requirement, met)| met || self.is_unknown(requirement, case);
        !self.is_empty() && self.verdicts(case).all(applies)
    }

    /// Whether nobody knows if it is met, because the provider keeps elsewhere what it looks at (OIDC Core §5.6.2).
    /// Then nothing is allowed for it, and everything denied.
    pub fn is_unknown(&self, requirement: Requirement, case: Case<'_>) -> bool {
        let elsewhere = |rule: &ClaimRule| case.identity.claims.is_elsewhere(&rule.path);
        match requirement {
            Requirement::Groups => case.identity.groups_unknown,
            Requirement::Claims => {
                let known = self.claims.iter().filter(|rule| !elsewhere(rule));
                self.claims.iter().any(elsewhere) && { known }.all(|rule| rule.is_met(case.identity))
            }
            Requirement::Emails | Requirement::EmailDomains => self.may_be_listed(requirement, case.identity),
            Requirement::Subjects
            | Requirement::Scopes
            | Requirement::Cidrs
            | Requirement::ClientCertificates
            | Requirement::Acr
            | Requirement::Amr
            | Requirement::MaxAge
            // It has its own word for that.
            | Requirement::Expression => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every key that asks for something, with whether it is met.
    pub fn verdicts(&self, case: Case<'_>) -> impl Iterator<Item = (Requirement, bool)> {
        let asked = Requirement::ALL
            .into_iter()
            .filter(|requirement| self.asks(*requirement));
        asked.map(move |requirement| (requirement, self.is_met(requirement, case)))
    }

    fn asks(&self, requirement: Requirement) -> bool {
        match requirement {
            Requirement::Groups => !self.groups.is_empty(),
            Requirement::Emails => !self.emails.is_empty(),
            Requirement::EmailDomains => !self.email_domains.is_empty(),
            Requirement::Subjects => !self.subjects.is_empty(),
            Requirement::Scopes => !self.scopes.is_empty(),
            Requirement::Claims => !self.claims.is_empty(),
            Requirement::Cidrs => !self.cidrs.is_empty(),
            Requirement::ClientCertificates => !self.client_certificates.is_empty(),
            Requirement::Acr => !self.strength.acr.is_empty(),
            Requirement::Amr => !self.strength.amr.is_empty(),
            Requirement::MaxAge => self.strength.max_age.is_some(),
            Requirement::Expression => self.expression.is_some(),
        }
    }

    fn is_met(&self, requirement: Requirement, case: Case<'_>) -> bool {
        let identity = case.identity;
        match requirement {
            Requirement::Groups => self.groups.has_any(&identity.groups),
            Requirement::Emails => self.email_listed(identity),
            Requirement::EmailDomains => self.email_domain_listed(identity),
            Requirement::Subjects => self.subject_listed(identity),
            Requirement::Scopes => self.scopes_held(identity),
            Requirement::Claims => self.claims.iter().all(|rule| rule.is_met(identity)),
            Requirement::Cidrs => self.cidrs.iter().any(|network| network.contains(&case.request.address)),
            Requirement::ClientCertificates => self.certificate_listed(case.request.certificate),
            Requirement::Acr => self.strength.acr_met(&identity.claims),
            Requirement::Amr => self.strength.amr_met(&identity.claims),
            Requirement::MaxAge => self.strength.age_met(&identity.claims, case.now),
            Requirement::Expression => self
                .expression
                .as_ref()
                .is_none_or(|expression| expression.is_met(case)),
        }
    }

    /// Whether an address that does not count, or that somebody else keeps, may be a listed one.
    fn may_be_listed(&self, requirement: Requirement, identity: &Identity) -> bool {
        let Some(Value::String(claimed)) = identity.claims.member("email") else {
            return identity.claims.is_said_to_be_elsewhere(&ClaimPath::email());
        };
        let claimed = claimed.trim_end_matches('.');
        let domain = claimed.rsplit_once('@').map(|(_, domain)| domain);
        match requirement {
            Requirement::EmailDomains => self
                .email_domains
                .iter()
                .any(|listed| domain.is_some_and(|domain| listed.eq_ignore_ascii_case(domain))),
            _ => self.emails.iter().any(|listed| listed.eq_ignore_ascii_case(claimed)),
        }
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

    /// No certificate is none of them.
    fn certificate_listed(&self, certificate: Option<&Certificate>) -> bool {
        let is_listed =
            |certificate: &Certificate| self.client_certificates.iter().any(|name| certificate.is_called(name));
        certificate.is_some_and(is_listed)
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
    pub(super) fn is_met(&self, identity: &Identity) -> bool {
        match identity.claims.at(&self.path) {
            Some(Value::Array(members)) => members.iter().any(|member| self.lists(member)),
            Some(value) => self.lists(value),
            None => false,
        }
    }

    fn lists(&self, value: &Value) -> bool {
        self.values.iter().any(|wanted| wanted.is(value))
    }
}

impl Wanted {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Exactly(wanted) => {
                let scalar = value.is_string() || value.is_boolean() || value.is_number();
                scalar && wanted == value
            }
            Self::Beginning(beginning) => value.as_str().is_some_and(|text| text.starts_with(&**beginning)),
        }
    }
}
