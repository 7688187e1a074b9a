//! A bucket on a server, and the options that name it.

use std::time::Duration;

use dbbackup_storage::RetryPolicy;
use dbbackup_storage_clouds::{
    AzureCredentials, AzureKeyFiles, AzurePlace, CloudOptions, CloudStore, GcsCredentials,
    GcsPlace, Place as Bucket,
};

use crate::server::{ACCOUNT, ACCOUNT_KEY, BUCKET, Kind, Server};
use crate::service_account;

/// Tries that do not keep a test waiting.
pub(crate) const QUICK: RetryPolicy = RetryPolicy {
    tries: 7,
    first_delay: Duration::from_millis(5),
    longest_delay: Duration::from_millis(50),
};

/// A server with an empty bucket, and a folder with keys.
pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) keys: tempfile::TempDir,
}

impl Place {
    pub(crate) fn on(kind: Kind) -> Self {
        Self::of(Server::start(kind))
    }

    pub(crate) fn of(server: Server) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let place = Self { server, keys };
        match kind_of(&place) {
            Kind::Azurite => place.write("accountKey", ACCOUNT_KEY),
            Kind::FakeGcs => place.write("key.json", &service_account::key_file()),
        }
        place
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.keys.path().join(name), content).unwrap();
    }

    /// The bucket, with a prefix.
    pub(crate) fn options(&self, prefix: &str) -> CloudOptions {
        self.options_of(BUCKET, prefix)
    }

    /// Another bucket of the same server.
    pub(crate) fn options_of(&self, bucket: &str, prefix: &str) -> CloudOptions {
        let bucket = match kind_of(self) {
            Kind::Azurite => Bucket::Azure(AzurePlace {
                account: ACCOUNT.to_owned(),
                container: bucket.to_owned(),
                credentials: AzureCredentials::Files(AzureKeyFiles::in_folder(self.keys.path())),
            }),
            Kind::FakeGcs => Bucket::Gcs(GcsPlace {
                bucket: bucket.to_owned(),
                credentials: GcsCredentials::File(self.keys.path().join("key.json")),
            }),
        };
        CloudOptions {
            endpoint: Some(self.server.endpoint()),
            retry: QUICK,
            ..CloudOptions::new(bucket, prefix)
        }
    }

    /// The bucket behind a proxy at this port.
    pub(crate) fn behind(&self, port: u16) -> CloudOptions {
        let endpoint = Some(self.server.endpoint_at(port));
        CloudOptions { endpoint, ..self.options("x") }
    }

    pub(crate) async fn open(&self, prefix: &str) -> CloudStore {
        CloudStore::open(self.options(prefix)).await.unwrap_or_else(|error| {
            panic!("{error}: {}", self.server.log());
        })
    }
}

fn kind_of(place: &Place) -> Kind {
    place.server.kind
}
