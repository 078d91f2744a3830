//! `vestibule check`: what the file lets in, in words.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;

use super::{ConfigFile, No, behind::behind};
use crate::{
    certificate::Name,
    config::{self, Settings},
    gateway::settings::redirect_endpoint,
    identity::{Proof, ProviderId},
    policy::{
        Access, Admission, ClaimRule, ClientCertificate, Host, Mode, OnForbidden, OnUnauthenticated, Origin,
        Path as UrlPath, Preflight, Requirements, Route, RouteUrl, WELL_KNOWN, Wanted,
    },
    server::{self, Listen},
    time::{Clock, SystemClock},
    upstream::{self, Asker, AuthorizationOwner, Onward, vouch::Vouching},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Say no to what would only be warned of, and to what works and deserves a second look.
    #[arg(long)]
    strict: bool,
}

pub(super) fn check(options: &Options) -> Result<(), No> {
    let settings = config::load(&options.file.config, SystemClock.now())?;
    let doubts = || settings.warnings.iter().chain(&settings.advice);
    for doubt in doubts() {
        writeln!(io::stderr(), "{}\n", doubt.snippet)?;
    }
    write!(io::stdout(), "{}", in_words(&settings))?;
    match doubts().count() {
        0 => Ok(()),
        _ if !options.strict => Ok(()),
        count => Err(No::Refused(format!("--strict: {count} to mend or to accept"))),
    }
}

/// A paragraph for each route, and what must be registered elsewhere.
fn in_words(settings: &Settings) -> String {
    let mut text = String::new();
    for (route, upstream) in settings.routes.iter().zip(&settings.upstreams) {
        for line in paragraph(route, upstream) {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    text.push_str(&listeners(&settings.server));
    text.push_str(&registrations(settings));
    text.push_str(&published_keys(settings));
    text
}

fn listeners(server: &server::Settings) -> String {
    let listed = |addresses: &[Listen]| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(", ")
    };
    let how = server.tls.as_ref().map_or("", |_| ", with TLS");
    let mut text = format!("Listening at {}{how}.\n", listed(&server.listen));
    if !server.redirect.is_empty() {
        let _ = writeln!(text, "Sending clients to https at {}.", listed(&server.redirect));
    }
    text
}

/// The URLs, and one line for each thing to know about them.
fn paragraph(route: &Route, upstream: &upstream::Settings) -> Vec<String> {
    let methods = route
        .methods
        .iter()
        .flatten()
        .map(http::Method::as_str)
        .collect::<Vec<_>>();
    let mut lines: Vec<String> = route.urls.iter().map(|url| shown(url, &methods)).collect();
    match &route.access {
        Access::Public => lines.push("  anyone at all, without logging in".into()),
        Access::Protected(admission) => lines.extend(admitted(admission).map(|line| format!("  {line}"))),
    }
    if route.client_certificate == ClientCertificate::Require {
        lines.push("  and only from a client with a certificate".into());
    }
    if let Access::Protected(Admission {
        resource_metadata: true,
        ..
    }) = &route.access
    {
        lines.push(format!("  tells clients where to get a token, below {WELL_KNOWN}"));
    }
    if route.mode == Mode::Shadow {
        lines.push("  but that is not enforced yet: everybody passes, and the log says what would be refused".into());
    }
    if route.on_forbidden == OnForbidden::NotFound {
        lines.push("  to whoever may not pass, the route does not exist".into());
    }
    match &upstream.onward {
        Onward::To(_) => lines.extend(behind(upstream).into_iter().map(|line| format!("  {line}"))),
        Onward::AskedBy(Asker::ForwardAuth) => {
            lines.push("  another proxy passes it on, and asks here before it does".into());
        }
        Onward::AskedBy(Asker::ExtAuthz) => lines.push("  Envoy passes it on, and asks here before it does".into()),
    }
    lines.push(format!("  {}", told(route, upstream)));
    if upstream.authorization == AuthorizationOwner::Application {
        lines.push("  and the Authorization header as it comes: it is not read here, and lets nobody in".into());
    }
    lines.extend(vouched(&upstream.vouching).map(|line| format!("  {line}")));
    if upstream.onward.destinations().is_empty() {
        lines.push(
            "  that proxy has to take each of these headers, authorization and cookie out of what clients send".into(),
        );
    }
    lines
}

/// A URL of a route; the dots at its end stand for everything below.
fn shown(url: &RouteUrl, methods: &[&str]) -> String {
    let below = match url.path {
        UrlPath::Exact(_) => "",
        UrlPath::Prefix(_) => "…",
    };
    let methods = if methods.is_empty() {
        String::new()
    } else {
        format!("{} ", methods.join(", "))
    };
    format!("{methods}{url}{below}")
}

fn admitted(admission: &Admission) -> impl Iterator<Item = String> {
    let providers: Vec<String> = admission
        .providers
        .iter()
        .map(|provider| format!("`{provider}`"))
        .collect();
    let ways = match (admission.session, admission.bearer) {
        (true, true) => "can log in, or gave an access token",
        (true, false) => "can log in",
        (false, _) => "gave an access token",
    };
    let who = format!("anyone whom {} {ways}", any_of(&providers));
    let who = if admission.allow.is_empty() {
        who
    } else {
        format!("{who}, and who has {}", asked(&admission.allow))
    };
    let refused = admission
        .deny
        .iter()
        .map(|rules| format!("but nobody who has {}", asked(rules)));
    let cross_site = admission
        .cross_site
        .then(|| "pages of other sites may act with a person's session".to_owned());
    let preflight = (admission.preflight == Preflight::Pass)
        .then(|| "CORS preflights pass without a login, and without cookies".to_owned());
    let both = admission.session && admission.bearer;
    let order = both.then(|| match admission.first {
        Proof::Session => "a session counts before a token, which has to be the same person's".to_owned(),
        Proof::AccessToken => "a token counts alone, also beside a session".to_owned(),
    });
    std::iter::once(who)
        .chain(order)
        .chain(refused)
        .chain([newcomers(admission)])
        .chain(cross_site)
        .chain(preflight)
}

/// What becomes of those who bring no credential.
fn newcomers(admission: &Admission) -> String {
    let rule = if admission.session {
        admission.on_unauthenticated
    } else {
        OnUnauthenticated::Unauthorized
    };
    match rule {
        OnUnauthenticated::Auto => "browsers are sent to log in; scripts get 401",
        OnUnauthenticated::Redirect => "every GET is sent to log in; everything else gets 401",
        OnUnauthenticated::Unauthorized => "without a credential: 401",
    }
    .into()
}

fn asked(rules: &Requirements) -> String {
    let some = |what: &str, list: &[Box<str>]| (!list.is_empty()).then(|| format!("{what} {}", any_of(list)));
    let scopes: Vec<&str> = rules.scopes.iter().collect();
    let all_scopes = (!scopes.is_empty()).then(|| format!("the scopes {}", scopes.join(" and ")));
    let asked = [
        some("the group", &rules.groups),
        some("the address", &rules.emails),
        some("an address at", &rules.email_domains),
        some("the subject", &rules.subjects),
        all_scopes,
    ];
    let claims = rules.claims.iter().map(claim);
    let strength = &rules.strength;
    let cidrs: Vec<String> = rules.cidrs.iter().map(ToString::to_string).collect();
    let certificates: Vec<&str> = rules.client_certificates.iter().map(Name::as_str).collect();
    let expression = rules
        .expression
        .as_ref()
        .map(|expression| format!("where {}", expression.source()));
    let how = [
        some("logged in as strongly as", &strength.acr),
        some("logged in by", &strength.amr),
        strength
            .max_age
            .map(|age| format!("logged in at most {} ago", spoken(age))),
        (!cidrs.is_empty()).then(|| format!("an address in {}", any_of(&cidrs))),
        (!certificates.is_empty()).then(|| format!("the client certificate {}", any_of(&certificates))),
        expression,
    ];
    asked
        .into_iter()
        .flatten()
        .chain(claims)
        .chain(how.into_iter().flatten())
        .collect::<Vec<_>>()
        .join(", and ")
}

fn claim(rule: &ClaimRule) -> String {
    format!(
        "the claim {} = {}",
        rule.path,
        any_of(&rule.values.iter().map(Wanted::to_string).collect::<Vec<_>>())
    )
}

/// A duration in its largest unit that leaves nothing over.
pub(super) fn spoken(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [
        (86_400_000, "day"),
        (3_600_000, "hour"),
        (60_000, "minute"),
        (1_000, "second"),
    ];
    let length = duration.as_millis();
    let whole = |(unit, _): &&(u128, &str)| length >= *unit && length.is_multiple_of(*unit);
    let (unit, name) = UNITS.iter().find(whole).unwrap_or(&(1, "millisecond"));
    match length.checked_div(*unit).unwrap_or(length) {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

fn any_of(list: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
    words.join(" or ")
}

fn told(route: &Route, upstream: &upstream::Settings) -> String {
    let names: Vec<&str> = upstream
        .identity_headers
        .iter()
        .map(|header| header.name.as_str())
        .collect();
    match &route.access {
        Access::Public => "the application is told nothing about who comes".into(),
        Access::Protected(_) if names.is_empty() => "the application is told nothing about who comes".into(),
        Access::Protected(_) => format!("the application receives {}", names.join(", ")),
    }
}

/// By what the application can tell that a request is the gateway's.
fn vouched(vouching: &Vouching) -> impl Iterator<Item = String> {
    let assertion = vouching.assertion.as_ref().map(|assertion| {
        let life = spoken(assertion.ttl);
        format!(
            "and a signed assertion in {}, for the audience \"{}\", good for {life}",
            assertion.header, assertion.audience
        )
    });
    let token = vouching.access_token;
    let token = token.map(|place| format!("and the person's access token in {}", place.name()));
    let basic = vouching.basic.as_ref();
    let basic = basic.map(|_| "and a name and a password in authorization".to_owned());
    [assertion, token, basic].into_iter().flatten()
}

/// Where applications find the keys that assertions are checked with.
fn published_keys(settings: &Settings) -> String {
    let routes = settings.routes.iter().zip(&settings.upstreams);
    let asserting = routes.filter(|(_, upstream)| upstream.vouching.assertion.is_some());
    let places: Vec<String> = asserting
        .flat_map(|(route, _)| &route.urls)
        .map(|url| format!("{}{}", origin(url), settings.gateway.auth_prefix))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    match places.is_empty() {
        true => String::new(),
        false => format!(
            "\nThe keys for checking assertions, whose `iss` is the origin here:{}\n",
            below(&places, "jwks")
        ),
    }
}

/// What a provider has to know of us: where people come back to after a login and after a logout, and where it tells of its own.
fn registrations(settings: &Settings) -> String {
    let mut text = String::new();
    for provider in &settings.providers {
        let places = places(settings, &provider.id);
        if places.is_empty() {
            continue;
        }
        let issuer = &provider.issuer;
        let _ = writeln!(
            text,
            "\nRedirect URIs to register at {issuer}:{}",
            below(&places, &redirect_endpoint(&provider.id, settings.providers.len()))
        );
        let _ = writeln!(
            text,
            "Where people come back to when they sign out:{}",
            below(&places, "sign_out")
        );
        let back_channel = below(places.get(..1).unwrap_or_default(), "backchannel_logout");
        let _ = writeln!(
            text,
            "For back-channel logout, where the provider offers it:{back_channel}"
        );
    }
    text
}

/// The reserved paths of every origin where people log in at a provider: `https://wiki.example.com/oauth2`.
pub(super) fn places(settings: &Settings, provider: &ProviderId) -> Vec<String> {
    let uses = |admission: &Admission| admission.session && admission.providers.contains(provider);
    let routes = settings.routes.iter().filter(|route| match &route.access {
        Access::Public => false,
        Access::Protected(admission) => uses(admission),
    });
    let mut places: Vec<String> = routes
        .flat_map(|route| &route.urls)
        .map(|url| format!("{}{}", origin(url), settings.gateway.auth_prefix))
        .collect();
    places.sort();
    places.dedup();
    places
}

fn below(places: &[String], name: &str) -> String {
    places.iter().map(|place| format!("\n  {place}/{name}")).collect()
}

fn origin(url: &RouteUrl) -> Origin {
    let (Host::Exact(_) | Host::Wildcard(_)) = url.host;
    Origin {
        scheme: url.scheme,
        host: url.host.to_string().into(),
        port: url.port,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Surroundings, time::Timestamp};

    const PROVIDER: &str = "[provider.corp]
issuer = \"https://id.example.com\"
client_id = \"wiki\"
client_auth = \"none\"
[provider.corp.bearer]
audiences = [\"a\"]
";

    fn words(route: &str) -> String {
        let text = format!("{PROVIDER}[route.a]\nupstream = \"http://[::1]:3000\"\n{route}\n");
        let surroundings = Surroundings {
            directory: Path::new("/nonexistent"),
            variable: |_| None,
        };
        let settings = config::parse(&text, "test.toml", surroundings, Timestamp::from_unix(0));
        in_words(&settings.unwrap())
    }

    #[test]
    fn a_duration_is_said_in_whole_units() {
        for (milliseconds, said) in [
            (86_400_000, "1 day"),
            (5_400_000, "90 minutes"),
            (1_000, "1 second"),
            (1_500, "1500 milliseconds"),
            (500, "500 milliseconds"),
            (1, "1 millisecond"),
        ] {
            assert_eq!(spoken(Duration::from_millis(milliseconds)), said);
        }
    }

    #[test]
    fn a_public_route_says_so() {
        let words = words("url = \"https://a/b\"\nexact = true\nmethods = [\"GET\"]\nauth = [\"public\"]");
        assert!(
            words.starts_with("GET https://a/b\n  anyone at all, without logging in\n"),
            "{words}"
        );
        assert!(words.contains("goes to http://[::1]:3000\n"));
        assert!(!words.contains("Redirect URIs"));
    }

    #[test]
    fn what_is_asked_is_said() {
        let allow = "[route.a.allow]\ngroups = [\"x\", \"y\"]\nscopes = [\"openid\", \"email\"]\nclaims = { a = [1] }";
        let deny = "[[route.a.deny]]\nemail_domains = [\"b.c\"]";
        let words = words(&format!("url = \"https://a\"\n{allow}\n{deny}"));
        let who = "anyone whom `corp` can log in, or gave an access token, and who has \
                   the group x or y, and the scopes openid and email, and the claim a = 1\n";
        assert!(words.contains(who), "{words}");
        assert!(words.contains("but nobody who has an address at b.c\n"), "{words}");
    }

    #[test]
    fn what_the_provider_has_to_know_is_said() {
        let words = words("url = [\"https://a\", \"https://b/x\", \"https://a/y\"]");
        let registered = "
Redirect URIs to register at https://id.example.com:
  https://a/oauth2/callback
  https://b/oauth2/callback
Where people come back to when they sign out:
  https://a/oauth2/sign_out
  https://b/oauth2/sign_out
For back-channel logout, where the provider offers it:
  https://a/oauth2/backchannel_logout
";
        assert!(words.ends_with(registered), "{words}");
    }

    #[test]
    fn beside_others_each_provider_has_a_redirect_uri_of_its_own() {
        let other = "[provider.b]\nissuer = \"https://b.example.com\"\nclient_id = \"a\"\nclient_auth = \"none\"\n";
        let words = words(&format!("url = \"https://a\"\n{other}"));
        for place in ["https://a/oauth2/callback/b\n", "https://a/oauth2/callback/corp\n"] {
            assert!(words.contains(place), "{words}");
        }
        assert!(!words.contains("/callback\n"), "{words}");
    }

    #[test]
    fn scripts_alone_need_no_redirect_uri() {
        let words = words("url = \"https://a\"\nauth = [\"bearer\"]\non_forbidden = \"404\"");
        assert!(
            words.contains("anyone whom `corp` gave an access token\n  without a credential: 401\n"),
            "{words}"
        );
        assert!(words.contains("the route does not exist"));
        assert!(!words.contains("Redirect URIs"));
    }
}
