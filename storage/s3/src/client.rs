//! The SDK's client: whom it trusts, how long it waits, and what it must not do.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    IdentityCache, ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::{Client, config};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use dbbackup_storage::Result;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::{Credentials, S3Options};

/// The region that servers without regions take.
const USUAL_REGION: &str = "us-east-1";
/// A metadata service or STS may take a second or two, and is tried three times.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(20);
/// Servers close what idles, AWS after about 20 s; what is sent into a connection
/// that is just being closed fails.
const IDLE_LIMIT: Duration = Duration::from_secs(15);

/// Builds the client. Nothing is asked of the bucket yet.
///
/// # Errors
/// `Misconfigured`: a bad CA, no region.
pub(crate) async fn build(options: &S3Options) -> Result<Client> {
    let trusted = match &options.ca_pem {
        None => TrustStore::default(),
        Some(pem) => only(pem).map_err(|why| options.wrong(why))?,
    };
    // The services that give credentials are AWS's own: the bucket's CA says nothing of them.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client(TrustStore::default()))
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_LIMIT).build());
    if let Credentials::Files(files) = &options.credentials {
        loader = loader.credentials_provider(files.clone());
    }
    let loader = with_place(loader, options);
    let mut shared = loader.load().await;
    if shared.region().is_none() {
        if shared.endpoint_url().is_none() {
            let why = "no region is said, neither here nor in AWS_REGION or a profile";
            return Err(options.wrong(why));
        }
        shared = shared.into_builder().region(Region::from_static(USUAL_REGION)).build();
    }
    let config = config::Builder::from(&shared)
        .http_client(http_client(trusted))
        .force_path_style(options.force_path_style)
        // A create that was tried twice is not told apart by the SDK from one that lost a race.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(options.limits.connect).build())
        // The store itself waits for answers and for their parts, by the same limits.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Asked for where there is one to compare: with whole objects.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Ok(Client::from_conf(config))
}

fn with_place(mut loader: ConfigLoader, options: &S3Options) -> ConfigLoader {
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint.clone());
    }
    if options.endpoint.is_some() && options.region.is_none() {
        // The usual chain would ask a metadata service that is not there.
        let said = EnvironmentVariableRegionProvider::new();
        let usual = Region::from_static(USUAL_REGION);
        loader = loader.region(RegionProviderChain::first_try(said).or_else(usual));
    }
    loader
}

/// A store that trusts these authorities and no others. What the HTTP client would
/// panic at is refused here.
fn only(pem: &[u8]) -> std::result::Result<TrustStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("the CA is no PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("the CA is no certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err("the CA's file holds no certificate (PEM)".to_owned());
    }
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

/// A client that goes by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as all other programs do.
fn http_client(trusted: TrustStore) -> SharedHttpClient {
    Builder::new().pool_idle_timeout(IDLE_LIMIT).build_with_connector_fn(
        move |settings, components| {
            let mut connector = Connector::builder().pool_idle_timeout(IDLE_LIMIT);
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            #[allow(clippy::expect_used, reason = "a context of a trust store cannot fail")]
            let context = TlsContext::builder()
                .with_trust_store(trusted.clone())
                .build()
                .expect("nothing in it is checked");
            connector
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(context)
                .proxy_config(ProxyConfig::from_env())
                .build()
        },
    )
}
