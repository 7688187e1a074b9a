//! A repository in Azure Blob Storage and in Google Cloud Storage, on servers that others
//! have written.

use std::process::Command;

use crate::cloud_server::{ACCOUNT, ACCOUNT_KEY, BUCKET, Kind, Server, sas};
use crate::cloud_service_account::key_file;
use crate::support::{Ended, Place, noise, write_secret};

/// A server with a bucket, and a place whose repository is meant to lie in it.
pub(crate) struct Cloud {
    pub(crate) server: Server,
    pub(crate) place: Place,
}

impl Cloud {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::on(Server::start(kind))
    }

    pub(crate) fn on(server: Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            write_secret(&folder.path().join(name), content.as_bytes());
        };
        let address = match server.kind {
            Kind::Azurite => {
                write("accountKey", ACCOUNT_KEY);
                format!("azure://{ACCOUNT}/{BUCKET}/shop/eu")
            }
            Kind::FakeGcs => {
                write("key.json", &key_file());
                format!("gs://{BUCKET}/shop/eu")
            }
        };
        Self { server, place: Place::at_address(folder, address) }
    }

    /// The program with a command, the repository, its key, and how to reach the server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        let flag = match self.server.kind {
            Kind::Azurite => "--azure-endpoint",
            Kind::FakeGcs => "--gcs-endpoint",
        };
        command.arg(flag).arg(self.server.endpoint());
        command
    }

    /// The same, with keys in files.
    fn with_keys(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        match self.server.kind {
            Kind::Azurite => command.arg("--azure-credentials-dir").arg(self.place.folder.path()),
            Kind::FakeGcs => command.arg("--gcs-credentials-file").arg(self.place.path("key.json")),
        };
        command
    }

    fn call(&self, arguments: &[&str]) -> Ended {
        self.with_keys(arguments).output().unwrap().into()
    }
}

fn stores_lists_checks_and_fetches(kind: Kind) {
    let cloud = Cloud::new(kind);
    let said = cloud.call(&["init"]).well();
    assert!(said.text().contains(" created: 0 snapshots"), "{}", said.text());
    let said = cloud.call(&["init"]).well();
    assert!(said.text().contains(" opened: 0 snapshots"), "{}", said.text());

    // More than one pack.
    let content = noise(1, 40 << 20);
    let path = cloud.place.path("content");
    std::fs::write(&path, &content).unwrap();
    let path = path.to_str().unwrap();
    let stored = cloud.call(&["store", "name", "--path", path, "--json"]).well();
    let stored: serde_json::Value = serde_json::from_str(stored.text()).unwrap();
    let id = stored["id"].as_str().unwrap().to_owned();

    let listed = cloud.call(&["snapshots", "--json"]).well();
    let listed: serde_json::Value = serde_json::from_str(listed.text()).unwrap();
    assert_eq!(listed[0]["id"], id.as_str());
    cloud.call(&["check", "--level", "data"]).well();
    let target = cloud.place.path("target");
    cloud.call(&["fetch", &id, "--target", target.to_str().unwrap()]).well();
    assert!(std::fs::read(&target).unwrap() == content);
}

#[test]
fn what_is_stored_in_azure_comes_back_and_is_checked() {
    stores_lists_checks_and_fetches(Kind::Azurite);
}

#[test]
fn what_is_stored_in_google_cloud_comes_back_and_is_checked() {
    stores_lists_checks_and_fetches(Kind::FakeGcs);
}

/// The rights of `docs/storage.md`: read, list and create, and neither write nor delete.
#[test]
fn a_signature_that_may_only_add_stores_and_cannot_prune() {
    let cloud = Cloud::new(Kind::Azurite);
    std::fs::remove_file(cloud.place.path("accountKey")).unwrap();
    write_secret(&cloud.place.path("sasToken"), sas("rlc").as_bytes());
    cloud.call(&["init"]).well();
    std::fs::write(cloud.place.path("content"), noise(1, 1 << 20)).unwrap();
    let path = cloud.place.path("content");
    let path = path.to_str().unwrap();
    cloud.call(&["store", "name", "--path", path, "--json"]).well();
    cloud.call(&["check", "--level", "data"]).well();
    let ended = cloud.call(&["prune"]);
    assert_eq!(ended.code, Some(67), "{}{}", ended.text(), ended.err);
    assert!(ended.err.contains("(StoragePermissionDenied)"), "{}", ended.err);
}

#[test]
fn a_bucket_that_is_not_there_is_told_with_what_to_correct() {
    for kind in [Kind::Azurite, Kind::FakeGcs] {
        let mut cloud = Cloud::new(kind);
        let ended = cloud.call(&["snapshots"]);
        assert_eq!(ended.code, Some(66), "{}", ended.err);
        assert!(ended.err.contains("(RepositoryNotFound)"), "{}", ended.err);
        cloud.place.repository = cloud.place.repository.replace(BUCKET, "no-such-bucket");
        let ended = cloud.call(&["snapshots"]);
        assert_eq!(ended.code, Some(64), "{}", ended.err);
        assert!(ended.err.contains("(InvalidSpec)\nhint: Correct "), "{}", ended.err);
    }
}

#[test]
fn wrong_keys_are_denied_and_shown_in_no_log() {
    let cloud = Cloud::new(Kind::Azurite);
    write_secret(
        &cloud.place.path("sasToken"),
        sas("rlc").replace("sig=", "sig=hunter2").as_bytes(),
    );
    for log in ["warn", "trace", "trace,reqwest=trace,hyper_util=trace,object_store=trace"] {
        let mut command = cloud.with_keys(&["init"]);
        let ended = Ended::from(command.env("DBBACKUP_LOG", log).output().unwrap());
        assert_eq!(ended.code, Some(67), "{}", ended.err);
        assert!(ended.err.contains("(StoragePermissionDenied)"), "{}", ended.err);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    }
    std::fs::remove_file(cloud.place.path("sasToken")).unwrap();
    std::fs::remove_file(cloud.place.path("accountKey")).unwrap();
    let ended = cloud.call(&["init"]);
    assert_eq!(ended.code, Some(67), "{}", ended.err);
    assert!(ended.err.contains("accountKey does not exist (LocalFileError)"), "{}", ended.err);
}

#[test]
fn flags_of_one_cloud_are_refused_for_another() {
    let place = Place::new();
    for (flag, address) in
        [("--azure-endpoint", "azure://"), ("--gcs-endpoint", "gs://"), ("--s3-endpoint", "s3://")]
    {
        let ended = place.call(["snapshots", flag, "https://x"]);
        assert_eq!(ended.code, Some(64), "{}", ended.err);
        assert!(ended.err.contains(address), "{}", ended.err);
    }
}
