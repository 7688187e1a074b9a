//! `store`, then `fetch`: what comes back is what went in.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::{Place, corrupt, files_below, first_file, noise, store};

#[test]
fn bytes_and_a_file_come_back_on_standard_output() {
    let place = Place::new();
    let content = noise(1, 3 << 20);
    let id = store(&place, &["store", "piped"], &content);
    assert!(place.call(["fetch", &id]).well().out == content, "piped bytes differ");

    let file = place.path("file");
    std::fs::write(&file, &content).unwrap();
    let id = store(&place, &["store", "file", "--path", file.to_str().unwrap()], &[]);
    assert!(place.call(["fetch", &id]).well().out == content, "the file's bytes differ");
    let target = place.path("copy");
    place.call(["fetch", &id, "--target", target.to_str().unwrap()]).well();
    assert!(std::fs::read(&target).unwrap() == content, "the copy differs");
}

#[test]
fn a_folder_comes_back_with_modes_times_and_links() {
    let place = Place::new();
    let folder = place.path("folder");
    std::fs::create_dir_all(folder.join("deep/er")).unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    std::fs::write(folder.join("deep/er/two words é"), noise(2, 100_000)).unwrap();
    std::fs::write(folder.join("nothing"), "").unwrap();
    symlink("../elsewhere", folder.join("deep/link")).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&folder.join("nothing"), 0o640);
    mode(&folder.join("empty"), 0o500);
    let arguments = ["store", "tree", "--path", folder.to_str().unwrap()];
    let id = store(&place, &arguments, &[]);

    let target = place.path("target");
    let said = place.call(["fetch", &id, "--target", target.to_str().unwrap()]).well();
    assert!(said.text().starts_with("wrote 2 files, 100.00 kB, to "), "{}", said.text());
    assert_eq!(described(&target), described(&folder));
}

#[test]
fn nothing_comes_back_that_runs_as_somebody_else() {
    let place = Place::new();
    let folder = place.path("folder");
    std::fs::create_dir_all(folder.join("shared")).unwrap();
    std::fs::write(folder.join("program"), "#!/bin/sh").unwrap();
    let mode = |path: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.join(path), permissions).unwrap();
    };
    mode("program", 0o6755);
    mode("shared", 0o3770);
    let id = store(&place, &["store", "tree", "--path", folder.to_str().unwrap()], &[]);
    let target = place.path("target");
    place.call(["fetch", &id, "--target", target.to_str().unwrap()]).well();
    let mode = |path: &str| target.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("program"), mode("shared")), (0o755, 0o770));
}

#[test]
fn pages_that_change_in_place_are_stored_alone() {
    let place = Place::new();
    let mut content = noise(3, 4 << 20);
    let chunking = ["store", "pages", "--chunking", "fixed:8192", "--compression-level", "3"];
    store(&place, &chunking, &content);
    let before = stored_bytes(&place);
    for page in (0..content.len() / 8192).step_by(64) {
        content[page * 8192 + 100] ^= 1;
    }
    let id = store(&place, &chunking, &content);
    let added = stored_bytes(&place) - before;
    // Eight pages, and what each snapshot takes.
    assert!((8 * 8192..12 * 8192).contains(&added), "{added} bytes were added");
    assert!(place.call(["fetch", &id]).well().out == content, "the bytes differ");
    let refused = place.call(["store", "pages", "--chunking", "fixed:1000"]);
    assert!(refused.code == Some(64) && refused.err.contains("power of two"), "{}", refused.err);
}

fn stored_bytes(place: &Place) -> u64 {
    let files = files_below(&place.path("repository"));
    files.iter().map(|file| file.metadata().unwrap().len()).sum()
}

/// Every path below a folder with what is known of it.
fn described(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if metadata.is_symlink() {
            target_of(&path)
        } else {
            dbbackup_repository::sha256_hex(&std::fs::read(&path).unwrap())
        };
        let modified = if metadata.is_symlink() { 0 } else { modified(&metadata) };
        let mode = metadata.permissions().mode();
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        found.push(format!("{name} {mode:o} {modified} {content}"));
    }
    found.sort();
    found
}

fn target_of(path: &Path) -> String {
    std::fs::read_link(path).unwrap().display().to_string()
}

fn modified(metadata: &std::fs::Metadata) -> u64 {
    metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_snapshot_is_found_by_as_many_characters_as_make_it_unique() {
    let place = Place::new();
    let first = store(&place, &["store", "same"], b"first");
    let second = store(&place, &["store", "same"], b"second");
    let other = store(&place, &["store", "other"], b"other");
    let common = first.bytes().zip(second.bytes()).take_while(|(a, b)| a == b).count();
    for (prefix, content) in
        [(&first[..=common], "first"), (&second[..=common], "second"), (&other[..8], "other")]
    {
        assert_eq!(place.call(["fetch", prefix]).well().text(), content);
    }
    let ended = place.call(["fetch", &first[..common]]);
    assert_eq!(ended.code, Some(64));
    assert!(ended.err.contains("2 snapshots have an id that begins with"), "{}", ended.err);
    assert!(ended.err.contains("(SnapshotAmbiguous)"), "{}", ended.err);
    assert_eq!(ended.text(), "");
}

#[test]
fn a_target_that_holds_something_is_refused_and_stays_as_it_was() {
    let place = Place::new();
    let folder = place.path("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "stored").unwrap();
    let id = store(&place, &["store", "x", "--path", folder.to_str().unwrap()], &[]);
    std::fs::write(folder.join("file"), "mine").unwrap();
    let ended = place.call(["fetch", &id, "--target", folder.to_str().unwrap()]);
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("is not an empty folder"), "{}", ended.err);
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "mine");
    // Without a target a folder has nowhere to go, and standard output gets none of it.
    let ended = place.call(["fetch", &id]);
    assert_eq!((ended.code, ended.text()), (Some(64), ""));
    assert!(ended.err.contains("--target"), "{}", ended.err);
}

#[test]
fn a_pack_that_is_damaged_fails_the_fetch_and_names_the_repository() {
    let place = Place::new();
    let id = store(&place, &["store", "x"], &noise(3, 100_000));
    corrupt(&first_file(&place.path("repository/packs")));
    let ended = place.call(["fetch", &id]);
    assert_eq!(ended.code, Some(72), "{}", ended.err);
    assert!(ended.err.contains(&place.repository), "{}", ended.err);
}

#[test]
fn what_store_took_is_no_database_and_restore_says_what_to_do() {
    let place = Place::new();
    let id = store(&place, &["store", "x"], b"x");
    let ended = place.call(["restore", &id, "postgresql://me@127.0.0.1:1", "--tls=disable"]);
    assert_eq!(ended.code, Some(66), "{}", ended.err);
    assert!(ended.err.contains("dbbackup-runner fetch"), "{}", ended.err);
    assert_eq!(ended.text(), "");
}

#[test]
fn an_empty_standard_input_is_a_program_that_failed_and_stores_nothing() {
    let place = Place::new();
    let ended = place.feed(["store", "name"], b"");
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("standard input was empty"), "{}", ended.err);
    let listed = place.call(["snapshots", "--json"]).well();
    assert!(!listed.text().contains("\"id\""), "{}", listed.text());
}
