//! The `allow` and `deny` tables of a route.

use serde_json::Value;

use super::{
    file,
    load::Load,
    read::{At, Field},
    shape::NonEmpty,
    value::ExpressionText,
    vocabulary::nearest,
};
use crate::{
    identity::{ClaimPath, Strength},
    policy::{ClaimRule, Expression, Refusal, Requirements, Side, Wanted, Why},
};

pub(super) fn allow(field: Field<file::Rules>, load: &mut Load<'_>) -> Requirements {
    match field {
        Field::Given(table) => rules(Side::Allow, table, load),
        Field::Absent | Field::Wrong => Requirements::default(),
    }
}

pub(super) fn deny(field: Field<NonEmpty<file::Rules>>, load: &mut Load<'_>) -> Vec<Requirements> {
    let tables = field.into_value().map_or_else(Vec::new, |list| list.0);
    tables.into_iter().map(|table| denied(table, load)).collect()
}

/// Hardly anybody means to deny those who logged in lately, and to let them in again for waiting.
fn denied(table: At<file::Rules>, load: &mut Load<'_>) -> Requirements {
    if let Some(at) = table.value.max_age.at() {
        let message = "`max_age` in a `deny` table denies those who have just logged in";
        load.findings
            .warning(at, message, "write it in the `allow` table, if it should be a limit");
    }
    rules(Side::Deny, table, load)
}

/// A table that asks nothing would allow everybody, or deny nobody: neither is what it looks like.
fn rules(side: Side, table: At<file::Rules>, load: &mut Load<'_>) -> Requirements {
    let At { at, value: rules } = table;
    let kind = word(side);
    if rules.is_empty() {
        load.findings.problem(
            at,
            format!("the `{kind}` table asks for nothing"),
            "name groups, emails, email_domains, subjects, scopes, claims, acr, amr, max_age, cidrs, client_certificates or an expression, or leave the table out",
        );
    }
    stars(&rules, load);
    raw_address(&rules, load);
    Requirements {
        groups: list(rules.groups, Into::into).into(),
        emails: list(rules.emails, |email| email.0.into()),
        email_domains: list(rules.email_domains, |domain| domain.0.into()),
        subjects: list(rules.subjects, |subject| subject.as_str().into()),
        scopes: list(rules.scopes, |scope| scope.0.into_boxed_str())
            .iter()
            .map(|scope| &**scope)
            .collect(),
        claims: claims(rules.claims),
        strength: Strength {
            acr: list(rules.acr, Into::into),
            amr: list(rules.amr, Into::into),
            max_age: rules.max_age.into_value().map(|age| age.0),
        },
        cidrs: rules
            .cidrs
            .into_value()
            .map_or_else(Vec::new, |list| list.values().collect()),
        client_certificates: rules
            .client_certificates
            .into_value()
            .map_or_else(Vec::new, |list| list.values().collect()),
        expression: expression(rules.expression, side, load),
    }
}

/// A star that stands for nothing looks like one that does.
fn stars(rules: &file::Rules, load: &mut Load<'_>) {
    let groups = rules.groups.value().into_iter().flat_map(|list| &list.0);
    for group in groups.filter(|group| group.value.contains('*')) {
        let message = format!("the group \"{}\" is compared as it stands, star and all", group.value);
        let instead = "name each group, or write an `expression`: groups.exists(group, group.startsWith(\"wiki-\"))";
        load.findings.warning(group.at, message, instead);
    }
    let claims = rules.claims.value().into_iter().flat_map(|claims| &claims.0);
    for value in claims.flat_map(|(_, values)| &values.value.0) {
        let text = value.value.as_str().unwrap_or_default();
        if text.strip_suffix('*').unwrap_or(text).contains('*') {
            let message = format!("in \"{text}\" only a star at the end stands for something");
            let instead = "write an `expression`, like claims.role.endsWith(\"-admin\")";
            load.findings.warning(value.at, message, instead);
        }
    }
}

/// `email` among the claims is what somebody typed, until `email_verified` says more.
fn raw_address(rules: &file::Rules, load: &mut Load<'_>) {
    let claims = rules.claims.value().into_iter().flat_map(|claims| &claims.0);
    for (path, _) in claims.filter(|(path, _)| path.value.is_email()) {
        let message = "the claim `email` counts here though nobody verified the address";
        load.findings.warning(
            path.at,
            message,
            "write `emails` or `email_domains`, which ask for that",
        );
    }
}

const fn word(side: Side) -> &'static str {
    match side {
        Side::Allow => "allow",
        Side::Deny => "deny",
    }
}

fn expression(field: Field<ExpressionText>, side: Side, load: &mut Load<'_>) -> Option<Expression> {
    let Field::Given(At { at, value: text }) = field else {
        return None;
    };
    let refused = |refusal: Refusal| {
        let place = match (text.0.contains('\n'), refusal.column) {
            (false, column) => format!("column {column}"),
            (true, column) => format!("line {}, column {column}", refusal.line),
        };
        let message = format!("the `expression` of `{}` {}, at {place}", word(side), refusal.why);
        load.findings.problem(at, message, instead(&refusal.why));
    };
    let expression = Expression::compile(&text.0, side).map_err(refused).ok()?;
    if expression.claims().iter().any(ClaimPath::is_email) {
        let message = "claims.email counts here though nobody verified the address";
        load.findings
            .warning(at, message, "write email, which is there only when it is verified");
    }
    Some(expression)
}

/// What to write instead of what an expression must not have.
fn instead(why: &Why) -> String {
    let nearest_or_all = |name: &str, known: &[&str]| match nearest(name, known) {
        Some(near) => format!("write `{near}`"),
        None => format!("there are {}", known.join(", ")),
    };
    match why {
        Why::TooLong | Why::TooDeep => "say less in it: use the other keys, or a second route or `deny` table".into(),
        Why::Syntax(_) => "see https://cel.dev for the language; strings are quoted, \"and\" is written &&".into(),
        Why::UnknownName(name) => nearest_or_all(name, Expression::NAMES),
        Why::UnknownFunction(name) if name == "matches" => {
            "there are no regular expressions: use startsWith, endsWith or contains".into()
        }
        Why::UnknownFunction(name) => nearest_or_all(name, Expression::FUNCTIONS),
        Why::NestedLoop => "loop over one list, and ask with `in` whether the other one has the element".into(),
        Why::Whole("claims") => "name a claim: claims.department, or claims[\"https://example.com/roles\"]".into(),
        Why::Whole("request") => {
            "name a part of it: request.method, request.host, request.path, request.address".into()
        }
        Why::Whole(list) => {
            format!("write \"name\" in {list}, {list}.exists(each, …), {list}.all(each, …) or size({list})")
        }
        Why::Shadowed(_) => "choose another name for it, like `each`".into(),
        Why::Unsupported(_) => "leave it out".into(),
        Why::Constant => "name what it depends on, or leave it out".into(),
        Why::NotBoolean => "compare it with something".into(),
        Why::TooCostly => "search and loop over fewer lists".into(),
    }
}

impl file::Rules {
    /// Whether no key was even tried.
    fn is_empty(&self) -> bool {
        let claims = self.claims.value().is_none_or(|claims| claims.0.is_empty()) && !self.claims.is_wrong();
        let lists = self.groups.is_absent() && self.emails.is_absent() && self.email_domains.is_absent();
        let names = lists && self.subjects.is_absent() && self.scopes.is_absent();
        let strength = self.acr.is_absent() && self.amr.is_absent() && self.max_age.is_absent();
        claims
            && names
            && strength
            && self.cidrs.is_absent()
            && self.client_certificates.is_absent()
            && self.expression.is_absent()
    }
}

fn list<T>(field: Field<NonEmpty<T>>, text: impl Fn(T) -> Box<str>) -> Vec<Box<str>> {
    let values = field.into_value().map(NonEmpty::values);
    values.into_iter().flatten().map(text).collect()
}

fn claims(field: Field<file::Claims>) -> Vec<ClaimRule> {
    let entries = field.or_default().0;
    let rule = |(path, values): (At<_>, At<NonEmpty<_>>)| ClaimRule {
        path: path.value,
        values: values.value.values().map(wanted).collect(),
    };
    entries.into_iter().map(rule).collect()
}

/// A star at the end stands for any end.
fn wanted(value: Value) -> Wanted {
    match value.as_str().and_then(|text| text.strip_suffix('*')) {
        Some(beginning) => Wanted::Beginning(beginning.into()),
        None => Wanted::Exactly(value),
    }
}
