//! Everything that takes part: an application, nginx, some gateways, Redis, and an authorization server in this process.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use reqwest::{Response, header, redirect::Policy};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use url::Url;
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, User},
    secret::Secret,
    time::SystemClock,
};

use super::{
    load::Request,
    process::{Process, free_address, wait_for},
    redis::Redis,
};

const SCOPES: [&str; 4] = ["openid", "groups", "profile", "email"];

pub(crate) struct Scene {
    runtime: Runtime,
    client: reqwest::Client,
    nginx: Site,
    gateway: Site,
    /// The same with a line for each request.
    logging: Site,
    /// Its sessions are as large as their persons' groups make them.
    sized: Site,
    in_redis: Option<InRedis>,
    jwt: String,
    opaque: String,
    _server: AuthorizationServer,
    _application: Site,
    _folder: TempDir,
}

/// A program and where it listens.
struct Site {
    address: SocketAddr,
    process: Process,
}

/// Gateways with their sessions in a Redis.
struct InRedis {
    /// As it is out of the box: what was read is not read again for a second.
    usual: Site,
    strict: Site,
    _redis: Redis,
}

/// Persons, how large their sessions are (in KiB of what is sealed), and how many groups make them so.
const SIZED: [(&str, usize, usize); 3] = [("small", 1, 0), ("medium", 3, 46), ("large", 8, 167)];

const STRICT: &str = "redis, read each time";

impl Scene {
    const WORKLOADS: [&str; 12] = [
        "nginx",
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

    /// What can be measured here.
    pub(crate) fn workloads(&self) -> Vec<&'static str> {
        let there = |name: &&str| self.in_redis.is_some() || !name.starts_with("redis");
        Self::WORKLOADS.into_iter().filter(there).collect()
    }

    /// # Errors
    /// When sessions are not as large as they should be.
    pub(crate) fn open() -> Result<Self, String> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [gateway, logging, sized, usual, strict] = std::array::from_fn(|_| free_address());
        let server = runtime.block_on(authorization_server(&[gateway, usual, strict], sized));
        let (application, nginx) = nginx(folder.path());
        let start = |listen, client: &str, more: &str| {
            let text = gateway_file(listen, gateway, application.address, server.issuer(), client);
            start_gateway(folder.path(), listen, &format!("{text}{more}"))
        };
        let quiet = "[log]\nlevel = \"warn\"\naccess = false\n";
        let in_redis = in_redis(
            folder.path(),
            |listen, session| start(listen, "bench", &format!("{quiet}{session}")),
            [usual, strict],
        );
        let scene = Self {
            nginx,
            gateway: start(gateway, "bench", quiet),
            logging: start(logging, "bench", "[log]\naccess = true\n"),
            sized: start(sized, "sized", quiet),
            in_redis,
            jwt: server.issue_jwt("ann", &format!("http://{gateway}"), "read"),
            opaque: server.issue_opaque("ann", &format!("http://{gateway}"), "read"),
            runtime,
            client: client(),
            _server: server,
            _application: application,
            _folder: folder,
        };
        scene.sizes_are_right()?;
        Ok(scene)
    }

    /// That a session has the size it is called by, give or take a quarter: the tokens of a login alone have more than 1 KiB.
    fn sizes_are_right(&self) -> Result<(), String> {
        for (person, kibibytes, _) in SIZED {
            let cookies = self.runtime.block_on(self.log_in(&self.sized, person));
            let values = cookies.split("; ").filter_map(|pair| pair.split_once('='));
            // What is sealed is a quarter shorter than its text in a cookie.
            let sealed = values.map(|(_, value)| value.len()).sum::<usize>() * 3 / 4;
            println!("a session of {kibibytes} KiB has {sealed} bytes");
            if sealed.abs_diff(1_024 * kibibytes) > 1_024 * kibibytes / 4 {
                return Err(format!("the session of {person} has {sealed} bytes"));
            }
        }
        Ok(())
    }

    /// Who is measured, and with what request.
    ///
    /// # Errors
    /// When the request is not answered as it should be.
    pub(crate) fn workload(&self, name: &str) -> Result<(&Process, Request), String> {
        let in_redis = || self.in_redis.as_ref().ok_or("there is no Redis");
        let (site, path) = match name {
            "nginx" => (&self.nginx, "/public"),
            "public" => (&self.gateway, "/public"),
            "jwt" | "opaque" => (&self.gateway, "/api"),
            "cookie" => (&self.gateway, "/app"),
            "cookie, 1 KiB" | "cookie, 3 KiB" | "cookie, 8 KiB" => (&self.sized, "/app"),
            "redis" => (&in_redis()?.usual, "/app"),
            STRICT => (&in_redis()?.strict, "/app"),
            "public, logged" => (&self.logging, "/public"),
            "jwt, logged" => (&self.logging, "/api"),
            other => return Err(format!("there is no such workload: {other}")),
        };
        // A new one each time, for an old one is renewed, and the load generator keeps no cookies.
        let logged_in = |person| Some(("Cookie", self.runtime.block_on(self.log_in(site, person))));
        let header = match name {
            "jwt" | "jwt, logged" => Some(("Authorization", format!("Bearer {}", self.jwt))),
            "opaque" => Some(("Authorization", format!("Bearer {}", self.opaque))),
            "cookie" | "redis" | STRICT => logged_in("ann"),
            "cookie, 1 KiB" => logged_in("small"),
            "cookie, 3 KiB" => logged_in("medium"),
            "cookie, 8 KiB" => logged_in("large"),
            _ => None,
        };
        let url = format!("http://{}{path}", site.address);
        let request = Request { url, header };
        self.runtime.block_on(self.try_out(&request))?;
        Ok((&site.process, request))
    }

    /// Sends the request once, for the load generator does not mind where a redirect leads.
    async fn try_out(&self, request: &Request) -> Result<(), String> {
        let mut once = self.client.get(&request.url);
        if let Some((name, value)) = &request.header {
            once = once.header(*name, value);
        }
        let answer = once.send().await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("the answer is {status}")),
        }
    }

    /// The cookie of a session, as a browser gets it.
    async fn log_in(&self, site: &Site, person: &str) -> String {
        let page = format!("http://{}/app", site.address);
        let start = self.client.get(page).header(header::ACCEPT, "text/html");
        let start = start.send().await.unwrap();
        let (login, authorize) = (cookie(&start), location(&start));
        let mut form: Vec<_> = authorize.query_pairs().into_owned().collect();
        form.extend([("username", person), ("password", person)].map(|(name, value)| (name.into(), value.into())));
        let granted = self.client.post(authorize.join("/login").unwrap()).form(&form);
        let callback = location(&granted.send().await.unwrap());
        let end = self.client.get(callback).header(header::COOKIE, login);
        cookie(&end.send().await.unwrap())
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder().redirect(Policy::none()).no_proxy();
    builder.build().unwrap()
}

fn location(answer: &Response) -> Url {
    let location = answer.headers().get(header::LOCATION).expect("no redirect");
    Url::parse(location.to_str().unwrap()).unwrap()
}

/// All cookies that the answer sets and does not delete.
fn cookie(answer: &Response) -> String {
    let lines = answer.headers().get_all(header::SET_COOKIE).iter();
    let pairs = lines.map(|line| line.to_str().unwrap().split(';').next().unwrap());
    let kept: Vec<_> = pairs.filter(|pair| !pair.ends_with('=')).collect();
    kept.join("; ")
}

async fn authorization_server(gateways: &[SocketAddr], sized: SocketAddr) -> AuthorizationServer {
    let client = |id: &str, gateways: &[SocketAddr], access_tokens| Client {
        id: id.to_owned(),
        secret: Some(Secret::new("bench")),
        redirect_uris: gateways
            .iter()
            .map(|gateway| format!("http://{gateway}/oauth2/callback"))
            .collect(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: gateways
            .iter()
            .take(1)
            .map(|gateway| format!("http://{gateway}"))
            .collect(),
        access_tokens,
        scopes: SCOPES.map(str::to_owned).to_vec(),
    };
    let ann = User {
        groups: ["staff", "admins", "editors"].map(str::to_owned).to_vec(),
        ..User::named("ann")
    };
    let mut builder = AuthorizationServer::builder(Arc::new(SystemClock))
        .client(client("bench", gateways, AccessTokenKind::Jwt))
        .client(client("sized", &[sized], AccessTokenKind::Opaque))
        .user(ann);
    for (person, _, groups) in SIZED {
        builder = builder.user(User {
            email: None,
            groups: (0..groups).map(|number| format!("department-{number:04}")).collect(),
            ..User::named(person)
        });
    }
    let builder = builder.access_token_lifetime(Duration::from_secs(3_600));
    builder.listen(([127, 0, 0, 1], 0).into()).await.unwrap()
}

/// The gateways with a Redis, where there is one; says loudly where there is none.
fn in_redis(
    folder: &Path,
    start: impl Fn(SocketAddr, &str) -> Site,
    [usual, strict]: [SocketAddr; 2],
) -> Option<InRedis> {
    let redis = Redis::start();
    let redis = redis
        .inspect_err(|complaint| eprintln!("\nLEFT OUT: {complaint}\n"))
        .ok()?;
    let url = folder.join("redis.url");
    fs::write(&url, redis.url()).unwrap();
    let session = |more: &str| format!("[session]\nstore = \"redis\"\n{more}redis = {{ url_file = {url:?} }}\n");
    Some(InRedis {
        usual: start(usual, &session("")),
        strict: start(strict, &session("read_cache = \"0s\"\n")),
        _redis: redis,
    })
}

/// An application that always says the same, and nginx before it.
fn nginx(folder: &Path) -> (Site, Site) {
    let answer = "An answer of a hundred and twenty-eight bytes. ".repeat(3);
    let application = free_address();
    let says = format!("location / {{ return 200 '{}'; }}", &answer[..128]);
    let passes =
        "location / { proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection ''; }";
    let upstream =
        format!("upstream application {{ server {application}; keepalive 64; keepalive_requests 100000000; }}");
    (
        start_nginx(folder, "application", application, "", &says, Process::other),
        start_nginx(folder, "proxy", free_address(), &upstream, passes, Process::measured),
    )
}

/// One process, without a master.
fn start_nginx(
    folder: &Path,
    name: &str,
    address: SocketAddr,
    upstream: &str,
    location: &str,
    start: fn(&str, &[&str]) -> Process,
) -> Site {
    let file = folder.join(format!("{name}.conf"));
    let folder = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {folder}/{name}.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000; default_type text/plain;
    client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
    {upstream}
    server {{ listen {address}; {location} }}
}}"
    );
    fs::write(&file, text).unwrap();
    let process = start(
        "nginx",
        &["-p", &folder.to_string(), "-c", file.to_str().unwrap(), "-e", "stderr"],
    );
    wait_for(address);
    Site { address, process }
}

fn start_gateway(folder: &Path, address: SocketAddr, text: &str) -> Site {
    let file = folder.join(format!("gateway-{}.toml", address.port()));
    fs::write(&file, text).unwrap();
    let arguments = ["run", "--config", file.to_str().unwrap()];
    let process = Process::measured(env!("CARGO_BIN_EXE_vestibule"), &arguments);
    wait_for(address);
    Site { address, process }
}

/// All gateways take tokens for the first.
fn gateway_file(
    listen: SocketAddr,
    audience: SocketAddr,
    application: SocketAddr,
    issuer: &str,
    client: &str,
) -> String {
    let admin = free_address();
    // Who is in no group should have a small session.
    let scopes = if client == "sized" { &SCOPES[..2] } else { &SCOPES };
    let mut text = format!(
        r#"version = 1
server = {{ listen = ["{listen}"], workers = 1 }}
admin = {{ listen = "{admin}" }}
[provider.bench]
issuer = "{issuer}"
client_id = "{client}"
client_secret = "bench"
scopes = {scopes:?}
[provider.bench.bearer]
audiences = ["http://{audience}"]
"#
    );
    for (name, auth) in [("public", "public"), ("api", "bearer"), ("app", "session")] {
        text.push_str(&format!(
            "[route.{name}]\nurl = \"http://{listen}/{name}\"\nupstream = \"http://{application}\"\nauth = [\"{auth}\"]\n"
        ));
    }
    text
}
