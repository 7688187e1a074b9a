//! TLS of our own connections, with `libpq`'s meaning of each mode.
//!
//! | mode | encrypted | certificate |
//! |---|---|---|
//! | `Disable` | no | – |
//! | `Prefer` | where the server can | not looked at |
//! | `Require` | yes | not looked at; with a CA as `VerifyCA` |
//! | `VerifyCA` | yes | chain of a trusted CA |
//! | `VerifyFull` | yes | the same, and made for this host name |
//!
//! `Require` with a CA verifies the chain because `libpq` does so, and the
//! clients that we start speak through `libpq`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dbbackup_contract::{Failure, Reason, SecretFile, TlsAccess, TlsMode};
use dbbackup_engine::read_secret;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// What a connection proves, once the CA is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Nothing,
    Chain,
    ChainAndName,
}

impl Proof {
    pub(crate) fn of(tls: &TlsAccess) -> Self {
        match tls.mode {
            TlsMode::Disable | TlsMode::Prefer => Self::Nothing,
            TlsMode::Require if tls.ca.is_none() => Self::Nothing,
            TlsMode::Require | TlsMode::VerifyCa => Self::Chain,
            TlsMode::VerifyFull => Self::ChainAndName,
        }
    }
}

/// Certificates and key of a connection, as they were read just now.
pub(crate) struct TlsMaterial {
    /// Trusted CAs; empty where nothing is proved.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// The client's own certificate chain and key, in PEM.
    pub(crate) client: Option<ClientPem>,
}

/// A client certificate and its key, in PEM.
pub(crate) struct ClientPem {
    pub(crate) certificate: zeroize::Zeroizing<Vec<u8>>,
    pub(crate) key: zeroize::Zeroizing<Vec<u8>>,
}

impl TlsMaterial {
    /// Reads what `tls` names, or the system's CAs.
    pub(crate) fn read(tls: &TlsAccess) -> Result<Self, Failure> {
        let roots = match (Proof::of(tls), &tls.ca) {
            (Proof::Nothing, _) => Vec::new(),
            (_, Some(file)) => read_certificates(file)?,
            (_, None) => rustls_native_certs::load_native_certs().certs,
        };
        let client = match (&tls.client_certificate, &tls.client_key) {
            (Some(certificate), Some(key)) if tls.mode != TlsMode::Disable => {
                Some(ClientPem { certificate: read_secret(certificate)?, key: read_secret(key)? })
            }
            _ => None,
        };
        Ok(Self { roots, client })
    }

    /// The trusted CAs in PEM, for `libpq`.
    pub(crate) fn roots_pem(&self) -> String {
        let mut pem = String::new();
        for root in &self.roots {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            let text = BASE64.encode(root);
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (line, left) = rest.split_at(rest.len().min(64));
                pem.push_str(line);
                pem.push('\n');
                rest = left;
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }
}

fn read_certificates(file: &SecretFile) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read_secret(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Failure::new(
            Reason::InvalidSpec,
            format!("{} holds no certificates in PEM", file.described()),
        )),
    }
}

/// The configuration of one connection.
pub(crate) fn client_config(
    tls: &TlsAccess,
    material: &TlsMaterial,
) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let invalid = |error: &dyn std::fmt::Display| {
        Failure::new(
            Reason::TlsVerificationFailed,
            format!("the TLS settings do not work: {error}"),
        )
    };
    let verifier: Arc<dyn ServerCertVerifier> = match Proof::of(tls) {
        Proof::Nothing => Arc::new(AnyCertificate(Arc::clone(&provider))),
        proof => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(material.roots.iter().cloned());
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| invalid(&error))?;
            match proof {
                Proof::ChainAndName => verifier,
                _ => Arc::new(AnyName(verifier)),
            }
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(client) = &material.client else { return Ok(config.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&client.certificate).collect();
    let (chain, key) = match (chain, PrivateKeyDer::from_pem_slice(&client.key)) {
        (Ok(chain), Ok(key)) => (chain, key),
        _ => {
            let message = "the client's certificate or its key is not PEM";
            return Err(Failure::new(Reason::InvalidSpec, message));
        }
    };
    config.with_client_auth_cert(chain, key).map_err(|error| invalid(&error))
}

/// Takes any certificate: the connection is encrypted and proves nothing.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies the chain and forgives a certificate that was made for another name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is the last thing that is verified: the chain was good.
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
