//! `copy`: snapshots in a second repository, with another key.

use std::process::Command;

use crate::support::{Ended, Place, noise, store, write_secret};

/// Two repositories, each with its key.
struct Both {
    from: Place,
    to: Place,
}

impl Both {
    fn new() -> Self {
        let to = tempfile::tempdir().unwrap();
        let repository = format!("file://{}", to.path().join("repository").display());
        let to = Place::at_address(to, repository);
        std::fs::remove_file(to.path("key")).unwrap();
        write_secret(&to.path("key"), &[9; 32]);
        to.call(["init"]).well();
        Self { from: Place::new(), to }
    }

    fn copy(&self, what: &[&str]) -> Ended {
        let key = self.to.path("key");
        let to = ["--to", &self.to.repository, "--to-key-file", key.to_str().unwrap()];
        let arguments = ["copy"].iter().chain(what).chain(&to);
        let mut command: Command = self.from.command(arguments);
        command.output().unwrap().into()
    }

    fn copies(&self, what: &[&str]) -> Vec<serde_json::Value> {
        let what: Vec<&str> = what.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(self.copy(&what).well().text()).unwrap()
    }
}

#[test]
fn a_copy_is_a_snapshot_of_its_own_that_needs_nothing_of_the_first_repository() {
    let both = Both::new();
    let mut content = noise(1, 6 << 20);
    let first = store(&both.from, &["store", "shop"], &content);
    let said = both.copy(&[&first]).well();
    assert!(said.text().contains(": read 6.29 MB, took over 0 B, stored "), "{}", said.text());
    assert!(both.copy(&[&first]).well().text().contains(" is there already"));

    // Later ones take over what has not changed.
    for at in [1_000_000, 4_000_000] {
        content[at] ^= 1;
    }
    let second = store(&both.from, &["store", "shop"], &content);
    let copies = both.copies(&["--series", "shop"]);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let number = |pointer: &str| copies[0].pointer(pointer).unwrap().as_u64().unwrap();
    assert_eq!(copies[0]["copiedFrom"]["snapshot"], second.as_str());
    assert_eq!(number("/bytes/read") + number("/bytes/unchanged"), content.len() as u64);
    assert!(number("/bytes/read") < 300_000, "{copies:?}");
    let said = both.copy(&["--series", "shop"]).well();
    assert_eq!(said.text(), "every snapshot of the series is there already\n");

    let id = copies[0]["id"].as_str().unwrap();
    std::fs::remove_dir_all(both.from.path("repository")).unwrap();
    assert!(both.to.call(["fetch", id]).well().out == content, "the copy differs");
    both.to.call(["check", "--read-data", "100%"]).well();
}

#[test]
fn what_cannot_be_copied_says_which_repository_is_to_blame() {
    let both = Both::new();
    let id = store(&both.from, &["store", "shop"], &noise(2, 100_000));
    let refused = both.copy(&["nothing"]);
    assert!(refused.err.contains(&both.from.repository), "{}", refused.err);
    std::fs::remove_file(both.to.path("key")).unwrap();
    write_secret(&both.to.path("key"), &[1; 32]);
    let refused = both.copy(&[&id]);
    let wrong = both.to.path("key");
    let words = format!("{} (WrongKey)", wrong.display());
    assert!(refused.err.contains(&words), "{}", refused.err);

    let key = both.from.path("key");
    let key = key.to_str().unwrap();
    let same = ["copy", &id, "--to", &both.from.repository, "--to-key-file", key];
    let refused = both.from.call(same);
    assert!(refused.err.contains("both repositories are the repository "), "{}", refused.err);
    // Without its key, and with neither a snapshot nor a series.
    for arguments in [&["copy", &id, "--to", &both.to.repository][..], &["copy", "--to", "x"]] {
        let refused = both.from.call(arguments);
        assert_eq!(refused.code, Some(64), "{}", refused.err);
    }
}
