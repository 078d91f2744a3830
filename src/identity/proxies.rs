//! Who is believed when they say where others are.

use std::net::IpAddr;

use ipnet::IpNet;

use super::peer::{OVER_UNIX, UNKNOWN};

/// The peers whose word on where a request came from counts (I7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    pub networks: Vec<IpNet>,
    /// Whether those count who connect to a Unix socket.
    pub over_unix: bool,
}

impl Proxies {
    /// Whether the word of whoever is there counts.
    pub fn include(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            OVER_UNIX => self.over_unix,
            UNKNOWN => false,
            address => self.networks.iter().any(|network| network.contains(&address)),
        }
    }

    pub fn are_none(&self) -> bool {
        self.networks.is_empty() && !self.over_unix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_address_is_in_no_network() {
        let networks = ["0.0.0.0/8", "::/64", "10.0.0.0/8"].map(|network| network.parse().unwrap());
        let by_address = Proxies {
            networks: networks.into(),
            over_unix: false,
        };
        let by_socket = Proxies {
            over_unix: true,
            ..Proxies::default()
        };
        assert!(by_address.include("10.1.2.3".parse().unwrap()));
        assert!(by_address.include("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!by_address.include(OVER_UNIX) && !by_address.include(UNKNOWN));
        assert!(by_socket.include(OVER_UNIX) && !by_socket.include(UNKNOWN));
        assert!(!by_socket.include("10.1.2.3".parse().unwrap()));
    }
}
