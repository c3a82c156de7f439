//! TLS: the certificate of the server, and another one at SIGHUP.
//!
//! Owns reading both files and which certificate new connections get. Connections that are open keep theirs.
//! Never logs or shows a key; a pair that can not be used leaves the one before in place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::TlsConfig;

/// Why the files can not be used, and which one it is.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the file {} of {key} can not be used: {fault}", path.display())]
    File { key: &'static str, path: PathBuf, fault: pem::Error },
    #[error("tls.certificate_file and tls.key_file do not go together: {0}")]
    Pair(#[from] rustls::Error),
    #[error("tls.certificate_file {} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
}

/// The certificate in use.
#[derive(Debug)]
pub(super) struct Certificate {
    files: (PathBuf, PathBuf),
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// `None`: no TLS is configured.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn load(config: &TlsConfig) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(certificate), Some(key)) = (&config.certificate_file, &config.key_file) else { return Ok(None) };
        let files = (PathBuf::from(certificate), PathBuf::from(key));
        let current = RwLock::new(Arc::new(read(&files.0, &files.1)?));
        Ok(Some(Arc::new(Self { files, current })))
    }

    /// Reads both files again, for the connections to come.
    ///
    /// # Errors
    /// [`TlsError`]: then everything stays as it was.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let fresh = read(&self.files.0, &self.files.1)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// TLS 1.2 and 1.3 with this certificate.
    ///
    /// # Errors
    /// [`TlsError::Pair`].
    pub(super) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_no_client_auth().with_cert_resolver(self.clone()))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |key, path: &Path| {
        let path = path.to_owned();
        move |fault| TlsError::File { key, path, fault }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(file("tls.certificate_file", certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(file("tls.key_file", key))?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}
