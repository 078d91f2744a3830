//! Everything that takes part: two applications, proxies to compare with, gateways, Redis, and an authorization server.

use std::{fs, net::SocketAddr};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vestibule::demo::authorization_server::AuthorizationServer;

use super::{
    anchors::{Anchor, Ground, Site, application, ourselves},
    application,
    gateways::{Addresses, Gateways, Plan, Setting},
    process::{Process, free_address, is_installed, wait_for},
    provider::{SIZED, Visitor, authorization_server},
};

pub(crate) struct Scene {
    pub(crate) runtime: Runtime,
    pub(crate) visitor: Visitor,
    pub(crate) gateways: Gateways,
    pub(crate) anchors: Vec<(Anchor, Site)>,
    /// What everybody who speaks TLS has.
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) server: AuthorizationServer,
    pub(crate) audience: String,
    /// Whether there is somebody who asks in HTTP/2.
    pub(crate) has_h2load: bool,
    small: (SocketAddr, Process),
    large: (SocketAddr, Process),
    folder: TempDir,
}

/// A program under test, where it is asked, and what it is called.
pub(crate) struct Door<'a> {
    pub(crate) name: &'static str,
    pub(crate) process: &'a Process,
    pub(crate) address: SocketAddr,
}

/// What can be started anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Anchor(Anchor),
    Gateway,
}

/// What the gateway is called beside the anchors.
pub(crate) const GATEWAY: &str = "gateway";

impl Scene {
    /// # Errors
    /// When sessions are not as large as they should be.
    pub(crate) fn open() -> Result<Self, String> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = certificate(&folder);
        let (small, large) = (application(folder.path()), large());
        let ground = || Ground {
            folder: folder.path(),
            small: small.0,
            large: large.0,
        };
        let addresses = Addresses::free();
        let server = runtime.block_on(authorization_server(&addresses));
        let setting = Setting {
            ground: ground(),
            issuer: server.issuer().to_owned(),
            audience: format!("http://{}", addresses.usual),
        };
        let scene = Self {
            visitor: Visitor::new(),
            gateways: Gateways::start(&setting, addresses),
            anchors: anchors(&setting.ground),
            audience: setting.audience.clone(),
            has_h2load: has_h2load(),
            runtime,
            certificate,
            server,
            small,
            large,
            folder,
        };
        scene.sizes_are_right()?;
        Ok(scene)
    }

    /// That a session has the size it is called by, give or take a quarter: the tokens of a login alone have more than 1 KiB.
    fn sizes_are_right(&self) -> Result<(), String> {
        for (person, kibibytes, _) in SIZED {
            let cookies = self
                .runtime
                .block_on(self.visitor.log_in(self.gateways.sized.address, person));
            let values = cookies.split("; ").filter_map(|pair| pair.split_once('='));
            // What is sealed is a quarter shorter than its text in a cookie.
            let sealed = values.map(|(_, value)| value.len()).sum::<usize>() * 3 / 4;
            eprintln!("a session of {kibibytes} KiB has {sealed} bytes");
            if sealed.abs_diff(1_024 * kibibytes) > 1_024 * kibibytes / 4 {
                return Err(format!("the session of {person} has {sealed} bytes"));
            }
        }
        Ok(())
    }

    /// Everybody who passes requests on to both applications, in clear text.
    pub(crate) fn doors(&self) -> Vec<Door<'_>> {
        let usual = &self.gateways.usual;
        self.doors_at(|site| site.plain, (&usual.process, usual.address))
    }

    /// The same behind TLS.
    pub(crate) fn tls_doors(&self) -> Vec<Door<'_>> {
        let tls = &self.gateways.tls;
        self.doors_at(|site| site.tls, (&tls.process, tls.address))
    }

    fn doors_at<'a>(
        &'a self,
        address: fn(&Site) -> SocketAddr,
        (process, gateway): (&'a Process, SocketAddr),
    ) -> Vec<Door<'a>> {
        let whole = self.anchors.iter().filter(|(anchor, _)| *anchor != Anchor::BareNginx);
        let anchors = whole.map(|(anchor, site)| Door {
            name: anchor.name(),
            process: &site.process,
            address: address(site),
        });
        let gateway = Door {
            name: GATEWAY,
            process,
            address: gateway,
        };
        anchors.chain([gateway]).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let whole = self.anchors.iter().filter(|(anchor, _)| *anchor != Anchor::BareNginx);
        let anchors = whole.map(|(anchor, _)| Kind::Anchor(*anchor));
        anchors.chain([Kind::Gateway]).collect()
    }

    /// Starts one more of a kind, and does not wait until it listens.
    pub(crate) fn start(&self, kind: Kind) -> (Process, SocketAddr) {
        let ground = Ground {
            folder: self.folder.path(),
            small: self.small.0,
            large: self.large.0,
        };
        match kind {
            Kind::Anchor(anchor) => {
                let site = anchor.start(&ground);
                (site.process, site.plain)
            }
            Kind::Gateway => {
                let setting = Setting {
                    ground,
                    issuer: self.server.issuer().to_owned(),
                    audience: self.audience.clone(),
                };
                let gateway = Plan::at(free_address()).start(&setting);
                (gateway.process, gateway.address)
            }
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anchor(anchor) => anchor.name(),
            Self::Gateway => GATEWAY,
        }
    }
}

/// A certificate of ECDSA with P-256, in files: alone, its key, and both together.
fn certificate(folder: &TempDir) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("tls.crt", &certificate);
    write("tls.key", &key);
    write("tls.pem", &format!("{certificate}{key}"));
    cert.der().clone()
}

fn anchors(ground: &Ground<'_>) -> Vec<(Anchor, Site)> {
    let installed = Anchor::installed().into_iter();
    let sites: Vec<_> = installed.map(|anchor| (anchor, anchor.start(ground))).collect();
    for (_, site) in &sites {
        wait_for(site.plain);
    }
    sites
}

/// Says loudly when not.
fn has_h2load() -> bool {
    let is_there = is_installed("h2load");
    if !is_there {
        eprintln!(
            "\nLEFT OUT: HTTP/2, for `h2load` is not installed; install it with: apt-get install nghttp2-client\n"
        );
    }
    is_there
}

fn large() -> (SocketAddr, Process) {
    let address = free_address();
    let process = ourselves(application::WORD, &[&address.to_string()], Process::other);
    wait_for(address);
    (address, process)
}
