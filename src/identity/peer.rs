//! Who is at the other end of a connection.

use std::{net::IpAddr, sync::Arc};

use crate::certificate::Certificate;

/// Where a request comes from, and what was proved before it began.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// Verified in the handshake; absent where none was presented, and where there was no handshake.
    pub certificate: Option<Arc<Certificate>>,
}

impl Peer {
    /// One that proved nothing.
    pub fn at(address: IpAddr) -> Self {
        Self {
            address,
            certificate: None,
        }
    }
}
