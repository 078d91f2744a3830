//! `vestibule explain`: what would become of a request, and why.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use http::HeaderName;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use super::{
    No,
    admin::harmless_words,
    rehearsal::{Outcome, Told, Verdict, rehearse},
};
use crate::{
    certificate::Certificate,
    config::{
        self, Settings,
        rehearsal::{Asked, Person, Rehearsal},
    },
    identity::{Claims, Proof, ProviderId},
    policy::{Access, Challenge, Client, Decision, Denial, Finding, Standing},
    time::{Clock, SystemClock},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration, in TOML.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Method and URL: `GET https://wiki.example.com/page`; GET may be left out.
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    request: Vec<String>,
    /// Who asks: a JSON file with the claims that the provider would send. Without it, nobody.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    claims: Option<PathBuf>,
    /// Who asks: a file with a JWT, of which the claims are read and nothing is checked.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Whose claims they are; otherwise the provider whose issuer they name, or the first of the route.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// What proves them; otherwise a token for --token, and a session for --claims where the route takes one.
    #[arg(long, value_name = "KIND")]
    credential: Option<Credential>,
    /// Who waits for the answer.
    #[arg(long, value_name = "KIND", default_value = "browser")]
    client: Waiting,
    /// What the client presents when it connects: a file with a certificate in PEM. Without it, nothing.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Where the request comes from.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Credential {
    Session,
    Bearer,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Waiting {
    Browser,
    Script,
    Websocket,
    Preflight,
}

pub(super) fn explain(options: &Options) -> Result<(), No> {
    let now = SystemClock.now();
    let settings = config::load(&options.config, now)?;
    let rehearsal = rehearsal(options, &settings)?;
    let outcome = rehearse(&settings, &rehearsal, now);
    let text = match options.json {
        true => format!("{:#}\n", as_json(&outcome)),
        false => in_words(&rehearsal, &outcome, &settings),
    };
    write!(io::stdout(), "{text}")?;
    Ok(())
}

fn rehearsal(options: &Options, settings: &Settings) -> Result<Rehearsal, No> {
    let (method, url) = match options.request.as_slice() {
        [method, url] => (method.as_str(), url.as_str()),
        [url] => ("GET", url.as_str()),
        _ => ("", ""),
    };
    let refused = || {
        No::Refused(format!(
            "{method} {url} is no request; write it like GET https://wiki.example.com/page"
        ))
    };
    let Asked { method, url } = Asked::read(method, url).ok_or_else(refused)?;
    Ok(Rehearsal {
        method,
        url,
        person: person(options, settings)?,
        client: match options.client {
            Waiting::Browser => Client::Navigation,
            Waiting::Script => Client::Programmatic,
            Waiting::Websocket => Client::WebSocket,
            Waiting::Preflight => Client::Preflight,
        },
        address: options.address,
        certificate: options.certificate.as_deref().map(certificate).transpose()?,
    })
}

/// The first certificate of a file; nobody verifies it here.
fn certificate(path: &Path) -> Result<Certificate, No> {
    let refused = || No::Refused(format!("{} holds no certificate in PEM", path.display()));
    let der = CertificateDer::from_pem_slice(&read(path)?).map_err(|_| refused())?;
    Certificate::from_der(&der).map_err(|_| refused())
}

fn person(options: &Options, settings: &Settings) -> Result<Option<Person>, No> {
    let (claims, default) = match (&options.claims, &options.token) {
        (Some(path), _) => (claims_of(path, &read(path)?)?, None),
        (None, Some(path)) => (
            claims_of(path, &payload(path, &read(path)?)?)?,
            Some(Proof::AccessToken),
        ),
        (None, None) => return Ok(None),
    };
    let proof = options.credential.map(|credential| match credential {
        Credential::Session => Proof::Session,
        Credential::Bearer => Proof::AccessToken,
    });
    let by_issuer = claims.text("iss").and_then(|issuer| {
        let known = settings
            .providers
            .iter()
            .find(|provider| provider.issuer.as_str() == issuer);
        known.map(|provider| provider.id.clone())
    });
    let named = options.provider.as_deref().map(ProviderId::new);
    if let Some(named) = named
        .as_ref()
        .filter(|named| settings.providers.iter().all(|known| known.id != **named))
    {
        return Err(No::Refused(format!("the file has no provider `{named}`")));
    }
    Ok(Some(Person {
        claims,
        provider: named.or(by_issuer),
        proof: proof.or(default),
        login_age: None,
    }))
}

fn read(path: &Path) -> Result<Vec<u8>, No> {
    fs::read(path).map_err(|error| No::Unreadable {
        path: path.display().to_string(),
        error,
    })
}

fn claims_of(path: &Path, json: &[u8]) -> Result<Claims, No> {
    let refused = |error| No::Refused(format!("{} holds no claims: {error}", path.display()));
    Claims::from_json(json).map_err(refused)
}

/// The middle part of a JWT; its signature is for the gateway to check.
fn payload(path: &Path, token: &[u8]) -> Result<Vec<u8>, No> {
    let text = String::from_utf8_lossy(token);
    let payload = text
        .trim()
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    payload.ok_or_else(|| No::Refused(format!("{} holds no JWT", path.display())))
}

fn in_words(rehearsal: &Rehearsal, outcome: &Outcome<'_>, settings: &Settings) -> String {
    let mut text = format!("{} {}\n\nRoutes\n", rehearsal.method, rehearsal.url);
    for candidate in &outcome.candidates {
        let mark = if candidate.standing == Standing::Taken {
            "→"
        } else {
            " "
        };
        let _ = writeln!(
            text,
            "  {mark} {:<16} {}  ({})",
            candidate.route.name, candidate.url, candidate.standing
        );
    }
    text.push_str("\nWho\n");
    let _ = writeln!(text, "    {}", who(outcome));
    if let Some(certificate) = &rehearsal.certificate {
        let names: Vec<&str> = certificate.names().collect();
        let _ = writeln!(
            text,
            "    with a certificate that is called {}",
            harmless_words(&names.join(", "))
        );
    }
    for (title, findings) in outcome.tables() {
        let _ = writeln!(text, "\n{title}");
        for finding in findings {
            let mark = if finding.met { "✓" } else { "✗" };
            let _ = writeln!(
                text,
                "  {mark} {}: wanted {}; found {}",
                finding.requirement,
                harmless_words(&finding.wanted),
                harmless_words(&finding.found)
            );
        }
    }
    let _ = writeln!(text, "\nAnswer\n    {}", outcome.word());
    for reason in outcome.reasons() {
        let _ = writeln!(text, "    {}", harmless_words(&reason));
    }
    if outcome.is_allowed() {
        text.push_str(&headers(outcome, settings));
    }
    text
}

fn headers(outcome: &Outcome<'_>, settings: &Settings) -> String {
    let mut text = String::from("\nThe application is told\n");
    for (name, told) in &outcome.headers {
        let _ = match told {
            Told::Value(value) => writeln!(text, "    {name}: {}", harmless_words(value)),
            Told::Secret(words) => writeln!(text, "    {name}: {words}"),
            Told::Missing => writeln!(text, "    no {name}: the claim is missing"),
            Told::Unwritable => writeln!(text, "    {name} cannot hold the claim: the request would fail"),
        };
    }
    if outcome.headers.is_empty() {
        text.push_str("    nothing about who comes\n");
    }
    let mut stripped: Vec<&str> = settings.scrub.identity_headers.iter().map(HeaderName::as_str).collect();
    stripped.sort_unstable();
    let _ = writeln!(
        text,
        "\nTaken out of the request, in every spelling\n    {}, and the families that gateways are known to send",
        stripped.join(", ")
    );
    text
}

fn who(outcome: &Outcome<'_>) -> String {
    let is_public = outcome
        .route
        .is_some_and(|route| matches!(route.access, Access::Public));
    match &outcome.identity {
        _ if is_public => "nobody is asked for: the route is public".into(),
        None => "nobody".into(),
        Some(identity) => {
            let proof = match identity.proof {
                Proof::Session => "a session",
                Proof::AccessToken => "an access token",
            };
            let name = harmless_words(identity.username.as_deref().unwrap_or(identity.subject.as_str()));
            format!(
                "{name} (sub {}), by {proof} of `{}`",
                identity.subject, identity.provider
            )
        }
    }
}

impl Outcome<'_> {
    fn tables(&self) -> Vec<(String, &[Finding])> {
        let allow = (!self.allow.is_empty()).then(|| ("[allow]: all of it is needed".to_owned(), &*self.allow));
        let deny = self.deny.iter().enumerate().map(|(index, findings)| {
            let title = format!("[[deny]] {}: denied where all of it is so", index.saturating_add(1));
            (title, &**findings)
        });
        allow.into_iter().chain(deny).collect()
    }

    /// Why the answer is what it is.
    pub(super) fn reasons(&self) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match &self.verdict {
            Verdict::Ambiguous(why) => vec![format!("the request is ambiguous: {why}")],
            Verdict::Reserved => one("the path is the gateway's own: it answers itself"),
            Verdict::NoRoute => one("no route is at this host and path"),
            Verdict::MethodNotAllowed => one("the route that has this path does not take this method"),
            Verdict::Decided(Decision::Allow(_)) if self.unwritable().next().is_some() => {
                let failing = |name| format!("it may pass, but {name} cannot hold the claim, so the request fails");
                self.unwritable().map(failing).collect()
            }
            Verdict::Decided(decision) => decided(decision, &self.allow),
        }
    }
}

fn decided(decision: &Decision, allow: &[Finding]) -> Vec<String> {
    let unmet = || {
        let unmet = allow.iter().filter(|finding| !finding.met);
        unmet
            .map(|finding| {
                format!(
                    "{} is not met: wanted {}; found {}",
                    finding.requirement, finding.wanted, finding.found
                )
            })
            .collect::<Vec<_>>()
    };
    match decision {
        Decision::Allow(permit) => match permit.refusal() {
            Some(refusal) => {
                let would = format!(
                    "only because the route is in the shadow: it would be {}",
                    refusal.word()
                );
                [vec![would], decided(refusal, allow)].concat()
            }
            None => Vec::new(),
        },
        Decision::Login(demand) => {
            let names: Vec<&str> = demand.providers.iter().map(ProviderId::as_str).collect();
            let mut reasons = vec![format!("sent to log in at {}", names.join(" or "))];
            reasons.extend(unmet());
            reasons
        }
        Decision::Challenge(Challenge::TokenMissing) => vec!["a credential is missing".into()],
        Decision::Challenge(Challenge::InvalidRequest) => vec!["the credential cannot be read".into()],
        Decision::Challenge(Challenge::InvalidToken(error)) => vec![format!("the credential does not count: {error}")],
        Decision::Challenge(Challenge::InsufficientScope(_) | Challenge::InsufficientAuthentication(_))
        | Decision::Deny(Denial::Unmet(_) | Denial::Unknown(_)) => unmet(),
        Decision::Deny(Denial::Rule(index)) => {
            vec![format!("the {}. [[deny]] table applies", index.saturating_add(1))]
        }
        Decision::Deny(Denial::CrossSite) => vec!["a page of another site asks".into()],
        Decision::Deny(Denial::NoCertificate) => {
            vec!["the route asks for a client certificate, and there is none".into()]
        }
    }
}

fn as_json(outcome: &Outcome<'_>) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "requirement": finding.requirement.to_string(),
            "met": finding.met,
            "wanted": finding.wanted,
            "found": finding.found,
        })
    };
    let findings = |findings: &[Finding]| findings.iter().map(finding).collect::<Vec<_>>();
    let routes = outcome.candidates.iter().map(|candidate| {
        json!({
            "route": candidate.route.name,
            "url": candidate.url.to_string(),
            "standing": candidate.standing.to_string(),
        })
    });
    let headers = outcome
        .headers
        .iter()
        .filter(|_| outcome.is_allowed())
        .map(|(name, told)| {
            let value = match told {
                Told::Value(value) => Value::from(value.as_str()),
                Told::Secret(words) => Value::from(*words),
                Told::Missing | Told::Unwritable => Value::Null,
            };
            (name.to_string(), value)
        });
    json!({
        "answer": outcome.word().to_string(),
        "reasons": outcome.reasons(),
        "route": outcome.route.map(|route| &*route.name),
        "routes": routes.collect::<Vec<_>>(),
        "identity": outcome.identity.as_ref().map(|identity| json!({
            "provider": identity.provider,
            "subject": identity.subject,
            "username": identity.username,
            "credential": match identity.proof {
                Proof::Session => "session",
                Proof::AccessToken => "bearer",
            },
        })),
        "allow": findings(&outcome.allow),
        "deny": outcome.deny.iter().map(|table| findings(table)).collect::<Vec<_>>(),
        "upstream_headers": headers.collect::<serde_json::Map<_, _>>(),
    })
}
