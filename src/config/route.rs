//! The `[route.NAME]` tables.

use std::{mem::take, sync::Arc};

use super::{
    address::RouteAddress,
    authorization, behind,
    file::{self, Auth},
    load::{Load, Table},
    provider::Offer,
    read::{At, Field},
    report::Span,
    requirement,
    server::Server,
    shape::NonEmpty,
    value::Name,
    vocabulary::nearest,
};
use crate::{
    identity::{Proof, ProviderId},
    policy::{Access, Admission, Mode, OnForbidden, OnUnauthenticated, Requirements, Route, RouteId, RouteUrl},
    upstream,
};

/// A route, and where its pieces stand in the file.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) route: Route,
    pub(super) upstream: upstream::Settings,
    /// Where the table stands.
    pub(super) at: Span,
    /// Where each URL stands.
    pub(super) urls: Vec<Span>,
    /// Where something is said of client certificates.
    pub(super) certificates: Vec<Span>,
}

pub(super) fn route(
    id: RouteId,
    (name, table): (At<Name>, At<file::Route>),
    offers: &[Offer],
    server: &Server,
    load: &mut Load<'_>,
) -> Option<Placed> {
    let at = table.at;
    let name = name.value.0;
    let here = Table::new(format!("route.{name}"), at);
    let mut table = table.value;
    let urls = urls(&here, &mut table, load);
    let upstream = behind::upstream(
        &here,
        &mut table,
        urls.as_ref().map_or(&[], |(urls, _)| urls),
        server,
        load,
    );
    let methods = take(&mut table.methods)
        .into_value()
        .map(|list| list.values().collect());
    let on_forbidden = table.on_forbidden.value().copied().unwrap_or(OnForbidden::default());
    let client_certificate = table.client_certificate.value().copied().unwrap_or_default();
    let certificates = certificates(&table);
    let mode = mode(&here, &table.mode, load);
    let authorization = take(&mut table.authorization);
    let access = access(&here, table, offers, load);
    let upstream = upstream.map(|upstream| {
        let authorization = authorization::owner(&authorization, access.as_ref(), &upstream.vouching, load);
        upstream::Settings {
            authorization,
            ..upstream
        }
    });
    let (urls, places) = urls?;
    let route = Route {
        id,
        name: name.into(),
        urls,
        methods,
        access: access?,
        client_certificate,
        mode,
        on_forbidden,
    };
    Some(Placed {
        route,
        upstream: upstream?,
        at,
        urls: places,
        certificates,
    })
}

fn certificates(table: &file::Route) -> Vec<Span> {
    let denied = table.deny.value().map_or(&[][..], |list| &list.0);
    let rules = table
        .allow
        .value()
        .into_iter()
        .chain(denied.iter().map(|table| &table.value));
    let listed = rules.filter_map(|rules| rules.client_certificates.at());
    table.client_certificate.at().into_iter().chain(listed).collect()
}

/// What is not enforced is said aloud at every start.
fn mode(here: &Table, field: &Field<Mode>, load: &mut Load<'_>) -> Mode {
    let mode = field.value().copied().unwrap_or_default();
    if let (Mode::Shadow, Some(at)) = (mode, field.at()) {
        let message = format!(
            "[{}] is in the shadow: whoever comes passes, whatever its rules say",
            here.name
        );
        load.findings.warning(
            at,
            message,
            "write mode = \"enforce\" once the log says what you expect",
        );
    }
    mode
}

fn urls(here: &Table, table: &mut file::Route, load: &mut Load<'_>) -> Option<(Vec<RouteUrl>, Vec<Span>)> {
    let field = take(&mut table.url);
    let given = load.required(here, "url", field, "\"https://wiki.example.com\"")?;
    let shape = match table.exact.value() {
        Some(true) => RouteAddress::exact,
        Some(false) | None => RouteAddress::prefix,
    };
    Some(given.0.into_iter().map(|url| (shape(&url.value), url.at)).unzip())
}

fn access(here: &Table, table: file::Route, offers: &[Offer], load: &mut Load<'_>) -> Option<Access> {
    let auth = Auths::of(&table.auth)?;
    if let Some(public) = auth.public {
        only_public(public, &table, load);
        return Some(Access::Public);
    }
    let providers = providers(here, table.providers, offers, load)?;
    let bearer_offered = providers.iter().any(|offer| offer.bearer);
    if let Some(at) = auth.bearer.filter(|_| !bearer_offered) {
        let message = format!("no provider of [{}] accepts bearer tokens", here.name);
        load.findings
            .problem(at, message, "add a [provider.NAME.bearer] table with `audiences`");
    }
    let session = auth.session || auth.is_default;
    if let (Some(OnUnauthenticated::Redirect), false) = (table.on_unauthenticated.value(), session) {
        let message = "nobody can be redirected to log in where sessions do not count";
        let at = table.on_unauthenticated.at().unwrap_or(here.at);
        load.findings.problem(
            at,
            message,
            "add \"session\" to `auth`, or leave `on_unauthenticated` out",
        );
    }
    let bearer = auth.bearer.is_some() || (auth.is_default && bearer_offered);
    let resource_metadata = table.resource_metadata.value().copied().unwrap_or(false);
    if let (true, false, Some(at)) = (resource_metadata, bearer, table.resource_metadata.at()) {
        let message = format!(
            "`resource_metadata` tells clients to get a token, and [{}] takes none",
            here.name
        );
        let instead = "add a [provider.NAME.bearer] table, and \"bearer\" to `auth`, or leave `resource_metadata` out";
        load.findings.problem(at, message, instead);
    }
    let allow_at = table.allow.at().unwrap_or(here.at);
    let allow = requirement::allow(table.allow, load);
    if session {
        unasked_scopes(allow_at, &allow, &providers, load);
    }
    let cross_site = load.exception(here, "insecure_cross_site_requests", table.insecure_cross_site_requests);
    Some(Access::Protected(Admission {
        session,
        bearer,
        first: auth.first,
        providers: providers
            .iter()
            .map(|offer| offer.id.clone())
            .collect::<Arc<[ProviderId]>>(),
        on_unauthenticated: table.on_unauthenticated.or(OnUnauthenticated::default()),
        cross_site: cross_site.is_some(),
        resource_metadata,
        preflight: table.preflight.or_default(),
        allow,
        deny: requirement::deny(table.deny, load),
    }))
}

/// A login hardly yields a scope that it does not ask for.
fn unasked_scopes(at: Span, allow: &Requirements, providers: &[&Offer], load: &mut Load<'_>) {
    for provider in providers {
        for scope in allow.scopes.iter().filter(|scope| !provider.scopes.contains(scope)) {
            let message = format!(
                "the scope \"{scope}\" is needed here, and a login at `{}` does not ask for it",
                provider.id
            );
            let instead = format!(
                "add it to `scopes` in [provider.{}], unless only bearer tokens should pass",
                provider.id
            );
            load.findings.warning(at, message, instead);
        }
    }
}

/// The `auth` list, by its words.
struct Auths {
    is_default: bool,
    session: bool,
    bearer: Option<Span>,
    /// What the list names first; without a list, what is explicit.
    first: Proof,
    public: Option<Public>,
}

#[derive(Clone, Copy)]
struct Public {
    at: Span,
    /// A word beside it.
    company: Option<Span>,
}

impl Auths {
    fn of(field: &Field<NonEmpty<Auth>>) -> Option<Self> {
        if field.is_wrong() {
            return None;
        }
        let words = field.value().map_or(&[][..], |list| &list.0);
        let place = |auth| words.iter().find(|word| word.value == auth).map(|word| word.at);
        let company = words.iter().find(|word| word.value != Auth::Public).map(|word| word.at);
        Some(Self {
            is_default: words.is_empty(),
            session: place(Auth::Session).is_some(),
            bearer: place(Auth::Bearer),
            first: match words.first().map(|word| word.value) {
                Some(Auth::Session) => Proof::Session,
                Some(Auth::Bearer | Auth::Public) | None => Proof::AccessToken,
            },
            public: place(Auth::Public).map(|at| Public { at, company }),
        })
    }
}

/// Refuses what means nothing where everybody passes.
fn only_public(public: Public, table: &file::Route, load: &mut Load<'_>) {
    if let Some(other) = public.company {
        let message = "\"public\" stands alone: whoever comes is let in";
        load.findings
            .problem(other, message, "leave it out, or leave \"public\" out")
            .see(public.at, "everybody");
    }
    let meaningless = [
        ("allow", table.allow.at()),
        ("deny", table.deny.at()),
        ("providers", table.providers.at()),
        ("identity", table.identity.at()),
        ("on_unauthenticated", table.on_unauthenticated.at()),
        ("preflight", table.preflight.at()),
        ("on_forbidden", table.on_forbidden.at()),
        ("mode", table.mode.at()),
        ("resource_metadata", table.resource_metadata.at()),
        ("insecure_cross_site_requests", table.insecure_cross_site_requests.at()),
    ];
    for (key, at) in meaningless {
        let Some(at) = at else { continue };
        let message = format!("`{key}` means nothing on a public route");
        load.findings
            .problem(at, message, format!("leave out `{key}`, or auth = [\"public\"]"))
            .see(public.at, "everybody");
    }
}

fn providers<'a>(
    here: &Table,
    field: Field<NonEmpty<String>>,
    offers: &'a [Offer],
    load: &mut Load<'_>,
) -> Option<Vec<&'a Offer>> {
    match field {
        Field::Wrong => None,
        Field::Given(given) => {
            load.no_twins(&given.value.0);
            let found: Vec<_> = given.value.0.iter().map(|name| provider(name, offers, load)).collect();
            found.into_iter().collect()
        }
        Field::Absent if offers.is_empty() => {
            let message = format!("nobody can log in to [{}]: there is no provider", here.name);
            load.findings.problem(
                here.at,
                message,
                "add a [provider.NAME] table, or write auth = [\"public\"]",
            );
            None
        }
        Field::Absent => Some(offers.iter().collect()),
    }
}

fn provider<'a>(name: &At<String>, offers: &'a [Offer], load: &mut Load<'_>) -> Option<&'a Offer> {
    let found = offers.iter().find(|offer| offer.id.as_str() == name.value);
    if found.is_none() {
        let names: Vec<&str> = offers.iter().map(|offer| offer.id.as_str()).collect();
        let instead = match nearest(&name.value, &names) {
            Some(near) => format!("write \"{near}\""),
            None => format!(
                "add a [provider.{}] table, or name one of: {}",
                name.value,
                names.join(", ")
            ),
        };
        load.findings
            .problem(name.at, format!("there is no provider `{}`", name.value), instead);
    }
    found
}
