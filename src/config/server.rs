//! The `[server]`, `[admin]` and `[log]` tables.

use std::{
    net::Ipv4Addr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    thread::available_parallelism,
    time::Duration,
};

use super::{
    address::ReservedPath,
    file,
    listen::{self, FileMode},
    load::Load,
    measure::Timeout,
    read::{At, Field},
    report::Span,
    shape::Count,
    tls,
};
use crate::{
    gateway::{self, settings::PerMinute},
    identity::Proxies,
    secret::Secret,
    server::{Limits, Listen, Settings, Spoken},
    telemetry::LogSettings,
    upstream::BodyLimits,
};

/// What the tables say to several rooms.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) server: Settings,
    pub(super) gateway: gateway::settings::Settings,
    pub(super) trusted_proxies: Proxies,
    pub(super) bodies: BodyLimits,
    pub(super) watch: bool,
    /// The addresses that the file names.
    pub(super) listen: Vec<At<Listen>>,
    pub(super) redirect: Vec<At<Listen>>,
    /// Where [server.tls] stands.
    pub(super) tls_at: Option<Span>,
    pub(super) admin: Option<At<Listen>>,
}

const PORT: u16 = 4180;
const ADMIN_PORT: u16 = 4181;
const DECISIONS: usize = 1_000;

pub(super) fn settings(table: Field<file::Server>, admin: Field<file::Admin>, load: &mut Load<'_>) -> Server {
    let mut table = table.or_default();
    let proxies = listen::proxies(&table.trusted_proxies);
    proxy_protocol(&table, &proxies, load);
    let listen = table.listen.into_value().map_or_else(Vec::new, |list| list.0);
    let addresses = listen.iter().map(|address| address.value.clone()).collect();
    let tls_at = table.tls.at();
    let (tls, redirect) = tls::settings(std::mem::take(&mut table.tls), &table.h2c, load);
    let prefix = table.auth_prefix.or(ReservedPath("/oauth2".into()));
    let limits = table.limits.or_default();
    let admin = admin.or_default();
    let admin_token = admin.token_file.given().and_then(|file| admin_token(file, load));
    let decisions = admin.decisions.value().map_or(DECISIONS, |count| count.to_usize());
    let admin = admin.listen.given().cloned();
    if let Some(At { at, .. }) = admin.as_ref().filter(|admin| admin.value == Listen::Systemd(None)) {
        let instead = "write \"systemd:admin\", and FileDescriptorName=admin into the socket's file";
        load.findings
            .problem(*at, "sockets of systemd without a name are those of [server]", instead);
    }
    if let Some(At {
        at,
        value: Listen::Tcp(address),
    }) = &admin
        && !address.ip().is_loopback()
    {
        let message = format!("{address} answers in clear text whoever reaches it: the token can be read on the way");
        let instead = "listen at a loopback address, or let nobody but the network of the monitoring reach it";
        load.findings.advice(*at, message, instead);
    }
    Server {
        bodies: body_limits(&limits),
        watch: table.watch.or(true),
        server: Settings {
            listen: if listen.is_empty() {
                vec![loopback(PORT)]
            } else {
                addresses
            },
            redirect: redirect.iter().map(|address| address.value.clone()).collect(),
            tls,
            admin: Some(admin.as_ref().map_or(loopback(ADMIN_PORT), |admin| admin.value.clone())),
            workers: table
                .workers
                .value()
                .map_or_else(processors, |workers| workers.to_usize()),
            spoken: match table.h2c.or(false) {
                true => Spoken::Either,
                false => Spoken::Http1,
            },
            limits: self::limits(&limits),
            unix_mode: table.unix_mode.value().map_or(FileMode::default(), |mode| *mode).0,
            proxy_protocol: table.proxy_protocol.or(false),
            reuse_port: table.reuse_port.or(false),
            drain_delay: table.drain_delay.or(Duration::from_secs(5)),
            drain_timeout: table.drain_timeout.or(Duration::from_secs(30)),
        },
        gateway: gateway::settings::Settings {
            auth_prefix: prefix.0.into(),
            admin_token,
            decisions,
            per_minute: per_minute(&limits),
        },
        trusted_proxies: proxies,
        listen,
        redirect,
        tls_at,
        admin,
    }
}

/// Fewer characters are tried out in no time.
const SHORTEST_TOKEN: usize = 24;

fn admin_token(file: &At<PathBuf>, load: &mut Load<'_>) -> Option<Secret> {
    let token = load.secret_file(file)?;
    if token.expose().len() < SHORTEST_TOKEN {
        let message = format!("the token has fewer than {SHORTEST_TOKEN} characters");
        let instead = "make one that nobody guesses: openssl rand -hex 32 > admin.token";
        load.findings.problem(file.at, message, instead);
        return None;
    }
    Some(token)
}

/// The header says where a client is, so that it counts from those alone who may say so.
fn proxy_protocol(table: &file::Server, proxies: &Proxies, load: &mut Load<'_>) {
    if let (Some(true), Some(at)) = (table.proxy_protocol.value(), table.proxy_protocol.at())
        && proxies.are_none()
    {
        let message =
            "with `proxy_protocol`, nobody is let in whom `trusted_proxies` does not name, and it names nobody";
        let instead = "name the proxies in front: trusted_proxies = [\"10.0.0.7/32\"]";
        load.findings.problem(at, message, instead);
    }
}

fn limits(table: &file::Limits) -> Limits {
    let default = Limits::default();
    let wait = |field: &Field<Timeout>, default| field.value().map_or(default, |timeout| timeout.0);
    Limits {
        connections: table
            .connections
            .value()
            .map_or(default.connections, |count| count.to_usize()),
        header_bytes: table
            .header_bytes
            .value()
            .map_or(default.header_bytes, |size| size.to_usize()),
        header_count: table
            .header_count
            .value()
            .map_or(default.header_count, |count| count.to_usize()),
        target_bytes: table
            .target_bytes
            .value()
            .map_or(default.target_bytes, |size| size.to_usize()),
        handshake_timeout: wait(&table.handshake_timeout, default.handshake_timeout),
        keep_alive: wait(&table.keep_alive, default.keep_alive),
        header_timeout: wait(&table.header_timeout, default.header_timeout),
        connection_age: wait(&table.connection_age, default.connection_age),
        ..default
    }
}

fn body_limits(table: &file::Limits) -> BodyLimits {
    let default = BodyLimits::default();
    BodyLimits {
        bytes: table.body_bytes.value().map_or(default.bytes, |size| size.0),
        idle: table
            .body_idle_timeout
            .value()
            .map_or(default.idle, |timeout| timeout.0),
    }
}

/// How often one address may do something.
fn per_minute(table: &file::Limits) -> PerMinute {
    let default = PerMinute::default();
    let limit = |field: &Field<Count<0, 1_000_000>>, default| {
        field.value().map_or(default, |count| {
            NonZeroU32::new(u32::try_from(count.0).unwrap_or(u32::MAX))
        })
    };
    PerMinute {
        logins: limit(&table.logins_per_minute, default.logins),
        failed_credentials: limit(&table.failed_credentials_per_minute, default.failed_credentials),
        logouts: limit(&table.logouts_per_minute, default.logouts),
    }
}

pub(super) fn log(table: Field<file::Log>) -> LogSettings {
    let table = table.or_default();
    let default = LogSettings::default();
    LogSettings {
        format: table.format.or(default.format),
        level: table.level.into_value().map_or(default.level, |filter| filter.0),
        access: table.access.or(default.access),
    }
}

fn loopback(port: u16) -> Listen {
    Listen::Tcp((Ipv4Addr::LOCALHOST, port).into())
}

fn processors() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}
