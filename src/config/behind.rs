//! What stands behind a route: `upstream` and how it is reached.

use std::mem::take;

use http::HeaderValue;

use super::{
    address::Onward,
    edits, file, health, identity,
    load::{Load, Table},
    read::{At, Field},
    server::Server,
};
use crate::{
    policy::{Host, Path, RouteUrl},
    upstream::{
        self, AuthorizationOwner, Destination, Ejection, Prefix, Settings, Timeouts, UpstreamTls, headers::Lists,
    },
};

/// Where the requests of a route go, and how.
pub(super) fn upstream(
    here: &Table,
    table: &mut file::Route,
    urls: &[RouteUrl],
    server: &Server,
    load: &mut Load<'_>,
) -> Option<Settings> {
    let name = here.name.strip_prefix("route.").unwrap_or(&here.name);
    let given = take(&mut table.upstream);
    let given = load.required(here, "upstream", given, "\"http://127.0.0.1:3000\"");
    let onward = given.and_then(|list| onward(list.0, load));
    if let Some(upstream::Onward::AskedBy(_)) = &onward {
        only_asked(here, table, load);
    }
    let destinations = onward.as_ref().map(upstream::Onward::destinations);
    let tls = tls(take(&mut table.upstream_tls), destinations, load);
    let is_one = destinations.is_some_and(|destinations| destinations.len() == 1);
    for (key, at) in [("balance", table.balance.at()), ("ejection", table.ejection.at())] {
        if let (true, Some(at)) = (is_one, at) {
            let message = format!("`{key}` means nothing for one upstream");
            load.findings
                .problem(at, message, format!("name several in `upstream`, or leave `{key}` out"));
        }
    }
    let identity_at = table.identity.at().unwrap_or(here.at);
    let told = identity::told(here, take(&mut table.identity), load);
    let repeats = told.headers.iter().any(|header| header.form.lists == Lists::Repeated);
    if let (Some(upstream::Onward::AskedBy(_)), true) = (&onward, repeats) {
        let message = format!(
            "[{}] repeats a header, which another proxy does not pass on whole",
            here.name
        );
        let instead = "write a `groups_delimiter` that stands between the members";
        load.findings.problem(identity_at, message, instead);
    }
    let edited = edits::Keys {
        request: take(&mut table.request_headers),
        response: take(&mut table.response_headers),
        security: take(&mut table.security_headers),
    };
    let preserve_host = table.preserve_host.value().copied().unwrap_or(true);
    let asked_as = host(urls).filter(|_| preserve_host);
    let health = health::check(here, take(&mut table.health), destinations, asked_as, load);
    Some(Settings {
        name: name.into(),
        onward: onward?,
        balance: take(&mut table.balance).or_default(),
        ejection: ejection(take(&mut table.ejection)),
        health,
        preserve_host,
        prefix: prefix(&table.strip_prefix, &table.exact, urls, server, load),
        edits: edits::edits(edited, load),
        identity_headers: told.headers.into(),
        strip: told.strip,
        vouching: told.vouching,
        authorization: AuthorizationOwner::default(),
        timeouts: timeouts(take(&mut table.timeouts)),
        bodies: server.bodies,
        tls: tls?,
    })
}

fn tls(
    field: Field<file::UpstreamTls>,
    destinations: Option<&[Destination]>,
    load: &mut Load<'_>,
) -> Option<UpstreamTls> {
    let is_clear = |destination: &Destination| !destination.scheme.is_encrypted();
    if let (Some(at), true) = (field.at(), destinations.is_some_and(|list| list.iter().any(is_clear))) {
        load.findings.problem(
            at,
            "`upstream_tls` without an https upstream",
            "write an https or h2 `upstream`, or leave it out",
        );
    }
    let table = field.or_default();
    let (roots, certificate) = (
        load.trust(&table.ca_file),
        load.certificate(&table.cert_file, &table.key_file),
    );
    Some(UpstreamTls {
        roots: roots?,
        certificate: certificate?,
        server_name: table.server_name.into_value().map(|name| name.0),
    })
}

/// The path that all URLs of the route have, for there has to be one way back.
fn prefix(
    strip: &Field<bool>,
    exact: &Field<bool>,
    urls: &[RouteUrl],
    server: &Server,
    load: &mut Load<'_>,
) -> Option<Prefix> {
    let at = strip.given().filter(|strip| strip.value)?.at;
    let paths: Vec<&str> = urls
        .iter()
        .map(|url| match &url.path {
            Path::Exact(path) | Path::Prefix(path) => &**path,
        })
        .collect();
    let first = *paths.first()?;
    let problem = if exact.value() == Some(&true) {
        Some((
            "`strip_prefix` leaves nothing of an exact path",
            "leave one of the two out",
        ))
    } else if paths.iter().any(|path| *path != first) {
        Some((
            "`strip_prefix` needs one path, and the URLs of the route have several",
            "write a route for each path",
        ))
    } else if first.is_empty() {
        Some((
            "`strip_prefix` without a path in `url`",
            "write the path into `url`, like \"https://wiki.example.com/admin\", or leave it out",
        ))
    } else {
        None
    };
    if let Some((message, instead)) = problem {
        load.findings.problem(at, message, instead);
        return None;
    }
    Some(Prefix {
        path: first.into(),
        reserved: server.gateway.auth_prefix.clone(),
    })
}

/// The servers of the application, or who asks instead.
fn onward(list: Vec<At<Onward>>, load: &mut Load<'_>) -> Option<upstream::Onward> {
    load.no_twins(&list);
    let asked = list.iter().find_map(|word| match word.value {
        Onward::To(_) => None,
        Onward::AskedBy(asker) => Some((asker, word.at)),
    });
    let Some((asker, at)) = asked else {
        let destinations = list.into_iter().filter_map(|word| match word.value {
            Onward::To(destination) => Some(At {
                at: word.at,
                value: destination,
            }),
            Onward::AskedBy(_) => None,
        });
        return alike(destinations.collect(), load).map(upstream::Onward::To);
    };
    if let Some(other) = list.iter().find(|word| word.at != at) {
        let message = "the requests of a route are passed on here, or by another proxy";
        load.findings
            .problem(other.at, message, "write two routes, or leave one of the two out")
            .see(at, "another proxy");
        return None;
    }
    Some(upstream::Onward::AskedBy(asker))
}

/// Refuses what means nothing where another proxy passes requests on.
fn only_asked(here: &Table, table: &file::Route, load: &mut Load<'_>) {
    let meaningless = [
        ("preserve_host", table.preserve_host.at()),
        ("timeouts", table.timeouts.at()),
        ("strip_prefix", table.strip_prefix.at()),
        ("request_headers", table.request_headers.at()),
        ("response_headers", table.response_headers.at()),
        ("security_headers", table.security_headers.at()),
        ("balance", table.balance.at()),
        ("ejection", table.ejection.at()),
        ("health", table.health.at()),
        ("upstream_tls", table.upstream_tls.at()),
        ("authorization", table.authorization.at()),
        ("preflight", table.preflight.at()),
    ];
    for (key, at) in meaningless {
        let Some(at) = at else { continue };
        let message = format!(
            "`{key}` means nothing in [{}], whose requests another proxy passes on",
            here.name
        );
        load.findings
            .problem(at, message, format!("leave out `{key}`, and say it to that proxy"));
    }
}

/// A request may go to any of them, and is the same for all.
fn alike(list: Vec<At<Destination>>, load: &mut Load<'_>) -> Option<Vec<Destination>> {
    let first = list.first()?;
    if let Some(other) = list.iter().find(|other| other.value.scheme != first.value.scheme) {
        let message = "the upstreams of a route have to be spoken with alike";
        let instead = format!(
            "write {}:// here as well, or another route",
            first.value.scheme.as_str()
        );
        load.findings
            .problem(other.at, message, instead)
            .see(first.at, "the first one");
    }
    Some(list.into_iter().map(|destination| destination.value).collect())
}

fn ejection(table: Field<file::Ejection>) -> Ejection {
    let table = table.or_default();
    let default = Ejection::default();
    Ejection {
        failures: table.failures.value().map_or(default.failures, |count| count.to_u32()),
        time: table.time.value().map_or(default.time, |time| time.0),
    }
}

/// The first host that the route has, if it is one.
fn host(urls: &[RouteUrl]) -> Option<HeaderValue> {
    let url = urls.iter().find(|url| matches!(url.host, Host::Exact(_)))?;
    let host = match url.port {
        Some(port) => format!("{}:{port}", url.host),
        None => url.host.to_string(),
    };
    HeaderValue::try_from(host).ok()
}

fn timeouts(table: Field<file::Timeouts>) -> Timeouts {
    let table = table.or_default();
    let default = Timeouts::default();
    Timeouts {
        connect: table.connect.value().map_or(default.connect, |timeout| timeout.0),
        response: table.response.value().map_or(default.response, |timeout| timeout.0),
        idle: table.idle.value().map_or(default.idle, |timeout| timeout.0),
        stream: table.stream.value().map_or(default.stream, |timeout| Some(timeout.0)),
    }
}
