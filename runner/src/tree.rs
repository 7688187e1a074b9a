//! Folders as streams: a list of what is in the folder, and one stream a file.
//!
//! The stream [`TREE`] holds one JSON object a line, parents before children.
//! Paths are bytes: all but letters, digits, `-`, `_`, `.` and `/` are
//! percent-encoded. A file's content is the stream that its line names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use dbbackup_contract::{Failure, Reason};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::byte_source::unreadable;

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

/// Lists what is at `root`: a file, or a folder with all below it. Links are
/// not followed; sockets, pipes and devices have no content and are refused.
pub(crate) fn list(root: &Path) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    // Depth first and by name, so that the same folder gives the same list.
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path =
            if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(&relative) };
        let failed = |error: std::io::Error| unreadable(&path.display().to_string(), &error);
        let metadata = path.symlink_metadata().map_err(failed)?;
        let encoded = encoded(relative.as_os_str().as_bytes());
        let kind = if metadata.is_dir() {
            let mut children = std::fs::read_dir(&path)
                .and_then(|children| {
                    children.map(|child| Ok(child?.file_name())).collect::<Result<Vec<_>, _>>()
                })
                .map_err(failed)?;
            children.sort_unstable_by(|a, b| b.cmp(a));
            pending.extend(children.into_iter().map(|child| relative.join(child)));
            EntryKind::Folder
        } else if metadata.is_file() {
            EntryKind::File { stream: stream_name(&encoded) }
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path).map_err(failed)?;
            EntryKind::Link { target: self::encoded(target.as_os_str().as_bytes()) }
        } else {
            return Err(Failure::new(
                Reason::UsageError,
                format!("{} is neither a file nor a folder nor a link", path.display()),
            ));
        };
        entries.push(Entry {
            path: encoded,
            kind,
            mode: metadata.mode() & 0o7777,
            modified: metadata.mtime(),
        });
    }
    Ok(entries)
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

/// Opens a file that was listed. It may be something else by now: a link is not
/// followed, and a pipe is not waited for.
pub(crate) fn open_file(path: &Path) -> Result<std::fs::File, Failure> {
    let shown = path.display().to_string();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| unreadable(&shown, &error))?;
    if file.metadata().map_err(|error| unreadable(&shown, &error))?.is_file() {
        return Ok(file);
    }
    Err(Failure::new(Reason::LocalFileError, format!("{shown} is no file any more"))
        .with_hint("It was one a moment ago: store the folder while nobody changes it."))
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
fn stream_name(encoded: &str) -> String {
    if FILES.len() + encoded.len() <= MAX_STREAM_NAME {
        return format!("{FILES}{encoded}");
    }
    let digest = dbbackup_repository::sha256_hex(encoded.as_bytes());
    format!("{FILES}~{digest}")
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

fn decoded(text: &str) -> Vec<u8> {
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
    fn a_folder_is_listed_parents_first_and_always_in_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("b/c")).unwrap();
        std::fs::write(folder.path().join("b/c/file"), "x").unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        std::os::unix::fs::symlink("../elsewhere", folder.path().join("z")).unwrap();
        let paths: Vec<_> =
            list(folder.path()).unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(paths, ["", "a", "b", "b/c", "b/c/file", "z"]);
    }

    #[test]
    fn what_is_no_file_any_more_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        let (pipe, kind, mode) = (at("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, pipe, kind, mode, 0).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        assert!(open_file(&at("file")).is_ok());
        for other in ["link", "pipe", "folder"] {
            let failure = open_file(&at(other)).unwrap_err();
            assert_eq!(failure.reason, Reason::LocalFileError, "{other}");
        }
    }

    #[test]
    fn a_very_long_path_has_a_stream_name_that_is_short_enough() {
        assert!(stream_name(&"x".repeat(4000)).len() <= MAX_STREAM_NAME);
        assert_eq!(stream_name("a/b"), "files/a/b");
    }
}
