//! A bucket on a server, and the options that name it.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials as Keys, Region, SharedHttpClient};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use dbbackup_storage_s3::{Credentials, KeyFiles, S3Options, S3Store};

use crate::server::{ACCESS_KEY, Kind, SECRET_KEY, Server};

const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const BUCKET: &str = "backups";

/// A server with an empty bucket.
pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) keys: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn on(kind: Kind) -> Self {
        let server = Server::start(kind);
        let place = Self { server, keys: keys(ACCESS_KEY, SECRET_KEY) };
        place.make_bucket(BUCKET).await;
        place
    }

    pub(crate) async fn make_bucket(&self, name: &str) {
        self.make(name, &self.client()).await;
    }

    /// A bucket with Object Lock.
    pub(crate) async fn make_locking_bucket(&self, name: &str) {
        let request = self.client().create_bucket().bucket(name);
        request.object_lock_enabled_for_bucket(true).send().await.unwrap();
    }

    /// The usual bucket, on a server with a certificate that this CA has signed.
    pub(crate) async fn make_bucket_by(&self, ca_pem: &str) {
        let trusted = TrustStore::empty().with_pem_certificate(ca_pem);
        let context = TlsContext::builder().with_trust_store(trusted).build().unwrap();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https();
        self.make(BUCKET, &self.client_by(http)).await;
    }

    async fn make(&self, name: &str, client: &Client) {
        // A server that listens may not be ready yet.
        let started = Instant::now();
        loop {
            match client.create_bucket().bucket(name).send().await {
                Ok(_) => return,
                Err(error) if started.elapsed() > LIMIT => {
                    panic!("{error:?}: {}", self.server.log());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A client of our own making, to look at the bucket past the driver.
    pub(crate) fn client(&self) -> Client {
        self.client_by(aws_smithy_http_client::Builder::new().build_http())
    }

    fn client_by(&self, http: SharedHttpClient) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::from_static("us-east-1"))
            .endpoint_url(self.server.endpoint())
            .force_path_style(true)
            .credentials_provider(Keys::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
            .http_client(http)
            .build();
        Client::from_conf(config)
    }

    /// Removes everything from the bucket.
    pub(crate) async fn empty(&self) {
        let client = self.client();
        loop {
            let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
            for object in listed.contents() {
                let key = object.key().unwrap();
                client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
            }
            if listed.is_truncated() != Some(true) {
                return;
            }
        }
    }

    /// The bucket, with a prefix.
    pub(crate) fn options(&self, prefix: &str) -> S3Options {
        S3Options {
            endpoint: Some(self.server.endpoint()),
            force_path_style: true,
            credentials: Credentials::Files(KeyFiles::in_folder(self.keys.path())),
            ..S3Options::new(BUCKET, prefix)
        }
    }

    pub(crate) async fn open(&self, prefix: &str) -> S3Store {
        S3Store::open(self.options(prefix)).await.unwrap_or_else(|error| {
            panic!("{error}: {}", self.server.log());
        })
    }
}

/// A folder with files of these keys.
pub(crate) fn keys(id: &str, secret: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("accessKeyId"), id).unwrap();
    std::fs::write(folder.path().join("secretAccessKey"), secret).unwrap();
    folder
}
