//! Everything that is needed to try the gateway: somebody to log in at, and an application that cannot log anybody in.

pub mod authorization_server;
mod banner;
mod keys;
pub mod legacy_app;
mod site;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use self::{
    authorization_server::{AccessTokenKind, AuthorizationServer, Client, User},
    legacy_app::LegacyApp,
};
use crate::{secret::Secret, time::Clock};

/// The port of the gateway, where nobody asks for another; the three behind it are taken too.
pub const DEFAULT_PORT: u16 = 4180;

/// The gateway's file, for the default port.
const CONFIG: &str = include_str!("../../config/demo.toml");
/// Every address in it begins so, and ends with one more digit: how far it stands from the first.
const ADDRESS: &str = "127.0.0.1:418";

/// As long as the lines of the banner work.
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);
const MANY: usize = 300;

/// Who can log in; a password is the name.
const ALICE: &str = "alice";
const ADMIN: &str = "admin";
const MEMBER_OF_MANY: &str = "many";

/// An authorization server and a guestbook, behind the ports of a gateway and its probes.
#[derive(Debug)]
pub struct Demo {
    gateway: SocketAddr,
    authorization_server: AuthorizationServer,
    _legacy_app: LegacyApp,
}

impl Demo {
    /// Starts both on loopback, two and three ports after the gateway's.
    ///
    /// # Errors
    /// `InvalidInput` when there are no three ports after the gateway's, and what binding the sockets says.
    pub async fn start(gateway_port: u16, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let gateway = address(gateway_port, 0)?;
        let (server, application) = (address(gateway_port, 2)?, address(gateway_port, 3)?);
        let mut builder = AuthorizationServer::builder(clock)
            .access_token_lifetime(ACCESS_TOKEN_LIFETIME)
            // Hundreds of groups fit into a session's cookies once, but not in an ID token besides.
            .claims_in_userinfo_only(&["groups"]);
        for user in users() {
            builder = builder.user(user);
        }
        let builder = builder.client(guestbook(gateway)).client(script(gateway));
        Ok(Self {
            gateway,
            authorization_server: builder.listen(server).await?,
            _legacy_app: LegacyApp::listen(application).await?,
        })
    }

    /// The gateway's file (`config/demo.toml`), with its ports moved.
    pub fn config_text(gateway_port: u16) -> String {
        let mut pieces = CONFIG.split(ADDRESS);
        let mut text = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let mut rest = piece.chars();
            let offset = rest
                .next()
                .and_then(|digit| digit.to_digit(10))
                .and_then(|digit| u16::try_from(digit).ok());
            let port = gateway_port.saturating_add(offset.unwrap_or_default());
            text.push_str(&format!("127.0.0.1:{port}{}", rest.as_str()));
        }
        text
    }

    pub fn authorization_server(&self) -> &AuthorizationServer {
        &self.authorization_server
    }
}

fn address(gateway_port: u16, offset: u16) -> io::Result<SocketAddr> {
    let port = gateway_port.checked_add(offset).filter(|_| gateway_port > 0);
    let complaint = "the demo needs four ports in a row, from the gateway's on";
    let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, complaint))?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn users() -> [User; 3] {
    let groups = (0..MANY).map(|number| format!("department-{number}")).collect();
    [
        User {
            name: "Alice Example".to_owned(),
            groups: vec!["staff".to_owned()],
            ..User::named(ALICE)
        },
        User {
            name: "The Admin".to_owned(),
            groups: vec!["staff".to_owned(), "admins".to_owned()],
            ..User::named(ADMIN)
        },
        User {
            name: "Member of Many".to_owned(),
            groups,
            ..User::named(MEMBER_OF_MANY)
        },
    ]
}

/// The gateway, as `config/demo.toml` says.
fn guestbook(gateway: SocketAddr) -> Client {
    Client {
        id: "guestbook".to_owned(),
        secret: Some(Secret::new("not-a-secret")),
        redirect_uris: vec![format!("http://{gateway}/oauth2/callback")],
        post_logout_redirect_uris: vec![format!("http://{gateway}/oauth2/sign_out")],
        backchannel_logout_uri: Some(format!("http://{gateway}/oauth2/backchannel_logout")),
        audience: format!("http://{gateway}"),
        // They lie in the session's cookies, and an opaque one is short.
        access_tokens: AccessTokenKind::Opaque,
        scopes: ["openid", "profile", "email", "groups", "offline_access"]
            .map(str::to_owned)
            .to_vec(),
    }
}

/// A program that gets itself tokens for the guestbook.
fn script(gateway: SocketAddr) -> Client {
    Client {
        id: "script".to_owned(),
        secret: Some(Secret::new("script")),
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: format!("http://{gateway}"),
        access_tokens: AccessTokenKind::Jwt,
        scopes: vec!["entries.read".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, time::SystemClock};

    #[test]
    fn the_file_moves_with_its_ports() {
        assert_eq!(Demo::config_text(DEFAULT_PORT), CONFIG);
        let moved = Demo::config_text(4181);
        assert!(moved.contains(r#"url = "http://127.0.0.1:4181/api""#) && moved.contains(r#""http://127.0.0.1:4184""#));
        assert!(!moved.contains("127.0.0.1:4180"));
    }

    #[test]
    fn the_gateway_takes_the_file() {
        let surroundings = config::Surroundings {
            directory: std::path::Path::new(""),
            variable: |_| None,
        };
        let settings = config::parse(CONFIG, "config/demo.toml", surroundings, SystemClock.now()).unwrap();
        let provider = settings.providers.first().unwrap();
        assert_eq!(provider.issuer.to_string(), "http://127.0.0.1:4182");
        assert_eq!(settings.routes.iter().count(), 4);
        assert!(
            settings
                .server
                .listen
                .contains(&address(DEFAULT_PORT, 0).unwrap().into())
        );
    }

    #[test]
    fn four_ports_are_needed() {
        assert!(address(u16::MAX - 3, 3).is_ok());
        assert_eq!(
            address(u16::MAX - 2, 3).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert!(address(0, 2).is_err());
    }

    #[tokio::test]
    async fn the_banner_says_everything_and_ends_with_how_to_end_it() {
        let port = (20_100..30_000)
            .step_by(4)
            .find(|port| (0..4).all(|offset| is_free(port + offset)))
            .unwrap();
        let demo = Demo::start(port, Arc::new(SystemClock)).await.unwrap();
        let banner = demo.banner();
        assert!(banner.lines().last().unwrap().contains("Ctrl-C"), "{banner}");
        let lines: Vec<&str> = banner.lines().collect();
        let commands = lines.windows(2).filter(|pair| pair[0].starts_with("# "));
        let mut count = 0;
        for pair in commands {
            assert!(
                pair[0].rsplit(": ").next().unwrap().parse::<u16>().is_ok(),
                "{}",
                pair[0]
            );
            assert!(pair[1].starts_with("curl -i ") && !pair[1].contains('<'), "{}", pair[1]);
            count += 1;
        }
        assert_eq!(count, 6);
        for user in users() {
            assert!(banner.contains(&format!("  {0:<6} password {0:<6} ", user.username)));
        }
    }

    fn is_free(port: u16) -> bool {
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
    }
}
