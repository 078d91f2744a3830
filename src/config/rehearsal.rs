//! The `[[test]]` tables: requests that nobody sends, and what must become of them.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use http::{HeaderName, Method};
use serde_json::{Map, Value, json};
use toml::de::DeValue;
use url::Url;

use super::{
    file::{self, Auth},
    load::{Load, Table},
    provider::Offer,
    read::{At, Field, FromText, Node, Place, Read, Wrong, as_table, mistyped, wrong},
    report::Findings,
};
use crate::{
    certificate::Certificate,
    identity::{Claims, Proof, ProviderId},
    policy::Client,
};

/// A request that is rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    pub method: Method,
    /// Scheme, host, path and query.
    pub url: Url,
    /// Absent: nobody.
    pub person: Option<Person>,
    pub client: Client,
    pub address: IpAddr,
    /// What the client presents; absent: nothing.
    pub certificate: Option<Certificate>,
}

/// Who sends it.
#[derive(Clone, Debug)]
pub struct Person {
    pub claims: Claims,
    /// Absent: the first provider of the route.
    pub provider: Option<ProviderId>,
    /// Absent: the first way that the route takes.
    pub proof: Option<Proof>,
    pub login_age: Option<Duration>,
}

/// One `[[test]]` table.
#[derive(Clone, Debug)]
pub struct Test {
    /// Where the table stands.
    pub line: usize,
    pub rehearsal: Rehearsal,
    pub expectation: Expectation,
    pub upstream_headers: Vec<(HeaderName, String)>,
}

/// What must become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    Allow,
    Login,
    Status(u16),
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Login => f.write_str("login"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

pub(super) fn tests(field: Field<Vec<At<file::Test>>>, offers: &[Offer], text: &str, load: &mut Load<'_>) -> Vec<Test> {
    let tables = field.into_value().unwrap_or_default();
    let tests = tables.into_iter().filter_map(|table| {
        let line = table.at.line(text);
        test(table, line, offers, load)
    });
    tests.collect()
}

fn test(table: At<file::Test>, line: usize, offers: &[Offer], load: &mut Load<'_>) -> Option<Test> {
    let here = Table::new("test", table.at);
    let table = table.value;
    let asked = load.required(&here, "request", table.request, Asked::EXAMPLE);
    let expectation = load.required(&here, "expect", table.expect, "\"allow\"");
    let provider = match table.provider {
        Field::Given(name) => Some(known(&name, offers, load)?),
        Field::Absent | Field::Wrong => None,
    };
    let proof = match table.credential.into_value() {
        Some(Auth::Session) => Some(Proof::Session),
        Some(Auth::Bearer) => Some(Proof::AccessToken),
        Some(Auth::Public) | None => None,
    };
    let login_age = table.login_age.into_value();
    let person = table.r#as.into_value().map(|claims| Person {
        claims: claims.0,
        provider,
        proof,
        login_age,
    });
    let headers = table.upstream_headers.or_default().0;
    let certificate = table.certificate.into_value();
    let certificate = certificate.map(|names| Certificate::called(names.0.into_iter().map(|name| name.value)));
    let Asked { method, url } = asked?;
    Some(Test {
        line,
        rehearsal: Rehearsal {
            method,
            url,
            person,
            client: table.client.or(Client::Navigation),
            address: table.address.or(Ipv4Addr::LOCALHOST.into()),
            certificate,
        },
        expectation: expectation?,
        upstream_headers: headers
            .into_iter()
            .map(|(name, value)| (name.value, value.value))
            .collect(),
    })
}

fn known(name: &At<String>, offers: &[Offer], load: &mut Load<'_>) -> Option<ProviderId> {
    let found = offers.iter().find(|offer| offer.id.as_str() == name.value);
    if found.is_none() {
        let message = format!("there is no provider `{}`", name.value);
        load.findings
            .problem(name.at, message, "name one that has a [provider.NAME] table");
    }
    found.map(|offer| offer.id.clone())
}

/// Method and URL, as in `"GET https://wiki.example.com/page"`; without a method it is GET.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub url: Url,
}

impl FromText for Asked {
    const EXAMPLE: &'static str = "\"GET https://wiki.example.com/page\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let (method, url) = text.split_once(' ').unwrap_or(("GET", text));
        Self::read(method, url).ok_or_else(|| {
            let instead = format!("write a method and an absolute URL, like {}", Self::EXAMPLE);
            wrong(format!("is not a request: \"{text}\""), instead)
        })
    }
}

impl Asked {
    /// `None` for what is no method, or no absolute http or https URL.
    pub fn read(method: &str, url: &str) -> Option<Self> {
        let plain = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let url = Url::parse(url).ok()?;
        let has_site = url.has_host() && matches!(url.scheme(), "http" | "https");
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        (plain && has_site).then_some(Self { method, url })
    }
}

/// A table of claims, as a provider would write them in JSON.
#[derive(Clone, Debug)]
pub(super) struct Claimed(Claims);

impl Read for Claimed {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        as_table(node, place, findings)?;
        let json = json_of(node).filter(Value::is_object);
        if json.is_none() {
            mistyped(node, place, "a table of claims", "{ sub = \"ann\" }", findings);
        }
        let claims = json.and_then(|json| Claims::from_json(json.to_string().as_bytes()).ok());
        claims.map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "object" })
    }
}

/// What JSON can say.
fn json_of(node: &Node<'_>) -> Option<Value> {
    match node.get_ref() {
        DeValue::String(text) => Some(Value::from(&**text)),
        DeValue::Boolean(value) => Some(Value::from(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(Value::from),
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(serde_json::Number::from_f64)?;
            Some(Value::Number(number))
        }
        DeValue::Datetime(_) => None,
        DeValue::Array(members) => members
            .iter()
            .map(json_of)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        DeValue::Table(table) => {
            let member = |(name, value): (&toml::Spanned<_>, _)| -> Option<(String, Value)> {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                Some((name.to_string(), json_of(value)?))
            };
            table
                .iter()
                .map(member)
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object)
        }
    }
}

impl FromText for IpAddr {
    const EXAMPLE: &'static str = "\"10.0.0.7\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        text.parse()
            .map_err(|_| wrong(format!("is not an address: \"{text}\""), "write one like \"10.0.0.7\""))
    }
}
