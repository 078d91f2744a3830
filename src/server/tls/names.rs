//! Which certificate a client is shown.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::KeyPair;

/// The certificates by the hosts that they are for; an exact one comes before a wildcard, and the first before others.
#[derive(Debug)]
pub(super) struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows the star and its dot.
    wildcards: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For clients that name no host, or one that is nowhere above (RFC 6066 §3): they see what they have reached, and
    /// the name of the route decides over what they get.
    first: Option<Arc<CertifiedKey>>,
}

impl Names {
    pub(super) fn of(key_pairs: &[KeyPair]) -> Self {
        let mut names = Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
            first: key_pairs.first().map(|first| first.certified.clone()),
        };
        for key_pair in key_pairs {
            for host in key_pair.hosts() {
                let (place, name) = match host.strip_prefix("*.") {
                    Some(domain) => (&mut names.wildcards, domain),
                    None => (&mut names.exact, host),
                };
                place.entry(name.into()).or_insert_with(|| key_pair.certified.clone());
            }
        }
        names
    }

    fn named(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.exact.get(host).or_else(|| {
            let (label, domain) = host.split_once('.')?;
            self.wildcards.get(domain).filter(|_| !label.is_empty())
        })
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .and_then(|host| self.named(&host.to_ascii_lowercase()));
        named.or(self.first.as_ref()).cloned()
    }
}
