//! A bucket on a server, and the options that name it.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials as Keys, Region};
use dbbackup_storage_s3::{Credentials, KeyFiles, S3Options, S3Store};

use crate::server::{ACCESS_KEY, Kind, SECRET_KEY, Server};

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
        // A server that listens may not be ready yet.
        let mut made = self.client().create_bucket().bucket(name).send().await;
        for _ in 0..100 {
            if made.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            made = self.client().create_bucket().bucket(name).send().await;
        }
        panic!("{made:?}: {}", self.server.log());
    }

    /// A client of our own making, to look at the bucket past the driver.
    pub(crate) fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::from_static("us-east-1"))
            .endpoint_url(self.server.endpoint())
            .force_path_style(true)
            .credentials_provider(Keys::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
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
