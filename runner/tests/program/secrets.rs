//! What must never be shown, whatever goes wrong.

use crate::support::{Ended, Place, runner, write_secret};

/// Text of a key that is no key, a passphrase, and a password.
const SECRETS: [&str; 3] = ["s3cret-no-key", "correct horse battery", "hunter2"];
const NO_SERVER: &str = "postgresql://me@127.0.0.1:1";

#[test]
fn no_key_no_passphrase_and_no_password_is_ever_shown() {
    let place = Place::new();
    let files = ["no-key", "passphrase", "password"].map(|name| place.path(name));
    for (file, secret) in files.iter().zip(SECRETS) {
        write_secret(file, secret.as_bytes());
    }
    let [no_key, passphrase, password] = files.each_ref().map(|file| file.to_str().unwrap());
    let repository = place.repository.as_str();
    let key = place.path("key");
    let key = key.to_str().unwrap();
    let in_server = "postgresql://me:hunter2@127.0.0.1:1/db?sslmode=require";
    let commands: [&[&str]; 9] = [
        &["snapshots", repository, "--key-file", no_key],
        &["snapshots", repository, "--passphrase-file", passphrase],
        &["init", repository, "--passphrase-file", passphrase],
        &["backup", repository, in_server, "--key-file", key],
        &["restore", repository, "x", in_server, "--key-file", key],
        // In the wrong order: the server stands where the repository belongs.
        &["backup", in_server, repository, "--key-file", key],
        &["snapshots", "s3://me:hunter2@bucket", "--key-file", key],
        &["snapshots", "file://me:hunter2@host/x", "--key-file", key],
        &["backup", repository, NO_SERVER, "--password-file", password, "--key-file", key],
    ];
    for arguments in commands {
        for log in ["warn", "trace"] {
            let output = runner(arguments).env("DBBACKUP_LOG", log).output().unwrap();
            let ended = Ended::from(output);
            assert_ne!(ended.code, Some(0), "{arguments:?}");
            assert!(ended.err.contains("error: "), "{arguments:?}: {}", ended.err);
            let said = format!("{}{}", ended.text(), ended.err);
            for secret in SECRETS {
                assert!(!said.contains(secret), "{arguments:?} with {log}: {said}");
            }
        }
    }
}

#[test]
fn a_key_that_everybody_can_read_is_used_with_a_warning_that_says_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let key = place.path("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = place.call(["snapshots"]);
    assert_eq!(ended.code, Some(0));
    let expected = format!(
        "warning: {0} can be read by every user of this machine\nhint: chmod 600 {0}\n",
        key.display()
    );
    assert_eq!(ended.err, expected);
}
