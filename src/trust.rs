//! Which certificate authorities a peer is verified against.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

/// The authorities that vouch for whoever is at the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TrustRoots {
    /// The machine's own list, or Mozilla's where the machine has none.
    #[default]
    Platform,
    /// Exactly these, from a `ca_file`.
    Only(Vec<CertificateDer<'static>>),
}

/// Why a `ca_file` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("not a PEM file: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("it holds no certificate")]
    Empty,
    #[error("a certificate in it cannot be used: {0}")]
    Certificate(#[from] rustls::Error),
}

/// What this gateway proves itself with to a peer that asks for a certificate.
#[derive(PartialEq)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientCertificate {
    /// Reads a chain and the key of its first certificate from PEM.
    ///
    /// # Errors
    /// When one of them is not there, or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TrustError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let certificate = Self { chain, key };
        if certificate.chain.is_empty() {
            return Err(TrustError::Empty);
        }
        let nobody = TrustRoots::Only(Vec::new());
        nobody.client_config_of(Some(&certificate))?;
        Ok(certificate)
    }
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl TrustRoots {
    /// Reads the certificates of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone())?;
        }
        if store.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self::Only(certificates))
    }

    /// Whether these are all of the others, and perhaps more; what a machine trusts is not known here.
    pub fn include(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::Only(these), Self::Only(others)) => others.iter().all(|other| these.contains(other)),
            (Self::Platform, _) | (_, Self::Platform) => false,
        }
    }

    /// A TLS configuration that verifies name and chain, TLS 1.2 and 1.3 (RFC 9110 §4.3.4).
    ///
    /// # Errors
    /// When the cryptography that was compiled in supports no protocol version.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.client_config_of(None).map(Arc::new)
    }

    /// The same, of a client that shows a certificate where it is asked for one (RFC 8446 §4.4.2).
    ///
    /// # Errors
    /// When the key is not that of the certificate, and when the cryptography supports no protocol version.
    pub fn client_config_of(&self, certificate: Option<&ClientCertificate>) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.store());
        match certificate {
            None => Ok(config.with_no_client_auth()),
            Some(ClientCertificate { chain, key }) => config.with_client_auth_cert(chain.clone(), key.clone_key()),
        }
    }

    /// Verifies clients that present a certificate (RFC 8446 §4.4.2.4), and lets those who have none pass as nobody.
    ///
    /// # Errors
    /// When there is no authority.
    pub fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(self.store().into(), provider)
            .allow_unauthenticated()
            .build()
    }

    fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        match self {
            Self::Only(certificates) => {
                store.add_parsable_certificates(certificates.iter().cloned());
            }
            Self::Platform => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if store.is_empty() {
                    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                }
            }
        }
        store
    }
}
