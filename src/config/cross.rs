//! What only means something together: routes beside routes, hosts beside cookies, listeners beside URLs.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use http::HeaderName;

use super::{
    address::is_loopback, edits, listen, load::Load, provider::Offer, read::At, report::Span, route::Placed,
    server::Server, tls, value::CookieDomain,
};
use crate::{
    gateway,
    identity::{ClaimPath, Proxies},
    policy::{Access, Admission, Host, Path, Requirements, Route, RouteUrl, Routes, Scheme, Tie},
    provider,
    server::{self, Listen, tls::KeyPair},
    upstream::{
        self,
        headers::{Piece, ScrubSettings, Source},
    },
};

/// The sections, each right by itself.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) server: Server,
    pub(super) offers: Vec<Offer>,
    /// Those that are right: the others have said so.
    pub(super) routes: Vec<Placed>,
    pub(super) cookie_domain: Option<At<CookieDomain>>,
}

/// The sections, right together.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) server: server::Settings,
    pub(super) gateway: gateway::settings::Settings,
    pub(super) trusted_proxies: Proxies,
    pub(super) routes: Routes,
    pub(super) upstreams: Vec<upstream::Settings>,
}

pub(super) fn check(whole: Whole, load: &mut Load<'_>) -> Option<Checked> {
    let Whole {
        server,
        offers,
        routes,
        cookie_domain,
    } = whole;
    reserved_paths(&server.gateway.auth_prefix, &routes, load);
    mixed_schemes(&routes, load);
    match server.tls_at {
        Some(at) => encrypted(&server, at, &routes, load),
        None => unencrypted(&server, &routes, load),
    }
    shared_listener(&server, load);
    listen::clients_without_address(&server, load);
    uncertified(&server, &routes, load);
    unasked(&server, &routes, load);
    load.no_twins(&[&*server.listen, &*server.redirect].concat());
    if let Some(domain) = &cookie_domain {
        foreign_hosts(domain, &routes, load);
    }
    idle_providers(&offers, &routes, load);
    edits::identity_headers(&routes, load);
    let places: Vec<(Span, Vec<Span>)> = routes.iter().map(|placed| (placed.at, placed.urls.clone())).collect();
    let (routes, upstreams): (Vec<_>, Vec<_>) =
        routes.into_iter().map(|placed| (placed.route, placed.upstream)).unzip();
    let routes = table(routes, &places, load)?;
    let (gateway, trusted_proxies) = (server.gateway, server.trusted_proxies);
    Some(Checked {
        server: server.server,
        gateway,
        trusted_proxies,
        routes,
        upstreams,
    })
}

fn urls(routes: &[Placed]) -> impl Iterator<Item = (&Route, &RouteUrl, Span)> {
    routes.iter().flat_map(|placed| {
        let urls = placed.route.urls.iter().zip(&placed.urls);
        urls.map(|(url, at)| (&placed.route, url, *at))
    })
}

fn reserved_paths(prefix: &str, routes: &[Placed], load: &mut Load<'_>) {
    for (route, url, at) in urls(routes) {
        let (Path::Exact(path) | Path::Prefix(path)) = &url.path;
        let below = path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below {
            let message = format!(
                "{prefix} is the gateway's own, and route `{}` would never see it",
                route.name
            );
            load.findings
                .problem(at, message, "choose another path, or another `auth_prefix` in [server]");
        }
    }
}

/// A `Host` without a port must tell the scheme: the external origin is never guessed (I8).
fn mixed_schemes(routes: &[Placed], load: &mut Load<'_>) {
    let urls: Vec<_> = urls(routes).collect();
    for (index, (_, url, at)) in urls.iter().enumerate() {
        let rival = urls.iter().take(index).find(|(_, other, _)| is_same_place(url, other));
        if let Some((_, _, first)) = rival {
            let message = format!("{} is used with http and with https", url.host);
            let instead = "use one scheme, https; `redirect_listen` in [server.tls] sends there whoever comes by http";
            load.findings
                .problem(*at, message, instead)
                .see(*first, "the other scheme");
        }
    }
}

fn is_same_place(one: &RouteUrl, other: &RouteUrl) -> bool {
    let port = |url: &RouteUrl| url.port.unwrap_or(url.scheme.default_port());
    let same_port = port(one) == port(other) || (one.port.is_none() && other.port.is_none());
    one.host == other.host && one.scheme != other.scheme && same_port
}

/// With TLS at every address, a route in clear text is nowhere, and one whose name no certificate has is not trusted.
fn encrypted(server: &Server, tls: Span, routes: &[Placed], load: &mut Load<'_>) {
    for (route, url, at) in urls(routes) {
        let settings = server.server.tls.as_ref();
        if url.scheme == Scheme::Http {
            let message = format!("route `{}` is in clear text, and every listener speaks TLS", route.name);
            load.findings
                .problem(at, message, "write an https URL, or leave [server.tls] out")
                .see(tls, "TLS");
        } else if let Some(settings) = settings.filter(|settings| !tls::is_covered(&url.host, settings)) {
            let names: Vec<&str> = settings.key_pairs.iter().flat_map(KeyPair::hosts).collect();
            let message = format!("no certificate is for {}: browsers refuse to open it", url.host);
            let instead = format!("add one in [server.tls]; there is one for: {}", names.join(", "));
            load.findings.warning(at, message, instead).see(tls, "the certificates");
        }
    }
}

/// Nobody has a certificate where nobody is asked for one.
fn uncertified(server: &Server, routes: &[Placed], load: &mut Load<'_>) {
    let tls = server.server.tls.as_ref();
    if tls.is_some_and(|tls| tls.client_authorities.is_some()) || (tls.is_none() && server.tls_at.is_some()) {
        return;
    }
    for at in routes.iter().flat_map(|placed| &placed.certificates) {
        let message = "clients are not asked for certificates, so none would ever count";
        let instead = "name those who vouch for them: client_ca_file = \"clients-ca.pem\" in [server.tls]";
        load.findings.problem(*at, message, instead);
    }
}

fn unencrypted(server: &Server, routes: &[Placed], load: &mut Load<'_>) {
    let http = || urls(routes).filter(|(_, url, _)| url.scheme == Scheme::Http);
    for (route, _, at) in http().filter(|(route, url, _)| logs_in(route) && !is_local(&url.host)) {
        let message = format!("the session cookie of route `{}` travels unencrypted", route.name);
        load.findings.warning(
            at,
            message,
            "write an https URL, and add [server.tls], or let a proxy in front end TLS",
        );
    }
    let Some((_, _, url)) = http().next() else { return };
    let is_open = |address: &&At<Listen>| matches!(&address.value, Listen::Tcp(address) if !address.ip().is_loopback());
    for address in server.listen.iter().filter(is_open) {
        let message = format!("{} takes unencrypted requests from other machines", address.value);
        let instead = "listen at a loopback address, or write https URLs and add [server.tls]";
        load.findings
            .warning(address.at, message, instead)
            .see(url, "an http URL");
    }
}

/// Whoever asks about requests for others must be known.
fn unasked(server: &Server, routes: &[Placed], load: &mut Load<'_>) {
    let asked = |placed: &&Placed| placed.upstream.onward.destinations().is_empty();
    for at in routes.iter().filter(asked).flat_map(|placed| &placed.certificates) {
        let message = "the handshake is the other proxy's, so no certificate of a client would ever count";
        let instead = "leave it out, and let the proxy that ends TLS ask for certificates";
        load.findings.problem(*at, message, instead);
    }
    if !server.trusted_proxies.are_none() {
        return;
    }
    for placed in routes.iter().filter(asked) {
        let message = format!(
            "nobody may ask about [route.{}]: there is no trusted proxy",
            placed.route.name
        );
        let instead = "name the proxy's address in `trusted_proxies` of [server]: trusted_proxies = [\"127.0.0.1/32\"]";
        load.findings.problem(placed.at, message, instead);
    }
}

const ANY_PORT: Listen = Listen::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));

/// Probes and metrics are not for everybody.
fn shared_listener(server: &Server, load: &mut Load<'_>) {
    for address in server
        .server
        .listen
        .iter()
        .chain(&server.server.redirect)
        .filter(|address| Some(*address) == server.server.admin.as_ref() && **address != ANY_PORT)
    {
        let at = server
            .listen
            .iter()
            .chain(&server.redirect)
            .find(|given| given.value == *address)
            .map(|given| given.at);
        let places: Vec<Span> = server
            .admin
            .as_ref()
            .map(|admin| admin.at)
            .into_iter()
            .chain(at)
            .collect();
        let message = format!("[server] and [admin] both listen at {address}");
        let instead = "give each an address of its own";
        load.findings
            .problem(places.first().copied().unwrap_or_default(), message, instead);
    }
}

fn is_local(host: &Host) -> bool {
    let (Host::Exact(name) | Host::Wildcard(name)) = host;
    is_loopback(name)
}

fn admission(route: &Route) -> Option<&Admission> {
    match &route.access {
        Access::Public => None,
        Access::Protected(admission) => Some(admission),
    }
}

fn logs_in(route: &Route) -> bool {
    admission(route).is_some_and(|admission| admission.session)
}

/// A browser would refuse the cookie, and log in for ever.
fn foreign_hosts(domain: &At<CookieDomain>, routes: &[Placed], load: &mut Load<'_>) {
    for (route, url, at) in urls(routes).filter(|(route, ..)| logs_in(route)) {
        let (Host::Exact(host) | Host::Wildcard(host)) = &url.host;
        if !domain.value.covers(host) {
            let message = format!(
                "route `{}` is not in the cookie's domain {}",
                route.name, domain.value.0
            );
            let instead =
                "choose a `domain` that holds every host, or leave it out: then each host has its own session";
            load.findings
                .problem(at, message, instead)
                .see(domain.at, "the cookie's domain");
        }
    }
}

fn idle_providers(offers: &[Offer], routes: &[Placed], load: &mut Load<'_>) {
    let used = |offer: &Offer| {
        let mut admissions = routes.iter().filter_map(|placed| admission(&placed.route));
        admissions.any(|admission| admission.providers.contains(&offer.id))
    };
    for offer in offers.iter().filter(|offer| !used(offer)) {
        let message = format!("no route uses provider `{}`", offer.id);
        load.findings.warning(
            offer.at,
            message,
            "take it out, or name it in the `providers` of a route",
        );
    }
}

fn table(routes: Vec<Route>, places: &[(Span, Vec<Span>)], load: &mut Load<'_>) -> Option<Routes> {
    let named: Vec<(Box<str>, Vec<String>)> = routes.iter().map(|route| (route.name.clone(), texts(route))).collect();
    let ties = match Routes::new(routes) {
        Ok(routes) => return Some(routes),
        Err(ties) => ties,
    };
    for tie in &ties {
        report_tie(tie, &named, places, load);
    }
    None
}

fn texts(route: &Route) -> Vec<String> {
    route.urls.iter().map(ToString::to_string).collect()
}

fn report_tie(tie: &Tie, named: &[(Box<str>, Vec<String>)], places: &[(Span, Vec<Span>)], load: &mut Load<'_>) {
    let (first, second) = (tie.first.index(), tie.second.index());
    let name = |index: usize| named.get(index).map_or("", |(name, _)| name);
    let mine = |index: usize| {
        named
            .get(index)
            .into_iter()
            .flat_map(|(_, urls)| urls)
            .zip(spans(index, places))
    };
    let one = mine(first).find(|(url, _)| **url == tie.url).map(|(_, at)| at);
    let other = mine(second)
        .filter(|(url, _)| **url == tie.url)
        .last()
        .map(|(_, at)| at);
    let message = if first == second {
        format!("route `{}` has {} twice", name(first), tie.url)
    } else {
        format!(
            "routes `{}` and `{}` would both take {}",
            name(first),
            name(second),
            tie.url
        )
    };
    let instead = "give each its own host, path or `methods`";
    load.findings
        .problem(other.unwrap_or_default(), message, instead)
        .see(one.unwrap_or_default(), "the other one");
}

fn spans(index: usize, places: &[(Span, Vec<Span>)]) -> impl Iterator<Item = Span> {
    places.get(index).into_iter().flat_map(|(_, urls)| urls.iter().copied())
}

/// What the scrubber must know: every header that any route may emit (I4).
pub(super) fn scrub(cookie: &str, trusted_proxies: Proxies, upstreams: &[upstream::Settings]) -> ScrubSettings {
    let mut names: Vec<HeaderName> = Vec::new();
    for upstream in upstreams {
        let told = upstream.identity_headers.iter().map(|header| &header.name);
        let asserted = upstream.vouching.assertion.iter().map(|assertion| &assertion.header);
        for name in told.chain(asserted).chain(&upstream.strip) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    ScrubSettings {
        identity_headers: names,
        cookie_name: cookie.into(),
        trusted_proxies,
    }
}

/// The claims that the routes of a provider ask for, each once.
pub(super) fn wanted_claims(
    provider: &provider::Settings,
    routes: &Routes,
    upstreams: &[upstream::Settings],
) -> Vec<ClaimPath> {
    let mut wanted = Wanted::default();
    wanted.path(&provider.claim_names.username);
    wanted.path(&provider.claim_names.groups);
    for (route, upstream) in routes.iter().zip(upstreams) {
        let Some(admission) = admission(route).filter(|admission| admission.providers.contains(&provider.id)) else {
            continue;
        };
        let tables = std::iter::once(&admission.allow).chain(&admission.deny);
        tables.for_each(|requirements| wanted.requirements(requirements));
        let pieces = upstream
            .identity_headers
            .iter()
            .flat_map(|header| &header.template.pieces);
        let basic = upstream.vouching.basic.iter();
        let pieces = pieces.chain(basic.flat_map(|basic| &basic.username.pieces));
        pieces.for_each(|piece| wanted.piece(piece));
        if upstream.vouching.assertion.is_some() {
            wanted.email();
            ClaimPath::parse("name").iter().for_each(|path| wanted.path(path));
        }
    }
    wanted.paths
}

#[derive(Default)]
struct Wanted {
    seen: BTreeSet<String>,
    paths: Vec<ClaimPath>,
}

impl Wanted {
    fn path(&mut self, path: &ClaimPath) {
        if self.seen.insert(path.to_string()) {
            self.paths.push(path.clone());
        }
    }

    /// The address and whether it counts (OIDC Core §5.1).
    fn email(&mut self) {
        let paths = ["email", "email_verified"].map(ClaimPath::parse);
        paths.iter().flatten().for_each(|path| self.path(path));
    }

    fn requirements(&mut self, requirements: &Requirements) {
        if !requirements.emails.is_empty() || !requirements.email_domains.is_empty() {
            self.email();
        }
        requirements.claims.iter().for_each(|rule| self.path(&rule.path));
        if let Some(expression) = &requirements.expression {
            if expression.uses_email() {
                self.email();
            }
            expression.claims().iter().for_each(|path| self.path(path));
        }
    }

    fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Hole(Source::Email, _) => self.email(),
            Piece::Hole(Source::Claim(path), _) => self.path(path),
            Piece::Hole(Source::User | Source::Groups | Source::Scopes | Source::Subject | Source::Issuer, _)
            | Piece::Text(_) => {}
        }
    }
}
