//! Everything that takes part: an application, nginx, two gateways, and an authorization server in this process.

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
};

const SCOPES: [&str; 4] = ["openid", "profile", "email", "groups"];

pub(crate) struct Scene {
    runtime: Runtime,
    client: reqwest::Client,
    nginx: Site,
    gateway: Site,
    /// The same with a line for each request.
    logging: Site,
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

impl Scene {
    pub(crate) const WORKLOADS: [&str; 7] = [
        "nginx",
        "public",
        "jwt",
        "opaque",
        "cookie",
        "public, logged",
        "jwt, logged",
    ];

    pub(crate) fn open() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let gateway = free_address();
        let server = runtime.block_on(authorization_server(gateway));
        let (application, nginx) = nginx(folder.path());
        let file = |listen, log: &str| gateway_file(listen, gateway, application.address, server.issuer(), log);
        let logging = free_address();
        Self {
            nginx,
            gateway: start_gateway(
                folder.path(),
                gateway,
                &file(gateway, r#"level = "warn", access = false"#),
            ),
            logging: start_gateway(folder.path(), logging, &file(logging, "access = true")),
            jwt: server.issue_jwt("ann", &format!("http://{gateway}"), "read"),
            opaque: server.issue_opaque("ann", &format!("http://{gateway}"), "read"),
            runtime,
            client: client(),
            _server: server,
            _application: application,
            _folder: folder,
        }
    }

    /// Who is measured, and with what request.
    ///
    /// # Errors
    /// When the request is not answered as it should be.
    pub(crate) fn workload(&self, name: &str) -> Result<(&Process, Request), String> {
        let (site, path) = match name {
            "nginx" => (&self.nginx, "/public"),
            "public" => (&self.gateway, "/public"),
            "jwt" | "opaque" => (&self.gateway, "/api"),
            "cookie" => (&self.gateway, "/app"),
            "public, logged" => (&self.logging, "/public"),
            "jwt, logged" => (&self.logging, "/api"),
            other => return Err(format!("there is no such workload: {other}")),
        };
        let header = match name {
            "jwt" | "jwt, logged" => Some(("Authorization", format!("Bearer {}", self.jwt))),
            "opaque" => Some(("Authorization", format!("Bearer {}", self.opaque))),
            // A new one each time, for an old one is renewed, and the load generator keeps no cookies.
            "cookie" => Some(("Cookie", self.runtime.block_on(self.log_in()))),
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
    async fn log_in(&self) -> String {
        let page = format!("http://{}/app", self.gateway.address);
        let start = self.client.get(page).header(header::ACCEPT, "text/html");
        let start = start.send().await.unwrap();
        let (login, authorize) = (cookie(&start), location(&start));
        let mut form: Vec<_> = authorize.query_pairs().into_owned().collect();
        form.extend([("username", "ann"), ("password", "ann")].map(|(name, value)| (name.into(), value.into())));
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

async fn authorization_server(gateway: SocketAddr) -> AuthorizationServer {
    let guestbook = Client {
        id: "bench".to_owned(),
        secret: Some(Secret::new("bench")),
        redirect_uris: vec![format!("http://{gateway}/oauth2/callback")],
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: format!("http://{gateway}"),
        access_tokens: AccessTokenKind::Jwt,
        scopes: SCOPES.map(str::to_owned).to_vec(),
    };
    let user = User {
        groups: ["staff", "admins", "editors"].map(str::to_owned).to_vec(),
        ..User::named("ann")
    };
    let builder = AuthorizationServer::builder(Arc::new(SystemClock))
        .client(guestbook)
        .user(user);
    let builder = builder.access_token_lifetime(Duration::from_secs(3_600));
    builder.listen(([127, 0, 0, 1], 0).into()).await.unwrap()
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

/// Both gateways take tokens for the first.
fn gateway_file(listen: SocketAddr, audience: SocketAddr, application: SocketAddr, issuer: &str, log: &str) -> String {
    let admin = free_address();
    let mut text = format!(
        r#"version = 1
server = {{ listen = ["{listen}"], workers = 1 }}
admin = {{ listen = "{admin}" }}
log = {{ {log} }}
[provider.bench]
issuer = "{issuer}"
client_id = "bench"
client_secret = "bench"
scopes = {SCOPES:?}
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
