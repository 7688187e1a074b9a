//! The exit code of each class of failure, as `docs/adr/0002-exit-codes.md` has it.
//! (65, 70 and 75 take a server's work: the scenarios have 65, the contract's tests the table.)

use std::path::Path;

use crate::support::{Ended, Place, corrupt, first_file, runner, write_secret};

/// Nobody listens on port 1.
const NO_SERVER: &str = "postgresql://me@127.0.0.1:1";

#[test]
fn each_class_of_failure_has_its_code_its_reason_and_a_hint() {
    let place = Place::new();
    place.feed(["store", "name"], b"x").well();
    write_secret(&place.path("other"), &[8; 32]);
    let other = place.path("other").display().to_string();
    let missing = place.path("missing").display().to_string();
    std::fs::create_dir(place.path("occupied")).unwrap();
    std::fs::write(place.path("occupied/file"), "x").unwrap();
    let occupied = format!("file://{}", place.path("occupied").display());
    let absent = format!("file://{missing}");
    let certificate = ["--client-key-file", &missing, "--client-certificate-file"];
    let with_certificate = [&["backup", "REPO", NO_SERVER, "KEY"][..], &certificate].concat();
    let cases: [(&[&str], &str, i32, &str); 9] = [
        (&with_certificate, &missing, 67, "LocalFileError"),
        (&["backup", "REPO", NO_SERVER, "--tls=disable", "KEY"], "", 1, "ServerUnreachable"),
        (&["snapshots", &missing, "KEY"], "", 64, "UsageError"),
        (&["snapshots", &absent, "KEY"], "", 66, "RepositoryNotFound"),
        (&["fetch", "REPO", "nothing", "KEY"], "", 66, "SnapshotNotFound"),
        (&["snapshots", "REPO", "--key-file"], &missing, 67, "LocalFileError"),
        (&["snapshots", "REPO", "--key-file"], &other, 69, "WrongKey"),
        (&["snapshots", "REPO", "--no-encryption"], "", 69, "EncryptionMismatch"),
        (&["init", &occupied, "KEY"], "", 71, "RepositoryNotEmpty"),
    ];
    for (arguments, last, code, reason) in cases {
        let mut command = runner::<&str>([]);
        for argument in arguments.iter().copied().chain(Some(last).filter(|last| !last.is_empty()))
        {
            match argument {
                "REPO" => command.arg(&place.repository),
                "KEY" => command.arg("--key-file").arg(place.path("key")),
                other => command.arg(other),
            };
        }
        let ended = Ended::from(command.output().unwrap());
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.err);
        let lines: Vec<_> = ended.err.lines().collect();
        let [error, hint, ..] = lines.as_slice() else { panic!("{arguments:?}: {}", ended.err) };
        assert!(error.starts_with("error: ") && error.ends_with(&format!("({reason})")), "{error}");
        assert!(hint.starts_with("hint: ") && hint.ends_with('.'), "{hint}");
        assert_eq!(ended.text(), "", "{arguments:?}");
    }
}

#[test]
fn a_command_line_that_is_wrong_is_64_and_help_is_0() {
    let place = Place::without_repository();
    let half = ["backup", "file:///r", NO_SERVER, "--no-encryption", "--client-key-file", "k"];
    for wrong in [&[][..], &["restor"], &["init"], &["snapshots", "--what"], &half] {
        let ended = Ended::from(runner(wrong).output().unwrap());
        assert_eq!(ended.code, Some(64), "{wrong:?}");
        assert!(ended.err.contains("Usage: dbbackup-runner"), "{}", ended.err);
    }
    assert_eq!(place.call(["run"]).code, Some(64));
    let commands = [
        "init",
        "key",
        "backup",
        "restore",
        "snapshots",
        "store",
        "fetch",
        "check",
        "repair",
        "inspect",
        "run",
    ];
    for command in commands.map(Some).into_iter().chain([None]) {
        let arguments = command.into_iter().chain(["--help"]);
        let help = Ended::from(runner(arguments).output().unwrap()).well();
        assert!(help.text().contains("Usage: dbbackup-runner"), "{command:?}");
    }
}

#[test]
fn a_repository_of_a_later_release_is_incompatible_and_not_damaged() {
    let place = Place::new();
    let config = place.path("repository/config/0");
    let mut bytes = std::fs::read(&config).unwrap();
    let at = bytes.windows(11).position(|found| found == b"\"version\":0").unwrap();
    bytes[at + 10] = b'9';
    make_whole(&config, bytes);
    let ended = place.call(["snapshots"]);
    assert_eq!(ended.code, Some(73), "{}", ended.err);
    assert!(ended.err.contains("(RepositoryVersionUnsupported)"), "{}", ended.err);
}

/// Writes a config with the SHA-256 that belongs to it (`docs/format.md`, the config).
fn make_whole(config: &Path, mut bytes: Vec<u8>) {
    let length = usize::try_from(u32::from_le_bytes(bytes[8..12].try_into().unwrap())).unwrap();
    let digest = dbbackup_repository::sha256_hex(&bytes[..12 + length]);
    for (place, hex) in bytes[12 + length..][..32].iter_mut().zip(digest.as_bytes().chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    }
    std::fs::remove_file(config).unwrap();
    std::fs::write(config, bytes).unwrap();
}

#[test]
fn a_wrong_key_is_told_from_a_damaged_slot_a_damaged_pack_and_one_that_is_gone() {
    type Harm = fn(&Path);
    let damage: [(&str, Harm, &str); 4] = [
        ("keys", corrupt, "KeySlotDamaged"),
        ("snapshots", corrupt, "RepositoryDamaged"),
        ("packs", corrupt, "RepositoryDamaged"),
        ("packs", |file| std::fs::remove_file(file).unwrap(), "ObjectMissing"),
    ];
    for (folder, harm, reason) in damage {
        let place = Place::new();
        place.feed(["store", "name"], &[7; 1000]).well();
        harm(&first_file(&place.path("repository").join(folder)));
        let ended = place.call(["check", "--level=data"]);
        assert_eq!(ended.code, Some(72), "{folder}: {}", ended.err);
        let said = format!("{}{}", ended.text(), ended.err);
        assert!(said.contains(&format!("({reason})")), "{folder}: {said}");
        assert!(said.contains("hint: "), "{folder}: {said}");
        assert!(!said.contains("WrongKey"), "{folder}: {said}");
    }
}
