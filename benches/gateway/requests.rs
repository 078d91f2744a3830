//! What a small request costs, with and without somebody to be known, in both versions of HTTP.

use std::net::SocketAddr;

use super::{
    Wanted,
    load::{Request, Version},
    process::Process,
    report::{Aim, Table},
    scene::Scene,
};

const ROUNDS: usize = 5;
const SECONDS: u32 = 2;

const HTTP_1: [&str; 16] = [
    "nginx, bare",
    "nginx",
    "haproxy",
    "envoy",
    "bare hyper",
    "public",
    "jwt",
    "opaque",
    "cookie",
    "cookie, 1 KiB",
    "cookie, 3 KiB",
    "cookie, 8 KiB",
    "redis",
    STRICT,
    "public, logged",
    "jwt, logged",
];

/// HTTP/2, in clear text and over TLS.
const HTTP_2: [&str; 12] = [
    "nginx, h2c",
    "haproxy, h2c",
    "envoy, h2c",
    "bare hyper, h2c",
    "public, h2c",
    "jwt, h2c",
    "cookie, h2c",
    "nginx, h2",
    "haproxy, h2",
    "envoy, h2",
    "bare hyper, h2",
    "public, h2",
];

const STRICT: &str = "redis, read each time";

const AIMS: [Aim; 21] = [
    Aim::Times("public", "nginx", Some(1.1)),
    Aim::Times("public", "nginx, bare", None),
    Aim::Times("public", "bare hyper", Some(1.1)),
    Aim::Times("public", "haproxy", None),
    Aim::Times("public", "envoy", None),
    Aim::Times("jwt", "public", Some(1.15)),
    Aim::Times("opaque", "public", Some(1.15)),
    Aim::Times("cookie", "public", Some(1.25)),
    Aim::Times("cookie, 1 KiB", "public", None),
    Aim::Times("cookie, 3 KiB", "public", None),
    Aim::Times("cookie, 8 KiB", "public", None),
    Aim::Times("redis", "public", None),
    Aim::Times(STRICT, "public", None),
    Aim::Times("public, logged", "public", None),
    Aim::Times("jwt, logged", "jwt", None),
    Aim::Times("public, h2c", "nginx, h2c", Some(1.1)),
    Aim::Times("public, h2c", "bare hyper, h2c", Some(1.1)),
    Aim::Times("jwt, h2c", "public, h2c", Some(1.15)),
    Aim::Times("cookie, h2c", "public, h2c", Some(1.25)),
    Aim::Times("public, h2", "nginx, h2", Some(1.1)),
    Aim::Times("public, h2", "bare hyper, h2", Some(1.1)),
];

/// All names that there could be here.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    HTTP_1.into_iter().chain(HTTP_2)
}

/// # Errors
/// When a request is not answered as it should be.
pub(crate) fn measure(scene: &Scene, wanted: &Wanted) -> Result<Vec<Table>, String> {
    let names: Vec<_> = names()
        .filter(|name| wanted.is_wanted("requests", name) && is_there(scene, name))
        .collect();
    let mut costs = Table::of("processor time of a request, µs", &AIMS);
    let mut speeds = Table::of("requests in a second", &[]);
    for round in 1..=ROUNDS {
        eprint!("requests, round {round}:");
        for name in &names {
            let (process, request) = workload(scene, name).map_err(|complaint| format!("{name}: {complaint}"))?;
            if round == 1 {
                // What fills caches and opens connections to the application is not counted.
                request.load(1)?;
            }
            let before = process.cpu();
            let count = request
                .load(SECONDS)
                .map_err(|complaint| format!("{name}: {complaint}"))? as f64;
            let cost = (process.cpu() - before).as_secs_f64() * 1e6 / count;
            costs.add(name, cost);
            speeds.add(name, count / f64::from(SECONDS));
            eprint!("  {name} {cost:.1}");
        }
        eprintln!();
    }
    Ok(vec![costs, speeds])
}

fn is_there(scene: &Scene, name: &str) -> bool {
    let (proxy, version) = parts(name);
    let is_anchor = |name: &str| ["haproxy", "envoy"].contains(&name);
    let is_missing = is_anchor(proxy) && scene.anchors.iter().all(|(anchor, _)| anchor.name() != proxy);
    let needs_redis = name.starts_with("redis") && scene.gateways.in_redis.is_none();
    let needs_h2load = version.starts_with("h2") && !scene.has_h2load;
    !is_missing && !needs_redis && !needs_h2load
}

/// Who is asked, and how.
fn parts(name: &str) -> (&str, &str) {
    match name.rsplit_once(", ") {
        Some((who, how @ ("h2c" | "h2"))) => (who, how),
        _ => (name, ""),
    }
}

/// Who is measured, and with what request.
fn workload<'a>(scene: &'a Scene, name: &str) -> Result<(&'a Process, Request), String> {
    let (who, how) = parts(name);
    let (process, address, path) = place(scene, who, how)?;
    let bearer = |token: String| Some(("Authorization", format!("Bearer {token}")));
    // A new session each time, for an old one is renewed, and the load generator keeps no cookies.
    let session = |person| Some(("Cookie", scene.runtime.block_on(scene.visitor.log_in(address, person))));
    let header = match who {
        "jwt" | "jwt, logged" => bearer(scene.server.issue_jwt("ann", &scene.audience, "read")),
        "opaque" => bearer(scene.server.issue_opaque("ann", &scene.audience, "read")),
        "cookie" | "redis" | STRICT => session("ann"),
        "cookie, 1 KiB" => session("small"),
        "cookie, 3 KiB" => session("medium"),
        "cookie, 8 KiB" => session("large"),
        _ => None,
    };
    let (scheme, version) = match how {
        "h2" => ("https", Version::Http2),
        "h2c" => ("http", Version::Http2),
        _ => ("http", Version::Http1),
    };
    let url = format!("{scheme}://{address}{path}");
    // The load generators do not mind where a redirect leads. This one request is of HTTP/1.1 where that is understood.
    if who == "public" || header.is_some() {
        let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
        scene.runtime.block_on(scene.visitor.ask(&url, header))?;
    }
    Ok((process, Request { url, version, header }))
}

fn place<'a>(scene: &'a Scene, who: &str, how: &str) -> Result<(&'a Process, SocketAddr, &'static str), String> {
    if let Some((_, site)) = scene.anchors.iter().find(|(anchor, _)| anchor.name() == who) {
        let address = match how {
            "h2c" => site.h2c,
            "h2" => site.tls,
            _ => site.plain,
        };
        return Ok((&site.process, address, "/public"));
    }
    let gateways = &scene.gateways;
    let in_redis = || gateways.in_redis.as_ref().ok_or("there is no Redis");
    let gateway = match (who, how) {
        (_, "h2c") => &gateways.h2c,
        (_, "h2") => &gateways.tls,
        ("public, logged" | "jwt, logged", _) => &gateways.logging,
        ("cookie, 1 KiB" | "cookie, 3 KiB" | "cookie, 8 KiB", _) => &gateways.sized,
        ("redis", _) => &in_redis()?.usual,
        (STRICT, _) => &in_redis()?.strict,
        _ => &gateways.usual,
    };
    let path = match who {
        "public" | "public, logged" => "/public",
        "jwt" | "opaque" | "jwt, logged" => "/api",
        _ => "/app",
    };
    Ok((&gateway.process, gateway.address, path))
}
