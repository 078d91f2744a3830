//! Where the gateway listens, and whom it believes there.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;

use super::{
    load::Load,
    read::{At, Field, FromText, Wrong, wrong},
    server::Server,
};
use crate::{identity::Proxies, server::Listen};

/// As long as the kernel's room for the path of a socket, less what a name beside it needs for a moment.
const LONGEST_PATH: usize = 96;

impl FromText for Listen {
    const EXAMPLE: &'static str = "\"127.0.0.1:4180\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(rest) = text.strip_prefix("systemd") {
            return systemd(rest, text);
        }
        let instead = "write an address and a port, like \"127.0.0.1:4180\" or \"[::]:4180\", \
                       \"unix:/run/vestibule/http.sock\", or \"systemd\"";
        text.parse::<SocketAddr>()
            .map(Self::Tcp)
            .map_err(|_| wrong(format!("is not an address to listen at: \"{text}\""), instead))
    }
}

fn unix(path: &str) -> Result<Listen, Wrong> {
    let instead = "write the whole path: \"unix:/run/vestibule/http.sock\"";
    if !path.starts_with('/') || path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(wrong(format!("is not the path of a socket: \"{path}\""), instead));
    }
    if path.len() > LONGEST_PATH {
        let instead = format!("write a path of at most {LONGEST_PATH} bytes");
        return Err(wrong("is longer than the path of a socket can be", instead));
    }
    Ok(Listen::Unix(PathBuf::from(path)))
}

fn systemd(rest: &str, text: &str) -> Result<Listen, Wrong> {
    let plain = |c: char| c.is_ascii_graphic() && c != ':';
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(Listen::Systemd(None)),
        Some(name) if !name.is_empty() && name.chars().all(plain) => Ok(Listen::Systemd(Some(name.into()))),
        _ => Err(wrong(
            format!("is not a socket of systemd: \"{text}\""),
            "write \"systemd\", or \"systemd:NAME\" with the `FileDescriptorName=` of the socket",
        )),
    }
}

/// Whose word counts on where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    OverUnix,
    Network(IpNet),
}

impl FromText for Proxy {
    const EXAMPLE: &'static str = IpNet::EXAMPLE;

    fn from_text(text: &str) -> Result<Self, Wrong> {
        match text {
            "unix" => Ok(Self::OverUnix),
            network => IpNet::from_text(network).map(Self::Network),
        }
    }
}

pub(super) fn proxies(given: &Field<Vec<At<Proxy>>>) -> Proxies {
    let mut proxies = Proxies::default();
    for proxy in given.value().into_iter().flatten() {
        match proxy.value {
            Proxy::OverUnix => proxies.over_unix = true,
            Proxy::Network(network) => proxies.networks.push(network),
        }
    }
    proxies
}

/// Whoever comes over a Unix socket has no address of their own.
pub(super) fn clients_without_address(server: &Server, load: &mut Load<'_>) {
    if server.trusted_proxies.over_unix {
        return;
    }
    let over_unix = |address: &&At<Listen>| matches!(address.value, Listen::Unix(_));
    for address in server.listen.iter().filter(over_unix) {
        let message = format!(
            "whoever comes over {} has no address: all of them count as one",
            address.value
        );
        let instead = "add \"unix\" to `trusted_proxies`, and let the proxy there set X-Forwarded-For";
        load.findings.warning(address.at, message, instead);
    }
}

/// Who may open a file: the digits of `chmod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileMode(pub(super) u32);

impl Default for FileMode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl FromText for FileMode {
    const EXAMPLE: &'static str = "\"0660\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let digits = text.len() == 4 && text.starts_with('0') && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits);
        mode.filter(|mode| mode & 0o600 == 0o600).map(Self).ok_or_else(|| {
            let instead = "write \"0600\", \"0660\" for the group as well, or \"0666\" for everybody";
            wrong(format!("is not the mode of a socket: \"{text}\""), instead)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_tcp_a_path_or_a_socket_of_systemd() {
        let read = |text| Listen::from_text(text).ok().map(|address| address.to_string());
        for good in [
            "127.0.0.1:4180",
            "[::]:443",
            "unix:/run/vestibule.sock",
            "systemd",
            "systemd:http",
        ] {
            assert_eq!(read(good).as_deref(), Some(good));
        }
        let long = format!("unix:/{}", "a".repeat(LONGEST_PATH));
        for bad in [
            "",
            "localhost:80",
            "127.0.0.1",
            "unix:",
            "unix:run.sock",
            "unix:/run/",
            "unix:/a\nb",
            &*long,
            "systemd:",
            "systemd:a:b",
            "systemd:a b",
            "systemdx",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mode_lets_at_least_the_gateway_itself_in() {
        let read = |text| FileMode::from_text(text).ok().map(|mode| mode.0);
        assert_eq!((read("0660"), read("0777")), (Some(0o660), Some(0o777)));
        for bad in ["660", "0o660", "0060", "1777", "0668", "+660", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn i7_a_proxy_is_a_network_or_whoever_is_at_a_unix_socket() {
        assert_eq!(Proxy::from_text("unix").ok(), Some(Proxy::OverUnix));
        assert!(matches!(Proxy::from_text("10.0.0.0/8"), Ok(Proxy::Network(_))));
        assert!(Proxy::from_text("0.0.0.0/0").is_err() && Proxy::from_text("unix:/a").is_err());
    }
}
