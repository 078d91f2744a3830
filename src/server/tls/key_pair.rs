//! A chain of certificates, and the key of the first.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

use crate::{
    certificate::{Certificate, Unreadable},
    time::Timestamp,
};

/// Certificates in the order of a handshake: the gateway's own, and those that vouch for it.
#[derive(Debug)]
pub struct Chain {
    file: PathBuf,
    der: Vec<CertificateDer<'static>>,
    own: Certificate,
}

/// A chain with the key that fits.
#[derive(Clone, Debug)]
pub struct KeyPair {
    file: Arc<Path>,
    pub(super) certified: Arc<CertifiedKey>,
    own: Arc<Certificate>,
}

/// Why a file with certificates or a key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    #[error("not a PEM file: {0}")]
    Pem(#[from] pem::Error),
    #[error("it holds no certificate")]
    NoCertificate,
    #[error("its first certificate is none: {0}")]
    Unreadable(#[from] Unreadable),
    #[error("it is the key of another certificate")]
    Mismatch,
    #[error("it cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl Chain {
    /// Reads the certificates of a PEM file, whose name is for messages.
    ///
    /// # Errors
    /// When there are none, or one is cut off.
    pub fn from_pem(file: &Path, pem: &[u8]) -> Result<Self, KeyPairError> {
        let der = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
        let first = der.first().ok_or(KeyPairError::NoCertificate)?;
        let own = Certificate::from_der(first)?;
        let file = file.to_owned();
        Ok(Self { file, der, own })
    }

    /// Adds the key from another PEM file.
    ///
    /// # Errors
    /// When it is none, or that of another certificate.
    pub fn with_key(self, pem: &[u8]) -> Result<KeyPair, KeyPairError> {
        let key = PrivateKeyDer::from_pem_slice(pem)?;
        let certified = CertifiedKey::from_der(self.der, key, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => KeyPairError::Mismatch,
            error => KeyPairError::Unusable(error),
        })?;
        Ok(KeyPair {
            file: self.file.into(),
            certified: certified.into(),
            own: self.own.into(),
        })
    }
}

impl KeyPair {
    /// What to call it in a message or a metric: the first host, or else the subject.
    pub fn name(&self) -> &str {
        let first = self.hosts().next();
        first.or_else(|| self.own.names().next()).unwrap_or("")
    }

    /// Where the certificate stands.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The hosts that it is for, `*.example.com` among them; in lower case.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.own.hosts()
    }

    pub fn ends_at(&self) -> Timestamp {
        Timestamp::from_unix(self.own.not_after())
    }

    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.own.thumbprint() == other.own.thumbprint()
    }
}
