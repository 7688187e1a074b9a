//! `key list`, `key add`, `key remove`: who opens a repository, and what is said if not.

use serde_json::Value;

use crate::support::{Ended, Place, corrupt, first_file, runner, write_secret};

/// The program with `key COMMAND`, the repository, and the key in this file.
fn key(place: &Place, command: &str, arguments: &[&str], by: &str) -> Ended {
    let mut program = runner(["key", command]);
    program.arg(&place.repository).args(arguments);
    let flag = if by.starts_with("pass") { "--passphrase-file" } else { "--key-file" };
    program.arg(flag).arg(place.path(by));
    Ended::from(program.output().unwrap())
}

fn add(place: &Place, flag: &str, file: &str, more: &[&str], by: &str) -> Ended {
    let path = place.path(file).display().to_string();
    key(place, "add", &[&[flag, path.as_str()], more].concat(), by)
}

fn listed(place: &Place, by: &str) -> Vec<Value> {
    let ended = key(place, "list", &["--json"], by).well();
    serde_json::from_str(ended.text()).unwrap()
}

#[test]
fn a_key_is_rotated_and_what_was_stored_is_still_read() {
    let place = Place::new();
    let stored = place.feed(["store", "name", "--json"], b"content").well();
    let stored: Value = serde_json::from_str(stored.text()).unwrap();
    write_secret(&place.path("passphrase"), b"correct horse\n");
    let kdf = &["--name", "k2026", "--kdf", "argon2id"];
    let said = add(&place, "--new-passphrase-file", "passphrase", kdf, "key").well();
    assert!(said.text().ends_with(" added: k2026 opens the repository\n"), "{}", said.text());
    let again = add(&place, "--new-passphrase-file", "passphrase", &["--json"], "key").well();
    assert!(again.text().contains("\"added\": false"), "{}", again.text());

    let table = key(&place, "list", &[], "passphrase").well();
    assert_eq!(table.text().lines().count(), 2);
    let line = table.text().lines().find(|line| line.contains("k2026")).unwrap();
    assert!(line.contains("Argon2id with 64 MiB, 3 passes, 4 lanes"), "{line}");
    assert!(line.ends_with("k2026  (the given key)"), "{line}");
    let slots = listed(&place, "passphrase");
    let old = slots.iter().find(|slot| slot["opened"] == false).unwrap();
    assert_eq!((&old["state"], &old["kdf"]["name"]), (&"Whole".into(), &"raw".into()));

    let slot = old["slot"].as_str().unwrap();
    let removed = key(&place, "remove", &[&slot[..8]], "passphrase");
    assert_eq!(removed.code, Some(0), "{}", removed.err);
    assert_eq!(removed.text(), format!("key slot {slot} removed\n"));
    assert!(removed.err.starts_with("note: "), "{}", removed.err);
    let refused = place.call(["snapshots"]);
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    let mut fetch = runner(["fetch", &place.repository, stored["id"].as_str().unwrap()]);
    let fetch = fetch.arg("--passphrase-file").arg(place.path("passphrase"));
    assert_eq!(Ended::from(fetch.output().unwrap()).well().text(), "content");
}

#[test]
fn the_last_slot_an_unknown_one_and_a_wrong_key_are_refused_with_what_to_do() {
    let place = Place::new();
    write_secret(&place.path("other"), &[8; 32]);
    let slot = listed(&place, "key")[0]["slot"].as_str().unwrap().to_owned();
    let cases = [
        (key(&place, "remove", &[&slot], "key"), 71, "KeySlotNeeded", "key add"),
        (key(&place, "remove", &["zzzz"], "key"), 66, "KeySlotNotFound", "key list"),
        (key(&place, "list", &[], "other"), 69, "WrongKey", ""),
        (add(&place, "--new-key-file", "key", &[], "other"), 69, "WrongKey", ""),
        (add(&place, "--new-key-file", "absent", &[], "key"), 67, "LocalFileError", ""),
        (add(&place, "--new-key-file", "key", &["--name", ""], "key"), 64, "UsageError", ""),
    ];
    for (ended, code, reason, hint) in cases {
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains(&format!("({reason})")), "{}", ended.err);
        let told = ended.err.lines().find(|line| line.starts_with("hint: ")).unwrap();
        assert!(told.contains(hint) && told.ends_with('.'), "{told}");
        assert_eq!(ended.text(), "");
    }
    assert_eq!(listed(&place, "key").len(), 1);
    let clear = runner(["key", "list", &place.repository, "--no-encryption"]).output().unwrap();
    assert!(Ended::from(clear).err.contains("(EncryptionMismatch)"));
}

#[test]
fn a_damaged_slot_a_damaged_config_and_a_wrong_key_are_three_things() {
    let place = Place::new();
    write_secret(&place.path("other"), &[8; 32]);
    add(&place, "--new-key-file", "other", &[], "key").well();
    let slots = listed(&place, "key");
    let first = slots.iter().find(|slot| slot["opened"] == true).unwrap();
    let first = first["slot"].as_str().unwrap();
    corrupt(&place.path("repository/keys").join(first));
    let own = place.call(["snapshots"]);
    assert_eq!(own.code, Some(72), "{}", own.err);
    assert!(own.err.contains("(KeySlotDamaged)"), "{}", own.err);

    let seen = key(&place, "list", &[], "other");
    assert_eq!(seen.code, Some(72));
    assert!(seen.text().contains("DAMAGED") && seen.err.starts_with("hint: "), "{}", seen.text());
    assert_eq!(key(&place, "remove", &[first], "other").code, Some(0));
    add(&place, "--new-key-file", "key", &[], "other").well();
    place.call(["snapshots"]).well();

    corrupt(&first_file(&place.path("repository/config")));
    for by in ["key", "other"] {
        let ended = key(&place, "list", &[], by);
        assert_eq!(ended.code, Some(72), "{}", ended.err);
        assert!(ended.err.contains("(RepositoryDamaged)"), "{}", ended.err);
    }
}

#[test]
fn a_new_repository_takes_argon2id_if_it_is_asked_for() {
    let place = Place::without_repository();
    write_secret(&place.path("passphrase"), b"correct horse");
    let mut init = runner(["init", &place.repository, "--kdf", "argon2id", "--passphrase-file"]);
    Ended::from(init.arg(place.path("passphrase")).output().unwrap()).well();
    assert_eq!(listed(&place, "passphrase")[0]["kdf"]["name"], "argon2id");
}
