//! Folders as streams: a list of what is in the folder, and one stream a file.
//!
//! The stream [`TREE`] holds one JSON object a line, parents before children.
//! Paths are bytes: all but letters, digits, `-`, `_`, `.` and `/` are
//! percent-encoded. A file's content is the stream that its line names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use dbbackup_contract::{Failure, Reason};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

/// Name of the stream with the list.
pub(crate) const TREE: &str = "tree";
/// Name of the one stream of a snapshot that holds bytes and no folder.
pub(crate) const DATA: &str = "data";
/// Kind of a snapshot that holds a folder or a file with its name.
pub(crate) const KIND_TREE: &str = "tree";
/// Kind of a snapshot that holds bytes.
pub(crate) const KIND_STREAM: &str = "stream";
/// What the streams of files begin with.
pub(crate) const FILES: &str = "files/";
/// What is percent-encoded in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');
/// Longest stream name, in bytes (see `dbbackup_engine::BackupSink`).
const MAX_STREAM_NAME: usize = 1024;

/// One thing in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Percent-encoded path below the folder; empty for the folder or file itself.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Seconds since 1970 of the last change of its content.
    pub(crate) modified: i64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EntryKind {
    Folder,
    /// Its content is the stream of this name.
    File {
        stream: String,
    },
    /// Its target, percent-encoded like a path.
    Link {
        target: String,
    },
}

/// The place of `entry` below `target`.
///
/// # Errors
/// `RepositoryDamaged` for a path that leads out of the folder: the list comes
/// from a repository, and is not trusted as a path.
pub(crate) fn place(target: &Path, entry: &Entry) -> Result<PathBuf, Failure> {
    let relative = decoded(&entry.path);
    let relative = Path::new(OsStr::from_bytes(&relative));
    let only_names = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !only_names || relative.as_os_str().as_bytes().contains(&0) {
        return Err(hostile(&entry.path));
    }
    // Joining nothing would add a slash, which no file's name may end in.
    Ok(if entry.path.is_empty() { target.to_owned() } else { target.join(relative) })
}

/// The target of a link, as it was.
pub(crate) fn link_target(encoded: &str) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&decoded(encoded)))
}

/// Gives an entry its mode and time, children before parents. Who runs as its owner or
/// its group is said by nobody but this system: the list comes from a repository.
pub(crate) fn finish(path: &Path, entry: &Entry) -> Result<(), Failure> {
    if matches!(entry.kind, EntryKind::Link { .. }) {
        return Ok(());
    }
    let seconds = std::time::Duration::from_secs(entry.modified.unsigned_abs());
    let modified = if entry.modified < 0 {
        std::time::UNIX_EPOCH - seconds
    } else {
        std::time::UNIX_EPOCH + seconds
    };
    std::fs::File::open(path)
        .and_then(|file| {
            file.set_modified(modified)?;
            file.set_permissions(std::fs::Permissions::from_mode(entry.mode & 0o777))
        })
        .map_err(|error| unwritable(path, &error))
}

/// A local file that cannot be written.
pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::StorageFull => Reason::StorageFull,
        _ => Reason::LocalFileError,
    };
    Failure::new(reason, format!("cannot write {}: {error}", path.display()))
        .with_hint("Check that there is room, and that this user may write there.")
}

fn hostile(path: &str) -> Failure {
    Failure::new(
        Reason::RepositoryDamaged,
        format!("the snapshot holds a path that leads out of its folder: {path}"),
    )
}

/// The same file has the same stream in every snapshot of a series. A path that
/// is too long for a name is taken by its SHA-256.
pub(crate) fn stream_name(encoded: &str) -> String {
    if FILES.len() + encoded.len() <= MAX_STREAM_NAME {
        return format!("{FILES}{encoded}");
    }
    let digest = dbbackup_repository::sha256_hex(encoded.as_bytes());
    format!("{FILES}~{digest}")
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

pub(crate) fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { path: path.into(), kind: EntryKind::Folder, mode: 0o755, modified: 0 }
    }

    #[test]
    fn paths_survive_their_encoding_whatever_bytes_they_hold() {
        let nasty = b"a b/\xff\xfe/\xc3\xa9\n%41";
        assert_eq!(decoded(&encoded(nasty)), nasty);
        assert_eq!(encoded(b"a/b-c_d.e"), "a/b-c_d.e");
    }

    #[test]
    fn a_path_that_leads_out_of_the_target_is_refused() {
        let target = Path::new("/target");
        for hostile in ["..", "a/../../b", "/etc/passwd", "%2e%2e/x", "%2Fetc", "a%00b"] {
            let failure = place(target, &entry(hostile)).unwrap_err();
            assert_eq!(failure.reason, Reason::RepositoryDamaged, "{hostile}");
        }
        assert_eq!(place(target, &entry("a/b%20c")).unwrap(), Path::new("/target/a/b c"));
        assert_eq!(place(target, &entry("")).unwrap().as_os_str(), "/target");
    }

    #[test]
    fn a_very_long_path_has_a_stream_name_that_is_short_enough() {
        assert!(stream_name(&"x".repeat(4000)).len() <= MAX_STREAM_NAME);
        assert_eq!(stream_name("a/b"), "files/a/b");
    }
}
