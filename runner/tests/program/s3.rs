//! A repository in a bucket, on a server that others have written.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::s3_server::{ACCESS_KEY, Kind, SECRET_KEY, Server};
use crate::support::{Ended, Place, noise, write_secret};

const BUCKET: &str = "backups";

/// A server with a bucket, and a place whose repository is meant to lie in it.
pub(crate) struct Bucket {
    pub(crate) server: Server,
    pub(crate) place: Place,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        let server = Server::start(Kind::Versity);
        server.make_folder(BUCKET);
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("accessKeyId"), ACCESS_KEY.as_bytes());
        write_secret(&folder.path().join("secretAccessKey"), SECRET_KEY.as_bytes());
        let address = format!("s3://{BUCKET}/shop/eu");
        Self { server, place: Place::at_address(folder, address) }
    }

    /// The program with a command, the repository, its key, and how to reach the server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command.args(["--s3-endpoint", &self.server.endpoint(), "--s3-path-style"]);
        command
    }

    /// The same, with keys in files.
    fn call(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        let output = command.arg("--s3-credentials-dir").arg(self.place.folder.path()).output();
        output.unwrap().into()
    }
}

#[test]
fn what_is_stored_in_a_bucket_comes_back_and_is_checked() {
    let bucket = Bucket::new();
    let said = bucket.call(&["init"]).well();
    assert!(said.text().contains(" created: 0 snapshots"), "{}", said.text());
    let said = bucket.call(&["init"]).well();
    assert!(said.text().contains(" opened: 0 snapshots"), "{}", said.text());

    // More than one pack.
    let content = noise(1, 40 << 20);
    std::fs::write(bucket.place.path("content"), &content).unwrap();
    let path = bucket.place.path("content");
    let path = path.to_str().unwrap();
    let stored = bucket.call(&["store", "name", "--path", path, "--json"]).well();
    let stored: serde_json::Value = serde_json::from_str(stored.text()).unwrap();
    let id = stored["id"].as_str().unwrap().to_owned();

    let listed = bucket.call(&["snapshots", "--json"]).well();
    let listed: serde_json::Value = serde_json::from_str(listed.text()).unwrap();
    assert_eq!(listed[0]["id"], id.as_str());
    bucket.call(&["check", "--level", "data"]).well();
    let target = bucket.place.path("target");
    bucket.call(&["fetch", &id, "--target", target.to_str().unwrap()]).well();
    assert!(std::fs::read(&target).unwrap() == content);
}

/// What is sent is held once, however large the whole is.
#[test]
fn memory_stays_the_same_however_much_is_stored() {
    let bucket = Bucket::new();
    bucket.call(&["init"]).well();
    let mut command = bucket.command(&["store", "name"]);
    command.arg("--s3-credentials-dir").arg(bucket.place.folder.path()).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for seed in 0..20 {
        stdin.write_all(&noise(seed, 10 << 20)).unwrap();
    }
    // It has taken all but what the pipe holds; its peak is what its pod has to have.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    drop(stdin);
    Ended::from(child.wait_with_output().unwrap()).well();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 192 * 1024, "{peak} kB");
}

#[test]
fn a_bucket_without_a_repository_and_one_that_is_not_there_are_told_apart() {
    let bucket = Bucket::new();
    let ended = bucket.call(&["snapshots"]);
    assert_eq!(ended.code, Some(66), "{}", ended.err);
    assert!(ended.err.contains("(RepositoryNotFound)"), "{}", ended.err);

    let mut elsewhere = bucket;
    elsewhere.place.repository = "s3://no-such-bucket/x".to_owned();
    let ended = elsewhere.call(&["snapshots"]);
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("there is no such bucket"), "{}", ended.err);
    assert!(ended.err.contains("(InvalidSpec)\nhint: Correct bucket, region"), "{}", ended.err);
}

#[test]
fn wrong_keys_are_denied_and_shown_in_no_log() {
    let bucket = Bucket::new();
    let key = bucket.place.path("secretAccessKey");
    std::fs::write(&key, "hunter2-is-no-key").unwrap();
    for log in ["warn", "trace", "trace,aws_smithy_runtime::client=trace,aws_sigv4=trace"] {
        let mut command = bucket.command(&["init"]);
        command
            .env("DBBACKUP_LOG", log)
            .arg("--s3-credentials-dir")
            .arg(bucket.place.folder.path());
        let ended = Ended::from(command.output().unwrap());
        assert_eq!(ended.code, Some(67), "{}", ended.err);
        assert!(ended.err.contains("(StoragePermissionDenied)"), "{}", ended.err);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        assert!(!ended.err.contains("AWS4-HMAC"), "a whole request is shown: {}", ended.err);
    }
    std::fs::remove_file(&key).unwrap();
    let ended = bucket.call(&["init"]);
    assert_eq!(ended.code, Some(67), "{}", ended.err);
    assert!(ended.err.contains("secretAccessKey does not exist (LocalFileError)"), "{}", ended.err);
}

#[test]
fn a_session_token_of_a_file_is_shown_to_the_server_and_to_nobody_else() {
    let bucket = Bucket::new();
    write_secret(&bucket.place.path("sessionToken"), b"t0ken-of-no-session");
    let ended = bucket.call(&["init"]);
    assert_eq!(ended.code, Some(67), "{}", ended.err);
    assert!(ended.err.contains("the session token is not valid"), "{}", ended.err);
    assert!(!ended.err.contains("t0ken"), "{}", ended.err);
}

#[test]
fn flags_of_buckets_are_refused_for_folders() {
    let place = Place::new();
    let ended = place.call(["snapshots", "--s3-region", "eu-central-1"]);
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("s3://"), "{}", ended.err);
}

#[test]
fn a_class_that_has_to_be_ordered_first_is_refused() {
    let bucket = Bucket::new();
    let ended = bucket.call(&["init", "--s3-storage-class", "DEEP_ARCHIVE"]);
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("cannot be read at once"), "{}", ended.err);
}
