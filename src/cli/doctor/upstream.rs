//! What an application does with somebody who comes past the gateway, and how large a head it takes.

use std::{fs, path::Path};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};

use super::Chart;
use crate::{
    cli::{
        No,
        rehearsal::{Told, rehearse},
    },
    config::{
        Settings,
        rehearsal::{Asked, Person, Rehearsal},
    },
    identity::Claims,
    policy::{Access, Client, Host, Path as UrlPath, Route, RouteUrl},
    provider::{
        CallLimits,
        checkup::Note,
        transport::{HttpTransport, SendError, Transport as _},
    },
    time::Timestamp,
    upstream::{self, Destination, DestinationScheme, Place},
};

/// Who nobody is. Some applications make an account for whoever they are told of; then this is its name.
const NOBODY: HeaderValue = HeaderValue::from_static("vestibule-doctor");

/// Heads that are tried, in KiB.
const SIZES: [usize; 4] = [4, 8, 16, 32];

/// # Errors
/// When the file cannot be read, or holds no claims.
pub(super) fn person(file: &Path) -> Result<Person, No> {
    let unreadable = |error| No::Unreadable {
        path: file.display().to_string(),
        error,
    };
    let text = fs::read(file).map_err(unreadable)?;
    let claims = Claims::from_json(&text)
        .map_err(|error| No::Refused(format!("{} holds no claims: {error}", file.display())))?;
    Ok(Person {
        claims,
        provider: None,
        proof: None,
        login_age: None,
    })
}

pub(super) async fn charts(settings: &Settings, person: Option<Person>, now: Timestamp) -> Vec<Chart> {
    let mut charts = Vec::new();
    for (route, upstream) in settings.routes.iter().zip(&settings.upstreams) {
        if matches!(route.access, Access::Public) {
            continue;
        }
        // Where the application is behind another proxy, only that knows.
        for destination in upstream.onward.destinations() {
            let mut notes = match out_of_reach(upstream, destination) {
                Some(why) => vec![Note::doubtful(format!("{why}, and was not asked"))],
                None => asked(route, upstream, destination).await,
            };
            notes.extend(measured(settings, route, person.as_ref(), now));
            charts.push(Chart {
                name: format!("route {} at {destination}", route.name),
                notes,
            });
        }
    }
    charts
}

/// What is spoken with this one, and not here.
fn out_of_reach(upstream: &upstream::Settings, destination: &Destination) -> Option<&'static str> {
    match (destination.scheme, &destination.place) {
        (DestinationScheme::H2 | DestinationScheme::H2c, _) => Some("it speaks HTTP/2 alone"),
        (_, Place::Unix(_)) => Some("it listens at a socket of this machine"),
        (DestinationScheme::Http, _) => None,
        (DestinationScheme::Https, _) if upstream.tls.certificate.is_some() => {
            Some("it wants the gateway's certificate")
        }
        (DestinationScheme::Https, _) if upstream.tls.server_name.is_some() => Some("it has another name"),
        (DestinationScheme::Https, _) => None,
    }
}

async fn asked(route: &Route, upstream: &upstream::Settings, destination: &Destination) -> Vec<Note> {
    let transport = match HttpTransport::new(&upstream.tls.roots, CallLimits::default()) {
        Ok(transport) => transport,
        Err(error) => return vec![Note::wrong(format!("TLS cannot be set up: {error}"))],
    };
    let Some(plain) = request(route, upstream, destination) else {
        return vec![Note::doubtful("its URL cannot be asked for")];
    };
    let answer = match transport.send(plain.clone()).await {
        Ok(answer) => answer,
        Err(error) => return vec![Note::doubtful(format!("it cannot be reached from here: {error}"))],
    };
    let mut notes = Vec::new();
    let names: Vec<HeaderName> = upstream.identity_headers.iter().map(|told| told.name.clone()).collect();
    if !names.is_empty() {
        let mut forged = plain.clone();
        for name in &names {
            forged.headers_mut().insert(name.clone(), NOBODY);
        }
        notes.push(match transport.send(forged).await {
            Ok(believing) => believed(&names, destination, (&answer, &believing)),
            Err(error) => Note::doubtful(format!("it broke off when it was told who comes: {error}")),
        });
    }
    notes.push(room(&transport, &plain, answer.status()).await);
    notes
}

/// As the gateway would ask for the first page of the route, for nobody.
fn request(route: &Route, upstream: &upstream::Settings, destination: &Destination) -> Option<Request<Bytes>> {
    let url = route.urls.first()?;
    let (UrlPath::Exact(path) | UrlPath::Prefix(path)) = &url.path;
    let path = match path.is_empty() {
        true => "/",
        false => path,
    };
    let uri: Uri = format!("{destination}{path}").parse().ok()?;
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    if let (true, Host::Exact(_)) = (upstream.preserve_host, &url.host) {
        let host = HeaderValue::try_from(authority(url)).ok()?;
        request.headers_mut().insert(header::HOST, host);
    }
    Some(request)
}

fn authority(url: &RouteUrl) -> String {
    match url.port {
        Some(port) => format!("{}:{port}", url.host),
        None => url.host.to_string(),
    }
}

/// Whether a header that anybody can write opened what was shut.
fn believed(names: &[HeaderName], destination: &Destination, answers: (&Response<Bytes>, &Response<Bytes>)) -> Note {
    let (plain, forged) = (answers.0.status(), answers.1.status());
    let listed: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    let listed = listed.join(", ");
    let local = destination.is_local();
    match (plain.is_success(), forged.is_success()) {
        (false, true) if local => Note::doubtful(format!(
            "from this machine anybody can be anybody to it: {plain} without, and {forged} with {listed} written by \
             hand; let nobody else onto this machine, or use a signed assertion"
        )),
        (false, true) => Note::wrong(format!(
            "from here anybody can be anybody to it: {plain} without, and {forged} with {listed} written by hand; let \
             only the gateway reach it, or use a signed assertion"
        )),
        (true, true) => Note::doubtful(format!(
            "it answers {plain} to whoever comes past the gateway, whether or not they write {listed} by hand"
        )),
        (_, false) if asks_who(forged) => Note::fine(format!(
            "{listed} written by hand open nothing from here: {plain} without, {forged} with"
        )),
        (_, false) => Note::doubtful(format!(
            "it answers {forged} to {listed} written by hand ({plain} without), which does not say whom it would believe"
        )),
    }
}

/// Whether an answer is that of an application which asks people who they are.
fn asks_who(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// How large a head it takes, as far as it is tried.
async fn room(transport: &HttpTransport, plain: &Request<Bytes>, usual: StatusCode) -> Note {
    let mut fits = 0;
    for size in SIZES {
        let mut large = plain.clone();
        let padding = "a".repeat(size.saturating_mul(1_024));
        let Ok(padding) = HeaderValue::try_from(padding) else {
            break;
        };
        large.headers_mut().insert("x-vestibule-doctor", padding);
        match transport.send(large).await {
            Ok(answer) if answer.status() == usual => fits = size,
            Ok(_)
            | Err(SendError::Unreachable(_) | SendError::TimedOut | SendError::Overloaded | SendError::TooLong) => {
                break;
            }
        }
    }
    match fits {
        0 => Note::doubtful("it takes no header of 4 KiB: few groups will do"),
        4 | 8 => Note::doubtful(format!(
            "it takes headers of {fits} KiB, and none of {} KiB",
            fits.saturating_mul(2)
        )),
        fits => Note::fine(format!("it takes headers of {fits} KiB")),
    }
}

/// How large the identity headers are of the people that the file and the command name.
fn measured(settings: &Settings, route: &Route, person: Option<&Person>, now: Timestamp) -> Option<Note> {
    let of_tests = settings
        .tests
        .iter()
        .map(|test| (format!("line {}", test.line), test.rehearsal.clone()));
    let of_file = person.zip(rehearsal(route)).map(|(person, rehearsal)| {
        let person = Some(person.clone());
        ("--claims".to_owned(), Rehearsal { person, ..rehearsal })
    });
    let sizes = of_tests.chain(of_file).filter_map(|(name, rehearsal)| {
        let outcome = rehearse(settings, &rehearsal, now);
        let here = outcome.route.is_some_and(|found| found.id == route.id) && outcome.is_allowed();
        here.then(|| (size(&outcome.headers), name))
    });
    let (largest, whose) = sizes.max()?;
    Some(match largest > 4 * 1_024 {
        true => Note::doubtful(format!(
            "the identity headers of {whose} have {largest} bytes: see groups_filter"
        )),
        false => Note::fine(format!(
            "the identity headers have {largest} bytes at most, those of {whose}"
        )),
    })
}

fn rehearsal(route: &Route) -> Option<Rehearsal> {
    let Asked { method, url } = Asked::read("GET", &route.urls.first()?.to_string())?;
    Some(Rehearsal {
        method,
        url,
        person: None,
        client: Client::Navigation,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        certificate: None,
    })
}

/// As they stand on the wire.
fn size(headers: &[(HeaderName, Told)]) -> usize {
    let line = |(name, told): &(HeaderName, Told)| match told {
        Told::Value(value) => name.as_str().len().saturating_add(value.len()).saturating_add(4),
        // About as long as such texts are.
        Told::Secret(_) => 1_024,
        Told::Missing | Told::Unwritable => 0,
    };
    headers.iter().map(line).sum()
}
