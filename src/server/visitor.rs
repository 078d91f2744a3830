//! A connection that has begun: encrypted if it has to be, and with one HTTP to speak.

use std::{io, net::IpAddr};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Limits,
    listen::Guest,
    protocol::{Protocol, Spoken},
    tls::{Front, Line},
};
use crate::identity::Peer;

/// A guest who may ask for something now.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) line: Line,
    pub(super) protocol: Protocol,
    pub(super) address: IpAddr,
    pub(super) peer: Peer,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Visitor {
    /// Begins a connection in clear text that speaks HTTP/1 alone.
    pub(super) fn plain(guest: Guest) -> Self {
        Self::speaking(Protocol::Http1, guest)
    }

    /// Begins a connection in clear text.
    ///
    /// # Errors
    /// When the client is silent for too long, or breaks off.
    pub(super) async fn in_clear(mut guest: Guest, spoken: Spoken, limits: &Limits) -> io::Result<Self> {
        let protocol = match spoken {
            Spoken::Http1 => Protocol::Http1,
            Spoken::Either => Protocol::of(&mut guest.stream, limits).await?,
        };
        Ok(Self::speaking(protocol, guest))
    }

    /// Begins an encrypted connection.
    ///
    /// # Errors
    /// When the handshake fails, or takes too long.
    pub(super) async fn behind(front: &Front, guest: Guest, limits: &Limits) -> io::Result<Self> {
        let peer = Peer::at(guest.peer);
        let greeted = front.greet(guest.stream, limits).await?;
        Ok(Self {
            line: greeted.line,
            protocol: greeted.protocol,
            address: guest.peer,
            peer: match greeted.certificate {
                Some((certificate, vouchers)) => peer.with(certificate, vouchers),
                None => peer,
            },
            permit: guest.permit,
        })
    }

    fn speaking(protocol: Protocol, guest: Guest) -> Self {
        Self {
            line: Line::Clear(guest.stream),
            protocol,
            address: guest.peer,
            peer: Peer::at(guest.peer),
            permit: guest.permit,
        }
    }
}
