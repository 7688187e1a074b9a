//! The report channel's certificate: a CA of its own and a leaf for the Service,
//! kept in one Secret that the chart creates empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cluster::is_conflict;

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Annotation of the Secret: when a new leaf is made.
const RENEW_AFTER: &str = "dbbackup.dev/renew-after";
/// Annotation of the Secret: the names in the leaf.
const HOSTS: &str = "dbbackup.dev/hosts";
const LEAF_DAYS: i64 = 90;
/// A leaf is renewed when a third of its life is left.
const RENEW_DAYS: i64 = 60;
/// A CA outlives every Job: tasks carry it.
const CA_DAYS: i64 = 3650;

/// The Secret's content.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The CA's certificate (PEM).
    pub ca_pem: String,
    ca_key_pem: String,
    certificate_pem: String,
    key_pem: String,
    renew_after: Timestamp,
    hosts: String,
}

/// What goes wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The Secret cannot be read or written.
    #[error("the Secret {0} cannot be used: {1}. The chart creates it, and the role to use it")]
    Secret(String, #[source] Box<kube::Error>),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// What the Secret holds is no certificate.
    #[error("the Secret's certificate cannot be used: {0}")]
    Load(String),
}

/// Makes a leaf for `hosts`, and a CA where `previous` has none.
///
/// # Errors
/// The library refuses.
pub fn issue(
    hosts: &[String],
    previous: Option<&Material>,
    now: Timestamp,
) -> Result<Material, CertificateError> {
    let (ca_pem, ca_key_pem) = match previous {
        Some(known) => (known.ca_pem.clone(), known.ca_key_pem.clone()),
        None => {
            let key = KeyPair::generate()?;
            (ca_params(now)?.self_signed(&key)?.pem(), key.serialize_pem())
        }
    };
    // The same name and key make the same issuer: the CA's own file is not parsed.
    let issuer = Issuer::new(ca_params(now)?, KeyPair::from_pem(&ca_key_pem)?);
    let mut leaf = CertificateParams::new(hosts)?;
    leaf.distinguished_name = name("dbbackup report channel");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    validity(&mut leaf, now, LEAF_DAYS);
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;
    Ok(Material {
        ca_pem,
        ca_key_pem,
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        renew_after: now.checked_add(SignedDuration::from_hours(24 * RENEW_DAYS)).unwrap_or(now),
        hosts: hosts.join(","),
    })
}

fn ca_params(now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.distinguished_name = name("dbbackup report CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut ca, now, CA_DAYS);
    Ok(ca)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From an hour ago, because the clocks of nodes differ.
fn validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |time: Timestamp| {
        let civil = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(
            i32::from(civil.year()),
            u8::try_from(civil.month()).unwrap_or(1),
            u8::try_from(civil.day()).unwrap_or(1),
        )
    };
    // Whole days: the day before, so that a new certificate holds at once.
    params.not_before = date(now - SignedDuration::from_hours(24));
    params.not_after = date(now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(now));
}

/// Whether a new leaf is to be made.
#[must_use]
pub fn is_due(material: &Material, hosts: &[String], now: Timestamp) -> bool {
    now >= material.renew_after || material.hosts != hosts.join(",")
}

impl Material {
    fn from_secret(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        Some(Self {
            ca_pem: text(CA_CERTIFICATE)?,
            ca_key_pem: text(CA_KEY)?,
            certificate_pem: text(CERTIFICATE)?,
            key_pem: text(KEY)?,
            renew_after: secret.annotations().get(RENEW_AFTER)?.parse().ok()?,
            hosts: secret.annotations().get(HOSTS)?.clone(),
        })
    }

    fn write_to(&self, secret: &mut Secret) {
        let data = [
            (CA_CERTIFICATE, &self.ca_pem),
            (CA_KEY, &self.ca_key_pem),
            (CERTIFICATE, &self.certificate_pem),
            (KEY, &self.key_pem),
        ];
        secret.data = Some(
            data.map(|(key, pem)| (key.to_owned(), ByteString(pem.clone().into_bytes()))).into(),
        );
        secret.annotations_mut().extend(BTreeMap::from([
            (RENEW_AFTER.to_owned(), self.renew_after.to_string()),
            (HOSTS.to_owned(), self.hosts.clone()),
        ]));
    }

    /// The server's side of TLS.
    ///
    /// # Errors
    /// What the Secret holds is no certificate.
    pub fn server_config(&self) -> Result<ServerConfig, CertificateError> {
        let load = |error: &dyn std::fmt::Display| CertificateError::Load(error.to_string());
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| load(&error))?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|error| load(&error))?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| load(&error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| load(&error))
    }
}

/// Keeps the Secret filled.
pub struct Certificates {
    api: Api<Secret>,
    name: String,
    hosts: Vec<String>,
}

impl Certificates {
    /// For the Secret `name` and a leaf with `hosts`.
    #[must_use]
    pub fn new(api: Api<Secret>, name: String, hosts: Vec<String>) -> Self {
        Self { api, name, hosts }
    }

    /// What is to be served now; made and stored where it is missing or due.
    /// Of several replicas that find it missing one wins, and all take its work.
    ///
    /// # Errors
    /// The Secret does not exist, or may not be used.
    pub async fn ensure(&self, now: Timestamp) -> Result<Material, CertificateError> {
        let trouble = |error| CertificateError::Secret(self.name.clone(), Box::new(error));
        for _ in 0..5 {
            let mut secret = self.api.get(&self.name).await.map_err(trouble)?;
            let known = Material::from_secret(&secret);
            if let Some(known) = &known
                && !is_due(known, &self.hosts, now)
            {
                return Ok(known.clone());
            }
            let material = issue(&self.hosts, known.as_ref(), now)?;
            material.write_to(&mut secret);
            // The version goes with it: whoever was slower reads what the other wrote.
            match self.api.replace(&self.name, &PostParams::default(), &secret).await {
                Ok(_) => return Ok(material),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(trouble(error)),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(CertificateError::Load("other replicas keep changing the Secret".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_leaf_is_renewed_under_the_same_ca() {
        let hosts = vec!["dbbackup.dbbackup.svc".to_owned()];
        let first = issue(&hosts, None, now()).unwrap();
        first.server_config().unwrap();
        assert!(!is_due(&first, &hosts, now()));
        let later = now() + SignedDuration::from_hours(24 * RENEW_DAYS);
        assert!(is_due(&first, &hosts, later));
        assert!(is_due(&first, &["other".to_owned()], now()));
        let second = issue(&hosts, Some(&first), later).unwrap();
        assert_eq!(second.ca_pem, first.ca_pem);
        assert!(second.certificate_pem != first.certificate_pem);
        let third = issue(&hosts, None, now()).unwrap();
        assert!(third.ca_pem != first.ca_pem);
    }

    #[test]
    fn what_is_stored_in_the_secret_comes_back() {
        let material = issue(&["a.b.svc".to_owned()], None, now()).unwrap();
        let mut secret = Secret::default();
        assert!(Material::from_secret(&secret).is_none());
        material.write_to(&mut secret);
        assert!(Material::from_secret(&secret).unwrap() == material);
    }
}
