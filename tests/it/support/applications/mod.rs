//! Applications that other people wrote, told by headers who comes.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{browser::client, process::free_address, programs};

/// One that runs until this is dropped, with a directory of its own.
pub struct Application {
    pub address: SocketAddr,
    _group: Group,
    _directory: tempfile::TempDir,
}

/// Whether Django is there.
pub fn django_is_installed() -> bool {
    programs::module_installed("django", "apt-get install -y python3-django")
}

/// Whether JupyterLab is there, in the environment that the test command makes for it.
pub fn jupyterlab_is_installed() -> bool {
    let jupyter = jupyter();
    programs::installed(
        &[jupyter.to_str().unwrap()],
        "python3 -m venv target/jupyterlab && target/jupyterlab/bin/pip install jupyterlab",
    )
}

pub fn prometheus_is_installed() -> bool {
    programs::installed(&["prometheus"], "apt-get install -y prometheus")
}

pub fn dokuwiki_is_installed() -> bool {
    programs::installed(&["php"], "apt-get install -y php-cli php-cgi dokuwiki")
        && programs::file_installed("/usr/share/dokuwiki/doku.php", "apt-get install -y dokuwiki")
}

fn jupyter() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target/jupyterlab/bin/jupyter-lab"]
        .iter()
        .collect()
}

fn beside(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/it/support/applications", name]
        .iter()
        .collect()
}

impl Application {
    /// A site of Django, which makes accounts as `RemoteUserMiddleware` does.
    pub async fn django() -> Self {
        Self::start(|address, directory| {
            let mut command = Command::new(programs::PYTHON);
            command.arg(beside("django_site.py"));
            command.args([&address.port().to_string(), directory]);
            command
        })
        .await
    }

    /// A wiki in PHP that looks at the headers of its request, as pages of CGI do.
    pub async fn dokuwiki() -> Self {
        Self::start(|address, directory| {
            let mut command = Command::new("sh");
            command.arg(beside("dokuwiki.sh"));
            command.args([&address.port().to_string(), directory]);
            command
        })
        .await
    }

    /// A dashboard that knows no people at all.
    pub async fn prometheus() -> Self {
        Self::start(|address, directory| {
            let file = format!("{directory}/prometheus.yml");
            std::fs::write(&file, "scrape_configs: []\n").unwrap();
            let mut command = Command::new("prometheus");
            command.args([
                format!("--config.file={file}"),
                format!("--storage.tsdb.path={directory}/data"),
                format!("--web.listen-address={address}"),
            ]);
            command
        })
        .await
    }

    pub async fn jupyterlab() -> Self {
        Self::jupyterlab_by(&format!("--config={}", beside("jupyter_config.py").display())).await
    }

    /// As it is by itself: whoever has the token may do everything.
    pub async fn jupyterlab_with_token(token: &str) -> Self {
        Self::jupyterlab_by(&format!("--IdentityProvider.token={token}")).await
    }

    async fn jupyterlab_by(argument: &str) -> Self {
        Self::start(|address, directory| {
            let mut command = Command::new(jupyter());
            command.args([
                argument,
                "--ServerApp.allow_root=True",
                "--ServerApp.open_browser=False",
            ]);
            command.args([
                "--ServerApp.ip=127.0.0.1",
                "--ServerApp.port_retries=0",
                &format!("--ServerApp.port={}", address.port()),
                &format!("--ServerApp.root_dir={directory}"),
            ]);
            // Its settings and run-time files are nobody else's.
            command.env("HOME", directory);
            command
        })
        .await
    }

    async fn start(command: impl Fn(SocketAddr, &str) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let group = Group::run(&command(address, directory.path().to_str().unwrap()));
        let since = Instant::now();
        while client().get(format!("http://{address}/")).send().await.is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "it never answers");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            address,
            _group: group,
            _directory: directory,
        }
    }
}

/// A program with all that it starts.
pub struct Group(Child);

/// Ends its whole group when its input ends: also when the tests are killed.
const GUARD: &str = "\"$@\" </dev/null & read -r _; kill -KILL 0";

impl Group {
    pub fn run(command: &Command) -> Self {
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            guard.env(name, value.unwrap_or_default());
        }
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(guard.process_group(0).spawn().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
