//! Other proxies, with the files that are shipped for them, before the application; the gateway stands beside.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{applications::Group, house::House, process::free_address, programs::installed};

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
}

impl Proxy {
    /// The program, and how it is installed.
    fn program(self) -> (String, &'static str) {
        match self {
            Self::Nginx => ("/usr/sbin/nginx".into(), "apt-get install -y nginx-light"),
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
        }
    }

    /// The word for it in the file of the gateway.
    fn asks(self) -> &'static str {
        match self {
            Self::Nginx => "forward-auth",
        }
    }

    fn command(self, directory: &str, file: &str) -> Command {
        let (program, _) = self.program();
        let mut command = Command::new(program);
        match self {
            Self::Nginx => {
                let settings =
                    format!("daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;");
                command.args(["-p", directory, "-c", file, "-e", "stderr", "-g", &settings]);
            }
        }
        command
    }
}

impl Beside {
    /// `None` where the proxy is not installed.
    pub async fn behind(proxy: Proxy) -> Option<Self> {
        let (program, install) = proxy.program();
        if !installed(&[&program], install) {
            return None;
        }
        let house = House::open_with_h2c(|_| String::new()).await;
        let address = free_address();
        house.reload(&file_beside(&house, address, proxy.asks())).unwrap();
        let (callback, sign_out) = (
            format!("http://{address}/oauth2/callback"),
            format!("http://{address}/oauth2/sign_out"),
        );
        house.provider.register_redirect("wiki", &callback, &sign_out);

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(proxy.example());
        let gateway = house.address.port().to_string();
        let application = house.upstream.address.port().to_string();
        let text = fs::read_to_string(example(proxy.example())).unwrap();
        let text = [
            ("8080", address.port().to_string()),
            ("4180", gateway),
            ("3000", application),
            (
                "http {\n",
                format!(
                    "http {{\n    access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n",
                    directory.path().display()
                ),
            ),
        ]
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to));
        fs::write(&file, text).unwrap();
        let command = proxy.command(directory.path().to_str().unwrap(), file.to_str().unwrap());
        let group = Group::run(&command);
        let since = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "{proxy:?} does not listen");
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

/// The file of a house whose routes are another proxy's to pass on, which asks from this machine.
pub fn file_beside(house: &House, proxy: SocketAddr, asks: &str) -> String {
    let upstream = format!("upstream = \"http://{}\"", house.upstream.address);
    house
        .file
        .replace("127.0.0.2/32", "127.0.0.1/32")
        .replace(
            &format!("url = \"http://{}/", house.address),
            &format!("url = \"http://{proxy}/"),
        )
        .replace(&upstream, &format!("upstream = \"{asks}\""))
        .replace("\"X-Custom-Identity\" = \"{staff_number}\"\n", "")
}

fn example(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "deploy/forward-auth", name]
        .iter()
        .collect()
}
