//! Why a decision is what it is, for people who ask. What is decided, only [`super::decide`] knows.

use std::fmt;

use serde_json::Value;

use super::{
    Case, ClaimRule, Host, Lookup, Path, RequestFacts, Requirement, Requirements, Route, RouteUrl, Routes, Wanted,
};
use crate::{
    certificate::Name,
    identity::{Shortfall, auth_time},
};

/// A URL of a route, and what it has to do with a request.
#[derive(Debug)]
pub struct Candidate<'a> {
    pub route: &'a Route,
    pub url: &'a RouteUrl,
    pub standing: Standing,
}

/// Why a route has a request, or has it not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Taken,
    OtherHost,
    OtherPath,
    OtherMethod,
    /// Another one names the host or the path more exactly, or the method at all.
    LessExact,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "taken",
            Self::OtherHost => "another host",
            Self::OtherPath => "another path",
            Self::OtherMethod => "not for this method",
            Self::LessExact => "fits, but less exactly",
        })
    }
}

/// One thing that is asked, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub requirement: Requirement,
    pub met: bool,
    pub wanted: String,
    pub found: String,
}

impl Routes {
    /// Every URL of every route, in the order of the table.
    pub fn candidates(&self, request: &RequestFacts<'_>) -> Vec<Candidate<'_>> {
        let taken = match self.find(request) {
            Lookup::Found(route) => Some(route.id),
            Lookup::MethodNotAllowed(_) | Lookup::NotFound => None,
        };
        let urls = self
            .iter()
            .flat_map(|route| route.urls.iter().map(move |url| (route, url)));
        let mut candidates: Vec<_> = urls
            .map(|(route, url)| Candidate {
                route,
                url,
                standing: standing(route, url, request),
            })
            .collect();
        // Of several URLs of the route, the most exact one is the one that counts.
        let mut fitting = candidates
            .iter_mut()
            .filter(|candidate| Some(candidate.route.id) == taken && candidate.standing == Standing::LessExact)
            .collect::<Vec<_>>();
        fitting.sort_by_key(|candidate| std::cmp::Reverse(candidate.url.exactness()));
        if let Some(candidate) = fitting.first_mut() {
            candidate.standing = Standing::Taken;
        }
        candidates
    }
}

fn standing(route: &Route, url: &RouteUrl, request: &RequestFacts<'_>) -> Standing {
    let methods = route.methods.as_ref();
    if !url.is_at(request.host, request.port) {
        Standing::OtherHost
    } else if !url.holds(request.path) {
        Standing::OtherPath
    } else if methods.is_some_and(|methods| !methods.contains(request.method)) {
        Standing::OtherMethod
    } else {
        Standing::LessExact
    }
}

impl RouteUrl {
    fn is_at(&self, host: &str, port: Option<u16>) -> bool {
        let default = self.scheme.default_port();
        let same_host = match &self.host {
            Host::Exact(exact) => **exact == *host,
            Host::Wildcard(domain) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && *rest == **domain),
        };
        same_host && port.unwrap_or(default) == self.port.unwrap_or(default)
    }

    fn holds(&self, path: &str) -> bool {
        match &self.path {
            Path::Exact(exact) => **exact == *path,
            Path::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    fn exactness(&self) -> (bool, bool, usize) {
        let exact_host = matches!(self.host, Host::Exact(_));
        match &self.path {
            Path::Exact(path) => (exact_host, true, path.len()),
            Path::Prefix(prefix) => (exact_host, false, prefix.len()),
        }
    }
}

/// One thing that is asked, and whether it is met; not what was found.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    pub requirement: Requirement,
    /// Of a claim, the rule that asks for it.
    pub claim: Option<&'a ClaimRule>,
    pub met: bool,
}

impl Requirements {
    /// What the table asks, one by one; each claim for itself.
    pub fn checks<'a>(&'a self, case: Case<'a>) -> impl Iterator<Item = Check<'a>> {
        self.verdicts(case).flat_map(move |(requirement, met)| {
            let claims = match requirement {
                Requirement::Claims => &*self.claims,
                _ => &[],
            };
            let whole = claims.is_empty().then_some(Check {
                requirement,
                claim: None,
                met,
            });
            let each = claims.iter().map(move |rule| Check {
                requirement,
                claim: Some(rule),
                met: rule.is_met(case.identity),
            });
            whole.into_iter().chain(each)
        })
    }

    /// The same, with what was found.
    pub fn findings(&self, case: Case<'_>) -> Vec<Finding> {
        let finding = |check: Check<'_>| match check.claim {
            Some(rule) => claim(rule, case),
            None => Finding {
                requirement: check.requirement,
                met: check.met,
                wanted: self.wanted(check.requirement),
                found: self.found(check.requirement, case),
            },
        };
        self.checks(case).map(finding).collect()
    }

    fn found(&self, requirement: Requirement, case: Case<'_>) -> String {
        match &self.expression {
            Some(expression) if requirement == Requirement::Expression => match expression.verdict(case) {
                Ok(verdict) => verdict.to_string(),
                Err(uncertain) => format!("nothing certain: {uncertain}"),
            },
            Some(_) | None => found(requirement, case),
        }
    }

    /// What would meet a requirement, in words; nothing of claims, which have a rule each.
    pub fn wanted(&self, requirement: Requirement) -> String {
        match requirement {
            Requirement::Groups => self.groups.join(" or "),
            Requirement::Emails => self.emails.join(" or "),
            Requirement::EmailDomains => self.email_domains.join(" or "),
            Requirement::Subjects => self.subjects.join(" or "),
            Requirement::Scopes => self.scopes.iter().collect::<Vec<_>>().join(" and "),
            Requirement::Claims => String::new(),
            Requirement::Cidrs => listed(&self.cidrs),
            Requirement::ClientCertificates => {
                let names: Vec<&str> = self.client_certificates.iter().map(Name::as_str).collect();
                names.join(" or ")
            }
            Requirement::Acr => self.strength.in_words(Shortfall::Acr),
            Requirement::Amr => self.strength.in_words(Shortfall::Amr),
            Requirement::Expression => self
                .expression
                .as_ref()
                .map_or_else(String::new, |expression| expression.source().into()),
            Requirement::MaxAge => self.strength.in_words(Shortfall::MaxAge),
        }
    }
}

fn claim(rule: &ClaimRule, case: Case<'_>) -> Finding {
    let wanted: Vec<String> = rule.values.iter().map(Wanted::to_string).collect();
    let value = case.identity.claims.at(&rule.path);
    Finding {
        requirement: Requirement::Claims,
        met: rule.is_met(case.identity),
        wanted: format!("{} = {}", rule.path, wanted.join(" or ")),
        found: value.map_or_else(nothing, Value::to_string),
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::Beginning(beginning) => write!(f, "\"{beginning}…\""),
        }
    }
}

fn found(requirement: Requirement, case: Case<'_>) -> String {
    let identity = case.identity;
    let text = |text: Option<&str>| text.map_or_else(nothing, str::to_owned);
    match requirement {
        Requirement::Groups if identity.groups_unknown => "what the provider keeps elsewhere".into(),
        Requirement::Groups if identity.groups.is_empty() => nothing(),
        Requirement::Groups => identity.groups.join(", "),
        Requirement::Emails | Requirement::EmailDomains => match (&identity.email, identity.claims.text("email")) {
            (Some(email), _) => email.to_string(),
            (None, Some(email)) => format!("{email}, which is not verified"),
            (None, None) => nothing(),
        },
        Requirement::Subjects => identity.subject.to_string(),
        Requirement::Scopes if identity.scopes.is_empty() => nothing(),
        Requirement::Scopes => identity.scopes.to_string(),
        Requirement::Claims | Requirement::Expression => String::new(),
        Requirement::Cidrs => case.request.address.to_string(),
        Requirement::ClientCertificates => match case.request.certificate {
            Some(certificate) => certificate.names().collect::<Vec<_>>().join(", "),
            None => "no certificate".into(),
        },
        Requirement::Acr => text(identity.claims.text("acr")),
        Requirement::Amr => identity.claims.member("amr").map_or_else(nothing, Value::to_string),
        Requirement::MaxAge => match auth_time(&identity.claims) {
            Some(at) => format!("{} s ago", case.now.since(at).as_secs()),
            None => "no auth_time".into(),
        },
    }
}

fn nothing() -> String {
    "nothing".into()
}

fn listed(list: &[impl ToString]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
