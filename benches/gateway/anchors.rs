//! Proxies that know nobody, to compare with: each passes requests on to the same applications.

use std::{fs, net::SocketAddr, path::Path};

use super::{
    bare_hyper,
    process::{Process, envoy, free_address, is_installed, wait_for},
};

/// A program, and where it listens.
pub(crate) struct Site {
    pub(crate) plain: SocketAddr,
    /// HTTP/2 in clear text.
    pub(crate) h2c: SocketAddr,
    /// HTTP/1.1 and HTTP/2.
    pub(crate) tls: SocketAddr,
    pub(crate) process: Process,
}

/// What all of them stand before, and where their files are.
pub(crate) struct Ground<'a> {
    pub(crate) folder: &'a Path,
    /// The application of small answers, and that of large ones and WebSockets: of paths that begin with /large.
    pub(crate) small: SocketAddr,
    pub(crate) large: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// Without a header for the application, and nothing but HTTP/1.1.
    BareNginx,
    Nginx,
    Haproxy,
    Envoy,
    BareHyper,
}

impl Anchor {
    const ALL: [Self; 5] = [
        Self::BareNginx,
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::BareHyper,
    ];

    /// Those that are here; says loudly which are not.
    pub(crate) fn installed() -> Vec<Self> {
        let mut installed = Self::ALL.to_vec();
        let mut leave_out = |anchor: Self, how: &str| {
            eprintln!(
                "\nLEFT OUT: {} is not installed; install it with: {how}\n",
                anchor.name()
            );
            installed.retain(|other| *other != anchor);
        };
        if !is_installed("haproxy") {
            leave_out(Self::Haproxy, "apt-get install haproxy");
        }
        if envoy().is_none() {
            leave_out(Self::Envoy, "tests/run, or as it does");
        }
        installed
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareNginx => "nginx, bare",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::BareHyper => "bare hyper",
        }
    }

    /// Starts it on the processor of what is measured, and does not wait.
    pub(crate) fn start(self, ground: &Ground<'_>) -> Site {
        let [plain, h2c, tls] = std::array::from_fn(|_| free_address());
        let process = self.process(ground, [plain, h2c, tls]);
        Site {
            plain,
            h2c,
            tls,
            process,
        }
    }

    fn process(self, ground: &Ground<'_>, [plain, h2c, tls]: [SocketAddr; 3]) -> Process {
        let folder = ground.folder.to_str().unwrap();
        let write = |text: &str, extension: &str| {
            let name = format!("{}-{}", self.name().replace([',', ' '], ""), plain.port());
            let addresses = [
                ("plain", plain),
                ("h2c", h2c),
                ("tls", tls),
                ("small", ground.small),
                ("large", ground.large),
            ];
            let text = text.replace("<folder>", folder).replace("<name>", &name);
            let text = addresses.iter().fold(text, |text, (word, address)| {
                let text = text.replace(&format!("<{word} port>"), &address.port().to_string());
                text.replace(&format!("<{word}>"), &address.to_string())
            });
            let file = ground.folder.join(format!("{name}.{extension}"));
            fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        match self {
            Self::BareNginx => nginx(
                folder,
                &write(include_str!("anchors/bare-nginx.conf"), "conf"),
                Process::measured,
            ),
            Self::Nginx => nginx(
                folder,
                &write(include_str!("anchors/nginx.conf"), "conf"),
                Process::measured,
            ),
            Self::Haproxy => {
                let file = write(include_str!("anchors/haproxy.cfg"), "cfg");
                Process::measured("haproxy", &["-q", "-db", "-f", &file])
            }
            Self::Envoy => {
                let file = write(include_str!("anchors/envoy.yaml"), "yaml");
                let more = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
                Process::measured(
                    envoy().unwrap().to_str().unwrap(),
                    &[&["-c", &file], &more[..]].concat(),
                )
            }
            Self::BareHyper => {
                let addresses = [plain, h2c, tls, ground.small, ground.large].map(|address| address.to_string());
                let words = addresses.iter().map(String::as_str).chain([folder]);
                ourselves(bare_hyper::WORD, &words.collect::<Vec<_>>(), Process::measured)
            }
        }
    }
}

/// An application that always says the same in 128 bytes.
pub(crate) fn application(folder: &Path) -> (SocketAddr, Process) {
    let address = free_address();
    let answer = "An answer of a hundred and twenty-eight bytes. ".repeat(3);
    let text = include_str!("anchors/application.conf")
        .replace("<plain>", &address.to_string())
        .replace("<answer>", &answer[..128])
        .replace("<folder>", folder.to_str().unwrap())
        .replace("<name>", "application");
    let file = folder.join("application.conf");
    fs::write(&file, text).unwrap();
    let process = nginx(folder.to_str().unwrap(), file.to_str().unwrap(), Process::other);
    wait_for(address);
    (address, process)
}

fn nginx(folder: &str, file: &str, start: fn(&str, &[&str]) -> Process) -> Process {
    start("nginx", &["-p", folder, "-c", file, "-e", "stderr"])
}

/// This program, asked to be something else.
pub(crate) fn ourselves(word: &str, arguments: &[&str], start: fn(&str, &[&str]) -> Process) -> Process {
    let program = std::env::current_exe().unwrap();
    start(program.to_str().unwrap(), &[&[word], arguments].concat())
}
