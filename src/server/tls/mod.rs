//! TLS at the door: whom the gateway proves to be, what it asks of clients, and the handshake.

mod front;
mod key_pair;
mod line;
mod names;

pub use front::{Front, Prepared, TlsError};
pub use key_pair::{Chain, KeyPair, KeyPairError};
pub(super) use line::Line;

use crate::trust::TrustRoots;

/// The `[server.tls]` table, with what stands in its files.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At least one; the first is for clients that name no host, or one that no certificate covers.
    pub key_pairs: Vec<KeyPair>,
    pub min_version: MinVersion,
    /// Who vouches for clients; absent: they are not asked for certificates.
    pub client_authorities: Option<TrustRoots>,
}

/// The oldest version of TLS that is spoken (RFC 9325 §3.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}
