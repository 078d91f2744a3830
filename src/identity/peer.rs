//! Who is at the other end of a connection.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::HeaderValue;

use crate::{certificate::Certificate, time::Timestamp};

/// The address of whoever connects to a Unix socket: none. Nobody can send from it.
pub const OVER_UNIX: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The address of a client of whom a proxy says that it does not know where they are.
pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Where a request comes from, and what was proved before it began.
#[derive(Clone, Debug)]
pub struct Peer {
    /// [`OVER_UNIX`] and [`UNKNOWN`] where there is none.
    pub address: IpAddr,
    /// Absent where no certificate was presented, and where there was no handshake.
    presented: Option<Arc<Presented>>,
    /// As the first request of its connection had it written.
    told: Arc<OnceLock<Told>>,
}

/// How applications are told where a peer is that asks at a site.
#[derive(Clone, Debug)]
pub struct Told {
    pub address: IpAddr,
    pub site: Box<str>,
    /// `X-Forwarded-For`; none where there is no word for the address.
    pub chain: Option<HeaderValue>,
    /// `Forwarded` (RFC 7239).
    pub forwarded: Option<HeaderValue>,
}

/// A certificate that was verified in the handshake.
#[derive(Debug)]
struct Presented {
    certificate: Certificate,
    vouchers: Vouchers,
}

/// Those who vouched for certificates: all that they vouched for count until they are withdrawn.
#[derive(Clone, Debug, Default)]
pub struct Vouchers(Arc<AtomicBool>);

impl Vouchers {
    /// From now on, nothing that they vouched for counts.
    pub fn withdraw(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn are_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Peer {
    /// One that proved nothing.
    pub fn at(address: IpAddr) -> Self {
        Self {
            address,
            presented: None,
            told: Arc::default(),
        }
    }

    /// The same, with a certificate.
    #[must_use]
    pub fn with(mut self, certificate: Certificate, vouchers: Vouchers) -> Self {
        self.presented = Some(Arc::new(Presented { certificate, vouchers }));
        self
    }

    /// The same, where others say that it is: they forwarded what it sent.
    #[must_use]
    pub fn seen_at(self, address: IpAddr) -> Self {
        Self { address, ..self }
    }

    /// How applications are told of it, if that was not `written` before; of one elsewhere or at another site, it may be.
    pub fn told(&self, written: impl FnOnce() -> Told) -> &Told {
        self.told.get_or_init(written)
    }

    /// The certificate, as long as it lasts and those who vouched for it count.
    pub fn certificate(&self, now: Timestamp) -> Option<&Certificate> {
        let presented = self.presented.as_deref()?;
        let lasts = now.unix() <= presented.certificate.not_after();
        (lasts && !presented.vouchers.are_withdrawn()).then_some(&presented.certificate)
    }

    pub fn came_with_a_certificate(&self) -> bool {
        self.presented.is_some()
    }

    /// Whether a certificate was presented that does not count any more.
    pub fn has_lost_its_certificate(&self, now: Timestamp) -> bool {
        self.presented.is_some() && self.certificate(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Name;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    #[test]
    fn a_certificate_counts_until_nobody_vouches_for_it() {
        let vouchers = Vouchers::default();
        let peer = Peer::at(Ipv4Addr::LOCALHOST.into());
        assert!(peer.certificate(NOW).is_none());
        let peer = peer.with(Certificate::called([Name::read("CN=ops").unwrap()]), vouchers.clone());
        let earlier = peer.clone();
        assert!(peer.certificate(NOW).is_some());
        vouchers.withdraw();
        assert!(peer.certificate(NOW).is_none() && earlier.certificate(NOW).is_none());
    }
}
