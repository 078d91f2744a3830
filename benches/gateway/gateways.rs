//! The gateways: one file, with a little more or less in it.

use std::{fs, net::SocketAddr, path::Path};

use super::{
    anchors::Ground,
    process::{Process, free_address, wait_for},
    provider::SCOPES,
    redis::Redis,
};

/// A gateway and where it listens.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// What gateways have in common.
pub(crate) struct Setting<'a> {
    pub(crate) ground: Ground<'a>,
    pub(crate) issuer: String,
    /// Whom tokens are for.
    pub(crate) audience: String,
}

pub(crate) const QUIET: &str = "[log]\nlevel = \"warn\"\naccess = false\n";
const LOGGING: &str = "[log]\naccess = true\n";

/// Gateways that stay for all measurements.
pub(crate) struct Gateways {
    pub(crate) usual: Gateway,
    /// The same with a line for each request.
    pub(crate) logging: Gateway,
    /// Its sessions are as large as their persons' groups make them.
    pub(crate) sized: Gateway,
    /// It understands HTTP/2 in clear text.
    pub(crate) h2c: Gateway,
    pub(crate) tls: Gateway,
    pub(crate) in_redis: Option<InRedis>,
}

/// Gateways with their sessions in a Redis.
pub(crate) struct InRedis {
    /// As it is out of the box: what was read is not read again for a second.
    pub(crate) usual: Gateway,
    pub(crate) strict: Gateway,
    _redis: Redis,
}

/// Where they will listen: their authorization server must know it before.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) usual: SocketAddr,
    pub(crate) sized: SocketAddr,
    pub(crate) h2c: SocketAddr,
    pub(crate) in_redis: [SocketAddr; 2],
}

impl Addresses {
    pub(crate) fn free() -> Self {
        let [usual, sized, h2c, first, second] = std::array::from_fn(|_| free_address());
        Self {
            usual,
            sized,
            h2c,
            in_redis: [first, second],
        }
    }

    /// All whose sessions are those of ordinary people.
    pub(crate) fn ordinary(&self) -> [SocketAddr; 4] {
        [self.usual, self.h2c, self.in_redis[0], self.in_redis[1]]
    }
}

impl Gateways {
    pub(crate) fn start(setting: &Setting<'_>, addresses: Addresses) -> Self {
        let start = |plan: Plan<'_>| {
            let gateway = plan.start(setting);
            wait_for(gateway.address);
            gateway
        };
        Self {
            usual: start(Plan::at(addresses.usual)),
            logging: start(Plan {
                more: LOGGING,
                ..Plan::at(free_address())
            }),
            sized: start(Plan {
                client: "sized",
                ..Plan::at(addresses.sized)
            }),
            h2c: start(Plan {
                server: "h2c = true",
                ..Plan::at(addresses.h2c)
            }),
            tls: start(Plan::tls(free_address())),
            in_redis: in_redis(setting.ground.folder, addresses.in_redis, start),
        }
    }
}

/// The gateways with a Redis, where there is one; says loudly where there is none.
fn in_redis(folder: &Path, [usual, strict]: [SocketAddr; 2], start: impl Fn(Plan<'_>) -> Gateway) -> Option<InRedis> {
    let redis = Redis::start();
    let redis = redis
        .inspect_err(|complaint| eprintln!("\nLEFT OUT: {complaint}\n"))
        .ok()?;
    let url = folder.join("redis.url");
    fs::write(&url, redis.url()).unwrap();
    // It has its processor not for itself here, and is not measured.
    let start = |listen, more: &str| {
        let session =
            format!("{QUIET}[session]\nstore = \"redis\"\n{more}redis = {{ url_file = {url:?}, timeout = \"5s\" }}\n");
        start(Plan {
            more: &session,
            ..Plan::at(listen)
        })
    };
    Some(InRedis {
        usual: start(usual, ""),
        strict: start(strict, "read_cache = \"0s\"\n"),
        _redis: redis,
    })
}

/// What makes a gateway another than the others.
pub(crate) struct Plan<'a> {
    listen: SocketAddr,
    scheme: &'static str,
    /// Who it is to its authorization server.
    client: &'static str,
    /// More of its table `server`.
    server: &'a str,
    more: &'a str,
}

impl Plan<'_> {
    pub(crate) fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            scheme: "http",
            client: "bench",
            server: "limits = { connections = 10500 }",
            more: QUIET,
        }
    }

    fn tls(listen: SocketAddr) -> Self {
        Self {
            scheme: "https",
            server: "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }",
            ..Self::at(listen)
        }
    }

    /// Starts it on the processor of what is measured, and does not wait.
    pub(crate) fn start(self, setting: &Setting<'_>) -> Gateway {
        let file = setting
            .ground
            .folder
            .join(format!("gateway-{}.toml", self.listen.port()));
        fs::write(&file, self.file(setting)).unwrap();
        let arguments = ["run", "--config", file.to_str().unwrap()];
        Gateway {
            address: self.listen,
            process: Process::measured(env!("CARGO_BIN_EXE_vestibule"), &arguments),
        }
    }

    fn file(&self, setting: &Setting<'_>) -> String {
        let Self {
            listen,
            scheme,
            client,
            server,
            more,
        } = self;
        let Setting {
            ground,
            issuer,
            audience,
        } = setting;
        let admin = free_address();
        // Who is in no group should have a small session.
        let scopes = if *client == "sized" { &SCOPES[..2] } else { &SCOPES };
        let mut text = format!(
            r#"version = 1
server = {{ listen = ["{listen}"], workers = 1, {server} }}
admin = {{ listen = "{admin}" }}
[provider.bench]
issuer = "{issuer}"
client_id = "{client}"
client_secret = "bench"
scopes = {scopes:?}
[provider.bench.bearer]
audiences = ["{audience}"]
"#
        );
        let routes = [
            ("public", ground.small, "public"),
            ("api", ground.small, "bearer"),
            ("app", ground.small, "session"),
            ("large", ground.large, "public"),
        ];
        for (name, application, auth) in routes {
            text.push_str(&format!(
                "[route.{name}]\nurl = \"{scheme}://{listen}/{name}\"\nupstream = \"http://{application}\"\nauth = [\"{auth}\"]\n"
            ));
        }
        text + more
    }
}
