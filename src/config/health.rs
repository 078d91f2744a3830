//! `[route.*.health]`: what the servers of an application are asked.

use std::{mem::take, time::Duration};

use http::{HeaderValue, StatusCode};

use super::{
    file,
    load::{Load, Table},
    read::{At, Field},
};
use crate::upstream::{Destination, DestinationScheme, HealthCheck, Question};

/// `host` is what the application is called from outside, where it is called so.
pub(super) fn check(
    route: &Table,
    field: Field<file::Health>,
    destinations: Option<&[Destination]>,
    host: Option<HeaderValue>,
    load: &mut Load<'_>,
) -> Option<HealthCheck> {
    let Field::Given(At { at, value: mut table }) = field else {
        return None;
    };
    let here = Table::new(format!("{}.health", route.name), at);
    let question = question(&here, &mut table, destinations, load)?;
    Some(HealthCheck {
        question,
        host,
        interval: table
            .interval
            .value()
            .map_or(Duration::from_secs(10), |interval| interval.0),
        timeout: table
            .timeout
            .value()
            .map_or(Duration::from_secs(2), |timeout| timeout.0),
        healthy: table.healthy.value().map_or(2, |count| count.to_u32()),
        unhealthy: table.unhealthy.value().map_or(3, |count| count.to_u32()),
    })
}

/// A path, or a service of gRPC.
fn question(
    here: &Table,
    table: &mut file::Health,
    destinations: Option<&[Destination]>,
    load: &mut Load<'_>,
) -> Option<Question> {
    if table.grpc_service.is_absent() {
        return get(here, table, load);
    }
    let service = take(&mut table.grpc_service);
    let at = service.at()?;
    for (key, other) in [("path", table.path.at()), ("statuses", table.statuses.at())] {
        let Some(other) = other else { continue };
        let message = format!("`{key}` means nothing beside `grpc_service`, which is asked in the words of gRPC");
        load.findings
            .problem(other, message, "leave one of the two out")
            .see(at, "it is asked here");
    }
    let speaks_http_2 = |destination: &Destination| match destination.scheme {
        DestinationScheme::H2 | DestinationScheme::H2c => true,
        DestinationScheme::Http | DestinationScheme::Https => false,
    };
    if destinations.is_some_and(|list| !list.iter().all(speaks_http_2)) {
        let message = "`grpc_service` is asked over HTTP/2, which is not spoken with this upstream";
        let instead = "write an h2c or h2 `upstream`, or a `path`";
        load.findings.problem(at, message, instead);
    }
    service.into_value().map(|service| Question::Grpc(service.0))
}

fn get(here: &Table, table: &mut file::Health, load: &mut Load<'_>) -> Option<Question> {
    let path = load.required(here, "path", take(&mut table.path), "\"/healthz\"")?;
    let statuses = take(&mut table.statuses).into_value();
    let statuses = statuses.into_iter().flat_map(|list| list.values().collect::<Vec<_>>());
    let statuses = statuses.filter_map(|status| StatusCode::from_u16(u16::try_from(status.0).ok()?).ok());
    Some(Question::Get {
        path: path.0,
        statuses: statuses.collect(),
    })
}
