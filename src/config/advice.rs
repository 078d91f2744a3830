//! What works as it is written, and what somebody who looks for the hole would circle.

use std::time::Duration;

use super::{
    load::Load,
    provider::Offer,
    report::{Findings, Span},
    route::Placed,
};
use crate::{
    policy::{Access, Admission, ClientCertificate, Expression, Requirements},
    provider,
    session::Settings as SessionSettings,
    upstream::{
        Destination, Place,
        headers::{Piece, Source},
        vouch::Vouching,
    },
};

/// Looks at everything that is right in itself.
pub(super) fn advise(
    routes: &[&Placed],
    offers: &[Offer],
    providers: &[provider::Settings],
    session: Option<(Span, &SessionSettings)>,
    load: &mut Load<'_>,
) {
    for placed in routes {
        route(placed, providers, &mut load.findings);
    }
    shared_audiences(routes, &mut load.findings);
    for offer in offers {
        let settings = providers.iter().find(|settings| settings.id == offer.id);
        if let Some(settings) = settings.filter(|settings| tells_a_changing_name(settings, routes)) {
            let message = format!(
                "`{}` tells who somebody is by `preferred_username`, which people can change, and others take later",
                settings.id
            );
            let instead = "write username_claim = \"sub\", unless the provider keeps these names apart for ever";
            load.findings.advice(offer.at, message, instead);
        }
    }
    if let Some((at, session)) = session {
        lifetimes(at, session, &mut load.findings);
    }
}

fn route(placed: &Placed, providers: &[provider::Settings], findings: &mut Findings) {
    let name = &placed.route.name;
    match &placed.route.access {
        Access::Public => {
            let message = match placed.route.client_certificate {
                ClientCertificate::Optional => {
                    format!("[route.{name}] is public: whoever comes is let in, and the application is not told who")
                }
                ClientCertificate::Require => format!(
                    "[route.{name}] asks for no login: any certificate of the authorities in `client_ca_file` is let in"
                ),
            };
            findings.advice(placed.at, message, "leave auth = [\"public\"] out, if it should not be");
        }
        Access::Protected(admission) => {
            for provider in providers
                .iter()
                .filter(|provider| admission.providers.contains(&provider.id))
            {
                everybody(placed, admission, provider, findings);
            }
            strangers_with_one_name(placed, admission, findings);
        }
    }
    let is_clear = |destination: &&Destination| !destination.scheme.is_encrypted() && !destination.is_local();
    let vouching = &placed.upstream.vouching;
    if let Some(destination) = placed.upstream.onward.destinations().iter().find(is_clear) {
        clear_text(placed, destination, vouching, findings);
    }
    if vouching.access_token.is_some() {
        let message = format!(
            "[route.{name}] hands over access tokens: the application, and whoever breaks into it, can act as the person"
        );
        let instead = "leave `access_token` out, unless the application calls others in the person's name";
        findings.advice(placed.at, message, instead);
    }
}

/// An application that checks assertions takes nobody else for the gateway, but a secret is read by whoever is in between.
fn clear_text(placed: &Placed, destination: &Destination, vouching: &Vouching, findings: &mut Findings) {
    let name = &placed.route.name;
    let Place::Tcp { host, .. } = &destination.place else {
        return;
    };
    let secret = match (&vouching.access_token, &vouching.basic) {
        (Some(_), _) => Some("an access token"),
        (None, Some(_)) => Some("a password"),
        (None, None) => None,
    };
    let (message, instead) = match (secret, &vouching.assertion) {
        (Some(secret), _) => (
            format!("[route.{name}] goes to {host} in clear text, with {secret} that whoever is in between can use"),
            "write an https `upstream`, or run the gateway beside the application",
        ),
        (None, Some(_)) => return,
        (None, None) => (
            format!(
                "[route.{name}] goes to {host} in clear text: whoever is in between reads it, and can pretend to be the \
                 gateway"
            ),
            "write an https `upstream`, run the gateway beside the application, or let it check an `assertion`",
        ),
    };
    findings.advice(placed.at, message, instead);
}

/// Issuers with whom anybody at all can have an account.
const OPEN_TO_ALL: [&str; 9] = [
    "https://accounts.google.com",
    "https://login.microsoftonline.com/common/",
    "https://login.microsoftonline.com/consumers/",
    "https://login.microsoftonline.com/organizations/",
    "https://gitlab.com",
    "https://appleid.apple.com",
    "https://www.facebook.com",
    "https://www.linkedin.com",
    "https://slack.com",
];

fn everybody(placed: &Placed, admission: &Admission, provider: &provider::Settings, findings: &mut Findings) {
    let name = &placed.route.name;
    let is_open = OPEN_TO_ALL
        .iter()
        .any(|open| provider.issuer.as_str().starts_with(open));
    if is_open && !names_somebody(&admission.allow) {
        let message = format!("anybody with an account at {} passes [route.{name}]", provider.issuer);
        let instead = format!("name them in [route.{name}.allow]: `emails`, `email_domains`, `groups` or `subjects`");
        findings.advice(placed.at, message, instead);
    }
    let by_address = |rules: &Requirements| {
        let by_expression = rules.expression.as_ref().is_some_and(Expression::uses_email);
        !rules.emails.is_empty() || !rules.email_domains.is_empty() || by_expression
    };
    if by_address(&admission.allow) && provider.claim_names.unverified_email_until.is_some() {
        let message = format!(
            "[route.{name}] lets in by address, and `{}` does not have to have verified one",
            provider.id
        );
        findings.advice(
            placed.at,
            message,
            "take `insecure_unverified_email` out, or name groups or subjects",
        );
    }
}

/// `sub`, names, addresses and groups are each provider's own word (OIDC Core §5.7).
fn strangers_with_one_name(placed: &Placed, admission: &Admission, findings: &mut Findings) {
    if admission.providers.len() < 2 {
        return;
    }
    let names_provider = |expression: &Expression| expression.tells_providers_apart();
    let ruled = names_somebody(&admission.allow) && !admission.allow.expression.as_ref().is_some_and(names_provider);
    let pieces = || {
        let headers = placed.upstream.identity_headers.iter();
        headers.flat_map(|header| &header.template.pieces)
    };
    let tells =
        |wanted: fn(&Source) -> bool| pieces().any(|piece| matches!(piece, Piece::Hole(source, _) if wanted(source)));
    let told = tells(|source| !matches!(source, Source::Issuer | Source::Scopes));
    if ruled || (told && !tells(|source| *source == Source::Issuer)) {
        let message = format!(
            "[route.{}] takes people of {} providers, and each says by itself who is called what and in which group",
            placed.route.name,
            admission.providers.len()
        );
        let instead = "name one provider in `providers`, ask in an `expression` (provider == \"corp\"), or tell the \
                       application {issuer} too";
        findings.advice(placed.at, message, instead);
    }
}

/// An application that gets an assertion can show it to another one that checks for the same audience.
fn shared_audiences(routes: &[&Placed], findings: &mut Findings) {
    let asserting = routes.iter().filter_map(|placed| {
        let assertion = placed.upstream.vouching.assertion.as_ref()?;
        Some((placed, &*assertion.audience))
    });
    let asserting: Vec<_> = asserting.collect();
    for (index, (placed, audience)) in asserting.iter().enumerate() {
        let elsewhere =
            |(other, shared): &&(&&Placed, &str)| shared == audience && other.upstream.onward != placed.upstream.onward;
        if let Some((other, _)) = asserting.iter().take(index).find(elsewhere) {
            let message = format!(
                "[route.{}] and [route.{}] lead to different applications, and assert to the audience \"{audience}\": \
                 each can show the other what it is told",
                placed.route.name, other.route.name
            );
            let instead = "write an `audience` of its own for each application";
            findings
                .advice(placed.at, message, instead)
                .see(other.at, "the other one");
        }
    }
}

/// Whether the rules say more than where a request comes from and how strong the login was.
fn names_somebody(allow: &Requirements) -> bool {
    let lists: [&[Box<str>]; 4] = [&allow.groups, &allow.emails, &allow.email_domains, &allow.subjects];
    let by_expression = allow.expression.as_ref().is_some_and(Expression::names_somebody);
    lists.iter().any(|list| !list.is_empty()) || !allow.claims.is_empty() || by_expression
}

fn tells_a_changing_name(provider: &provider::Settings, routes: &[&Placed]) -> bool {
    if provider.claim_names.username.to_string() != "preferred_username" {
        return false;
    }
    let tells = |placed: &&&Placed| {
        let headers = placed.upstream.identity_headers.iter();
        let mut pieces = headers.flat_map(|header| &header.template.pieces);
        pieces.any(|piece| matches!(piece, Piece::Hole(Source::User, _)))
    };
    let served = |placed: &&&Placed| match &placed.route.access {
        Access::Public => false,
        Access::Protected(admission) => admission.providers.contains(&provider.id),
    };
    routes.iter().filter(served).any(|placed| tells(&placed))
}

const LONG_LIFE: Duration = Duration::from_secs(24 * 3_600);
const LONG_IDLE: Duration = Duration::from_secs(8 * 3_600);

fn lifetimes(at: Span, session: &SessionSettings, findings: &mut Findings) {
    for (key, life, long) in [
        ("max_lifetime", session.max_lifetime, LONG_LIFE),
        ("idle_timeout", session.idle_timeout, LONG_IDLE),
    ] {
        if life > long {
            let message = format!(
                "`{key}` is long: a browser that is left open, or a cookie that is stolen, is good for all of it"
            );
            let instead = format!("write {} hours or less, if people can bear it", long.as_secs() / 3_600);
            findings.advice(at, message, instead);
        }
    }
}
