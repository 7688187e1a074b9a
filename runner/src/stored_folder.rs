//! The folder or file that `store` reads, held open while it is stored.
//!
//! Between the listing of a folder and the opening of a file in it, somebody else may
//! put a link in its place, or in the place of a folder above it; who stores as root
//! must not be led elsewhere by that. So everything is opened from the folder's own
//! handle on, one name after the other, and no link among them is followed. What leads
//! to the folder itself is the caller's word, and is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use dbbackup_contract::{Failure, Reason};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::byte_source::unreadable;
use crate::tree::{Entry, EntryKind, decoded, encoded, stream_name};

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe is not waited for.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is stored.
#[derive(Debug)]
pub(crate) struct StoredFolder {
    /// As the caller named it, to be shown.
    root: PathBuf,
    /// The folder; or where the one file or link is, and its name there.
    handle: OwnedFd,
    single: Option<OsString>,
    /// The folder that was opened last: most files are its neighbours.
    last: Option<(PathBuf, OwnedFd)>,
}

impl StoredFolder {
    /// Opens what is at `root`: a folder, or a file or a link.
    ///
    /// # Errors
    /// `LocalFileError`.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let failed = |error: Errno| unreadable(&root.display().to_string(), &error.into());
        let (handle, single) = match rustix::fs::openat(CWD, root, FOLDER, Mode::empty()) {
            Ok(handle) => (handle, None),
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
                let name = root.file_name().ok_or_else(|| failed(error))?.to_owned();
                let parent = match root.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                // It may be entered, and not listed.
                let flags = flags | OFlags::PATH;
                let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty());
                (parent.map_err(failed)?, Some(name))
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { root: root.to_owned(), handle, single, last: None })
    }

    /// Lists it, with all below it. Links are not followed; sockets, pipes and devices
    /// have no content and are refused.
    ///
    /// # Errors
    /// `UsageError` for what cannot be stored, `LocalFileError`.
    pub(crate) fn list(&mut self) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        // Depth first and by name, so that the same folder gives the same list.
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let entry = self.entry(&relative, &mut pending);
            let shown = self.shown(&relative);
            entries.push(entry.map_err(|error| unreadable(&shown, &error))?.ok_or_else(|| {
                let message = format!("{shown} is neither a file nor a folder nor a link");
                Failure::new(Reason::UsageError, message)
            })?);
        }
        Ok(entries)
    }

    /// Opens a file that was listed. It may be something else by now.
    ///
    /// # Errors
    /// `LocalFileError`.
    pub(crate) fn file(&mut self, entry: &Entry) -> Result<(File, String), Failure> {
        let relative = PathBuf::from(OsString::from_vec(decoded(&entry.path)));
        let shown = self.shown(&relative);
        let opened = self.place(&relative).and_then(|(folder, name)| {
            let file = File::from(rustix::fs::openat(folder, &name, FILE, Mode::empty())?);
            Ok(file.metadata()?.is_file().then_some(file))
        });
        let file = opened.map_err(|error| unreadable(&shown, &error))?.ok_or_else(|| {
            Failure::new(Reason::LocalFileError, format!("{shown} is no file any more"))
                .with_hint("It was one a moment ago: store the folder while nobody changes it.")
        })?;
        Ok((file, shown))
    }

    fn shown(&self, relative: &Path) -> String {
        // Joining nothing would add a slash.
        let is_root = relative.as_os_str().is_empty();
        let path = if is_root { self.root.clone() } else { self.root.join(relative) };
        path.display().to_string()
    }

    /// What is at `relative`; the names in a folder are added to `pending`. `None` for what
    /// cannot be stored.
    fn entry(&mut self, relative: &Path, pending: &mut Vec<PathBuf>) -> io::Result<Option<Entry>> {
        let is_root = relative.as_os_str().is_empty() && self.single.is_none();
        let stat = if is_root {
            rustix::fs::fstat(&self.handle)?
        } else {
            let (folder, name) = self.place(relative)?;
            rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?
        };
        let path = encoded(relative.as_os_str().as_bytes());
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let mut children = names(self.folder(relative)?)?;
                children.sort_unstable_by(|a, b| b.cmp(a));
                pending.extend(children.into_iter().map(|child| relative.join(child)));
                EntryKind::Folder
            }
            FileType::RegularFile => EntryKind::File { stream: stream_name(&path) },
            FileType::Symlink => {
                let (folder, name) = self.place(relative)?;
                let target = rustix::fs::readlinkat(folder, &name, Vec::new())?;
                EntryKind::Link { target: encoded(target.as_bytes()) }
            }
            _ => return Ok(None),
        };
        let Stat { st_mode, st_mtime, .. } = stat;
        Ok(Some(Entry { path, kind, mode: st_mode & 0o7777, modified: st_mtime }))
    }

    /// The folder in which `relative` is, and its name there.
    fn place(&mut self, relative: &Path) -> io::Result<(BorrowedFd<'_>, OsString)> {
        if let Some(name) = self.single.clone() {
            return Ok((self.handle.as_fd(), name));
        }
        let name = relative.file_name().ok_or(Errno::INVAL)?.to_owned();
        let parent = relative.parent().unwrap_or(Path::new(""));
        Ok((self.folder(parent)?, name))
    }

    /// The folder at `relative`, and nothing that a link leads to.
    fn folder(&mut self, relative: &Path) -> io::Result<BorrowedFd<'_>> {
        if self.single.is_some() {
            // It was a file a moment ago.
            return Err(Errno::NOTDIR.into());
        }
        if relative.as_os_str().is_empty() {
            return Ok(self.handle.as_fd());
        }
        let (mut at, rest) = match self.last.take() {
            Some((known, handle)) if relative.starts_with(&known) => {
                (Some(handle), relative.strip_prefix(&known).unwrap_or(relative))
            }
            _ => (None, relative),
        };
        for name in rest {
            let above = at.as_ref().map_or(self.handle.as_fd(), AsFd::as_fd);
            at = Some(rustix::fs::openat(above, name, FOLDER, Mode::empty())?);
        }
        let found = at.ok_or(Errno::INVAL)?;
        Ok(self.last.insert((relative.to_owned(), found)).1.as_fd())
    }
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for child in Dir::read_from(folder)? {
        let child = child?;
        let name = child.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(folder: &Path) -> Vec<String> {
        let entries = StoredFolder::open(folder).unwrap().list().unwrap();
        entries.into_iter().map(|entry| entry.path).collect()
    }

    /// What the file of this name holds, if it can be opened.
    fn content(stored: &mut StoredFolder, path: &str) -> Result<String, Reason> {
        let kind = EntryKind::File { stream: String::new() };
        let entry = Entry { path: path.to_owned(), kind, mode: 0, modified: 0 };
        let (mut file, _) = stored.file(&entry).map_err(|failure| failure.reason)?;
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        Ok(content)
    }

    /// A folder with files in folders, and what nobody shall read, beside it.
    fn ours_and_theirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
        for (root, content) in [(&ours, "ours"), (&theirs, "theirs")] {
            for folder in ["a/b", "z"] {
                std::fs::create_dir_all(root.join(folder)).unwrap();
                std::fs::write(root.join(folder).join("file"), content).unwrap();
            }
            std::fs::write(root.join("file"), content).unwrap();
        }
        (place, ours, theirs)
    }

    fn replace_by_link(path: &Path, target: &Path) {
        std::fs::rename(path, path.with_extension("old")).unwrap();
        symlink(target, path).unwrap();
    }

    #[test]
    fn a_folder_is_listed_parents_first_and_always_in_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("b/c")).unwrap();
        std::fs::write(folder.path().join("b/c/file"), "x").unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        symlink("../elsewhere", folder.path().join("z")).unwrap();
        assert_eq!(paths(folder.path()), ["", "a", "b", "b/c", "b/c/file", "z"]);
        // A file or a link alone is an entry without a path.
        for single in ["a", "z"] {
            assert_eq!(paths(&folder.path().join(single)), [""]);
        }
        let mut file = StoredFolder::open(&folder.path().join("a")).unwrap();
        assert_eq!(content(&mut file, "").unwrap(), "x");
    }

    #[test]
    fn a_link_that_came_after_the_listing_is_not_followed_wherever_it_is() {
        for (swapped, file) in [
            ("a", "a/b/file"),
            ("a/b", "a/b/file"),
            ("a/b/file", "a/b/file"),
            ("z", "z/file"),
            ("file", "file"),
        ] {
            let (_place, ours, theirs) = ours_and_theirs();
            let mut stored = StoredFolder::open(&ours).unwrap();
            assert_eq!(stored.list().unwrap().len(), 7);
            // Another folder is the one that was opened last.
            assert_eq!(content(&mut stored, "a/b/file").unwrap(), "ours");
            assert_eq!(content(&mut stored, "z/file").unwrap(), "ours");
            let (mut fresh, last) = (StoredFolder::open(&ours).unwrap(), swapped == "z");
            replace_by_link(&ours.join(swapped), &theirs.join(swapped));
            // A folder that is held open is the one that was listed.
            let expected = if last { Ok("ours".to_owned()) } else { Err(Reason::LocalFileError) };
            assert_eq!(content(&mut stored, file), expected, "{swapped}");
            assert_eq!(content(&mut fresh, file), Err(Reason::LocalFileError), "{swapped}");
            let folder = Path::new(file).parent().unwrap();
            assert_eq!(fresh.folder(folder).is_ok(), swapped.ends_with("file"), "{swapped}");
        }
    }

    #[test]
    fn what_stands_in_the_place_of_the_folder_itself_is_not_read() {
        let (_place, ours, theirs) = ours_and_theirs();
        let mut stored = StoredFolder::open(&ours).unwrap();
        let mut single = StoredFolder::open(&ours.join("file")).unwrap();
        replace_by_link(&ours, &theirs);
        assert_eq!(stored.list().unwrap().len(), 7);
        assert_eq!(content(&mut stored, "a/b/file").unwrap(), "ours");
        assert_eq!(content(&mut single, "").unwrap(), "ours");
    }

    #[test]
    fn what_is_no_file_any_more_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        symlink("file", at("link")).unwrap();
        let (pipe, kind, mode) = (at("pipe"), FileType::Fifo, Mode::RUSR);
        rustix::fs::mknodat(CWD, pipe, kind, mode, 0).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let mut stored = StoredFolder::open(folder.path()).unwrap();
        assert_eq!(content(&mut stored, "file").unwrap(), "x");
        for other in ["link", "pipe", "folder"] {
            assert_eq!(content(&mut stored, other), Err(Reason::LocalFileError), "{other}");
        }
        let refused = stored.list().unwrap_err();
        assert_eq!(refused.reason, Reason::UsageError, "{}", refused.message);
    }
}
