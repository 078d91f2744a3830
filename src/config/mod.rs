//! The configuration: TOML text to the settings of every room, and all problems of the text at once.
//!
//! `file` is the vocabulary, every table and key; `read` turns a document into it. A module for each section makes the
//! settings from it, and `cross` compares what only means something together. No room knows this one.

mod address;
mod advice;
mod authorization;
mod behind;
mod cross;
mod edits;
mod file;
mod header;
mod health;
mod identity;
mod listen;
mod load;
mod measure;
mod provider;
mod read;
pub mod rehearsal;
mod report;
mod requirement;
mod route;
mod schema;
mod server;
mod session;
mod shape;
mod sources;
mod store;
mod tls;
mod value;
mod vocabulary;
mod vouching;

use std::{mem, path::Path};

use toml::de::DeTable;

pub use load::Surroundings;
pub use report::{Explanation, Problem, Problems, Warning};
pub use schema::schema;
pub use sources::Sources;

use self::{
    cross::Whole,
    load::Load,
    read::{At, Field},
    report::{Findings, Span},
    value::Name,
};
use crate::{
    gateway,
    oauth::jwt::SigningKey,
    policy::{Mode, RouteId, Routes},
    server as sockets, session as sessions,
    telemetry::{self, Unenforced},
    time::Timestamp,
    upstream,
};

/// What the file says, to each room in its own words.
#[derive(Debug)]
pub struct Settings {
    pub server: sockets::Settings,
    pub gateway: gateway::settings::Settings,
    pub session: sessions::Settings,
    pub log: telemetry::LogSettings,
    /// Whether the files are watched, and loaded again when they change.
    pub watch: bool,
    pub providers: Vec<crate::provider::Settings>,
    pub routes: Routes,
    /// Each at the index of its route.
    pub upstreams: Vec<upstream::Settings>,
    /// What assertions are signed with.
    pub signing_keys: Vec<SigningKey>,
    pub scrub: upstream::headers::ScrubSettings,
    /// What must hold of the routes.
    pub tests: Vec<rehearsal::Test>,
    pub warnings: Vec<Warning>,
    /// What a second pair of eyes would stop at; said by `vestibule check` alone.
    pub advice: Vec<Warning>,
    /// How many checks the file weakens, each until its date.
    pub exceptions: usize,
}

impl Settings {
    /// How much of what could be checked is not.
    pub fn unenforced(&self) -> Unenforced {
        let in_shadow = self.routes.iter().filter(|route| route.mode == Mode::Shadow);
        Unenforced {
            exceptions: self.exceptions,
            routes_in_shadow: in_shadow.count(),
        }
    }
}

/// Loads a file, and what it refers to.
///
/// # Errors
/// Every problem of the file.
pub fn load(path: &Path, now: Timestamp) -> Result<Settings, Problems> {
    load_noting(path, &mut Sources::default(), now)
}

/// Loads a file, and notes from which files; also where it has problems.
///
/// # Errors
/// Every problem of the file.
pub fn load_noting(path: &Path, sources: &mut Sources, now: Timestamp) -> Result<Settings, Problems> {
    let origin = path.display().to_string();
    let text = sources
        .text(path)
        .map_err(|error| Problems::unreadable(&origin, &error))?;
    let surroundings = Surroundings {
        directory: path.parent().unwrap_or(Path::new("")),
        variable: |name| std::env::var(name).ok(),
    };
    parse_noting(&text, &origin, surroundings, sources, now)
}

/// Reads a text; `origin` is its name in messages, and `now` decides which exceptions are over.
///
/// # Errors
/// Every problem of the text.
pub fn parse(text: &str, origin: &str, surroundings: Surroundings<'_>, now: Timestamp) -> Result<Settings, Problems> {
    parse_noting(text, origin, surroundings, &mut Sources::default(), now)
}

fn parse_noting(
    text: &str,
    origin: &str,
    surroundings: Surroundings<'_>,
    sources: &mut Sources,
    now: Timestamp,
) -> Result<Settings, Problems> {
    let findings = Findings::default();
    let mut load = Load {
        surroundings,
        now,
        findings,
        sources: mem::take(sources),
        exceptions: 0,
    };
    let settings = document(text, &mut load.findings).and_then(|file| settings(file, text, &mut load));
    *sources = load.sources;
    let is_right = !load.findings.has_problems();
    let (problems, warnings, advice) = load.findings.explain(origin, text);
    settings
        .filter(|_| is_right)
        .map(|settings| Settings {
            warnings,
            advice,
            exceptions: load.exceptions,
            ..settings
        })
        .ok_or(problems)
}

/// The tables of the text; nothing is said of a text with a syntax error but where the errors are.
fn document(text: &str, findings: &mut Findings) -> Option<file::File> {
    let (document, errors) = DeTable::parse_recoverable(text);
    // What follows many errors is their echo.
    for error in errors.iter().take(20) {
        let at = error.span().unwrap_or_default();
        findings.problem(
            at.into(),
            format!("not TOML: {}", error.message()),
            "see https://toml.io for the syntax",
        );
    }
    errors.is_empty().then(|| read::document(document, findings)).flatten()
}

/// Makes the settings section by section, and goes on where one is wrong.
fn settings(file: file::File, text: &str, load: &mut Load<'_>) -> Option<Settings> {
    let log = server::log(file.log);
    let server = server::settings(file.server, file.admin, load);
    let watch = server.watch;
    let session_at = file.session.at().unwrap_or_default();
    let session = session::settings(file.session, load);
    let provider_tables = entries(file.provider)?;
    let offers = provider::offers(&provider_tables);
    let providers = providers(provider_tables, load);
    let routes = routes(file.route, &offers, &server, load)?;
    let tests = rehearsal::tests(file.test, &offers, text, load);
    let right: Vec<_> = routes.iter().flatten().collect();
    let asserting = right.iter().find(|placed| placed.upstream.vouching.assertion.is_some());
    let signing_keys = vouching::signing_keys(file.assertion, asserting.map(|placed| placed.at), load);
    let settled = session.as_ref().map(|(session, _)| (session_at, session));
    advice::advise(&right, &offers, providers.as_deref().unwrap_or_default(), settled, load);
    let all_routes_are_right = routes.iter().all(Option::is_some);
    let whole = Whole {
        server,
        offers,
        routes: routes.into_iter().flatten().collect(),
        cookie_domain: session.as_ref().and_then(|(_, domain)| domain.clone()),
    };
    let checked = cross::check(whole, load).filter(|_| all_routes_are_right)?;
    let (mut session, _) = session?;
    let mut vouching = checked.upstreams.iter().map(|upstream| &upstream.vouching);
    session.keep_access_token = vouching.any(|vouching| vouching.access_token.is_some());
    let mut providers = providers?;
    for provider in &mut providers {
        provider.wanted_claims = cross::wanted_claims(provider, &checked.routes, &checked.upstreams);
    }
    Some(Settings {
        scrub: cross::scrub(&session.cookie.name, checked.trusted_proxies, &checked.upstreams),
        server: checked.server,
        watch,
        gateway: checked.gateway,
        session,
        signing_keys,
        log,
        providers,
        routes: checked.routes,
        upstreams: checked.upstreams,
        tests,
        warnings: Vec::new(),
        advice: Vec::new(),
        exceptions: 0,
    })
}

type Entries<T> = Vec<(At<Name>, At<T>)>;

fn entries<T>(field: Field<shape::Named<Name, T>>) -> Option<Entries<T>> {
    match field {
        Field::Given(given) => Some(given.value.0),
        Field::Absent => Some(Vec::new()),
        Field::Wrong => None,
    }
}

fn providers(tables: Entries<file::Provider>, load: &mut Load<'_>) -> Option<Vec<crate::provider::Settings>> {
    provider::check_issuers(&tables, load);
    let settings = tables
        .into_iter()
        .map(|(name, table)| provider::settings(&name.value.0, table, load));
    settings.collect::<Vec<_>>().into_iter().collect()
}

/// Every route in its place, or nothing where one is wrong; `None` when the tables cannot be told apart.
fn routes(
    field: Field<shape::Named<Name, file::Route>>,
    offers: &[provider::Offer],
    server: &server::Server,
    load: &mut Load<'_>,
) -> Option<Vec<Option<route::Placed>>> {
    let tables = entries(field)?;
    if tables.is_empty() {
        let instead = "add a [route.NAME] table with `url` and `upstream`";
        let message = "there is no route: every request would get 404";
        load.findings.problem(Span::default(), message, instead);
    }
    let mut right: usize = 0;
    let mut routes = Vec::with_capacity(tables.len());
    for table in tables {
        let route = route::route(RouteId::new(right), table, offers, server, load);
        right = right.saturating_add(usize::from(route.is_some()));
        routes.push(route);
    }
    Some(routes)
}

#[cfg(test)]
mod tests;
