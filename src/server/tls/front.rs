//! The handshake, and what it goes by: replaced as a whole, while connections of before go on.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    CommonState, HandshakeKind, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs::{self, Ticketer},
    pki_types::UnixTime,
    server::{NoServerSessionStorage, ProducesTickets, VerifierBuilderError, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{KeyPair, Line, MinVersion, Settings, names::Names};
use crate::{
    certificate::Certificate,
    identity::Vouchers,
    server::{Limits, pipe::Pipe, protocol::Protocol},
    telemetry::Metrics,
    time::Timestamp,
    trust::TrustRoots,
};

/// What clients of the encrypted listeners meet first.
pub struct Front {
    current: ArcSwap<Current>,
    /// Keys that seal tickets of resumption, and change by themselves every few hours; they outlast a reload.
    tickets: Arc<dyn ProducesTickets>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

/// What handshakes go by at one time.
struct Current {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    client_authorities: Option<TrustRoots>,
    vouchers: Vouchers,
    key_pairs: Vec<KeyPair>,
}

/// What handshakes may go by from some time on.
pub struct Prepared(Current);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// Why TLS cannot be spoken by some settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("clients cannot be verified: {0}")]
    Verifier(#[from] VerifierBuilderError),
    #[error("the certificate in {} has ended before it was put in place", .file.display())]
    Ended { file: PathBuf },
}

/// A connection after its handshake.
pub(in crate::server) struct Greeted {
    pub(in crate::server) line: Line,
    pub(in crate::server) protocol: Protocol,
    pub(in crate::server) certificate: Option<(Certificate, Vouchers)>,
}

impl Front {
    /// # Errors
    /// When TLS cannot be spoken by the settings.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let tickets = Ticketer::new()?;
        let current = current(settings, tickets.clone())?;
        let front = Self {
            current: ArcSwap::from_pointee(current),
            tickets,
            metrics,
        };
        front.tell();
        Ok(front)
    }

    /// Makes what handshakes may go by, and changes nothing yet.
    ///
    /// # Errors
    /// When TLS cannot be spoken by the settings, or a certificate that is new has ended.
    pub fn prepare(&self, settings: &Settings, now: Timestamp) -> Result<Prepared, TlsError> {
        let known = self.current.load();
        let is_known = |new: &KeyPair| known.key_pairs.iter().any(|known| known.is_of(new));
        let ended = |new: &&KeyPair| new.ends_at() <= now && !is_known(new);
        if let Some(ended) = settings.key_pairs.iter().find(ended) {
            let file = ended.file().to_owned();
            return Err(TlsError::Ended { file });
        }
        Ok(Prepared(current(settings, self.tickets.clone())?))
    }

    /// Handshakes go by this from now on, and what clients presented before counts only where its authorities still do.
    pub fn take(&self, prepared: Prepared) {
        let (earlier, mut next) = (self.current.load_full(), prepared.0);
        let goes_on = match (&earlier.client_authorities, &next.client_authorities) {
            (Some(earlier), Some(next)) => next.include(earlier),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if goes_on {
            next.vouchers = earlier.vouchers.clone();
        }
        self.current.store(Arc::new(next));
        if !goes_on {
            earlier.vouchers.withdraw();
        }
        self.tell();
    }

    /// Says in the metrics when certificates end.
    fn tell(&self) {
        let current = self.current.load();
        let key_pairs = current.key_pairs.iter();
        self.metrics
            .certificates(key_pairs.map(|key_pair| (key_pair.name(), key_pair.ends_at().unix())));
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// When the client does not get there in time, breaks off, or is refused.
    pub(in crate::server) async fn greet(&self, stream: Pipe, limits: &Limits) -> io::Result<Greeted> {
        let current = self.current.load_full();
        let handshake = TlsAcceptor::from(current.config.clone()).accept(stream);
        let stream = timeout(limits.handshake_timeout, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))??;
        let (_, session) = stream.get_ref();
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        let certificate = current.certificate(session).map_err(io::Error::other)?;
        Ok(Greeted {
            line: Line::Tls(stream.into()),
            protocol,
            certificate,
        })
    }
}

impl Current {
    /// Whom the client proved to be. A session that is resumed proves what it proved long ago: that is asked again, for
    /// the certificate may have ended since, and the authorities may be others.
    fn certificate(&self, session: &CommonState) -> Result<Option<(Certificate, Vouchers)>, rustls::Error> {
        let chain = session.peer_certificates().and_then(<[_]>::split_first);
        let (Some((own, others)), Some(verifier)) = (chain, &self.verifier) else {
            return Ok(None);
        };
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            verifier.verify_client_cert(own, others, UnixTime::now())?;
        }
        let certificate = Certificate::from_der(own);
        let certificate = certificate.map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Some((certificate, self.vouchers.clone())))
    }
}

fn current(settings: &Settings, tickets: Arc<dyn ProducesTickets>) -> Result<Current, TlsError> {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    const NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
    let versions = match settings.min_version {
        MinVersion::Tls12 => BOTH,
        MinVersion::Tls13 => NEWEST,
    };
    let authorities = settings.client_authorities.as_ref();
    let verifier = authorities.map(|roots| roots.client_verifier()).transpose()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Names::of(&settings.key_pairs)));
    config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(Vec::from).into();
    // The client keeps what it needs to resume, and nothing is kept here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    Ok(Current {
        config: config.into(),
        verifier,
        client_authorities: settings.client_authorities.clone(),
        vouchers: Vouchers::default(),
        key_pairs: settings.key_pairs.clone(),
    })
}
