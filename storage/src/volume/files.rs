//! Files below the root: written whole, put in place once, read without links.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Folder, failure};
use crate::{Creation, Error, ErrorKind, MAX_OBJECT_BYTES, ObjectInfo, Operation, Result};

/// Where files are written before they have their name. No object can have
/// this name, since it has a dot.
pub(super) const TEMPORARY: &str = ".tmp";

/// Folders of a volume that is shared by a group: other members must be able to
/// write as well, whatever the process's umask is.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o770);
/// Objects never change, so nobody needs the right to write them.
const OBJECT_MODE: Mode = Mode::from_raw_mode(0o440);
/// Hands a folder's group down to what is made in it; kept where the volume has it.
const SET_GROUP: Mode = Mode::SGID;

/// How a finished file gets its name without replacing another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    Link,
    Rename,
}

/// The root folder.
#[derive(Debug)]
pub(super) struct Root {
    folder: Folder,
    /// Absent where nothing may be written.
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    temporary: Folder,
    publish: Publish,
    next: AtomicU64,
}

impl Root {
    pub(super) fn open(
        path: &Path,
        writable: bool,
        create: bool,
        leftover_age: Duration,
    ) -> Result<Self> {
        let shown = path.display().to_string();
        let fail = |errno| failure(Operation::Open, &shown, errno);
        if writable && create {
            std::fs::create_dir_all(path).map_err(|error| {
                fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)).caused_by(error)
            })?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::open(path, flags, Mode::empty()).map_err(fail)?;
        if !writable {
            return Ok(Self { folder, writing: None });
        }
        let temporary = enter(folder.as_fd(), TEMPORARY, true).map_err(fail)?;
        let next = AtomicU64::new(0);
        let publish = probe(&temporary, &next).map_err(fail)?.ok_or_else(|| {
            let detail = "the file system has neither hard links nor rename without replacement";
            Error::new(ErrorKind::Unsuitable, Operation::Open, &shown, detail)
        })?;
        remove_leftovers(&temporary, &next, leftover_age).map_err(fail)?;
        Ok(Self { folder, writing: Some(Writing { temporary, publish, next }) })
    }

    pub(super) fn publish(&self) -> Option<Publish> {
        self.writing.as_ref().map(|writing| writing.publish)
    }

    /// Opens the folder that `name` lies in; the second part is the file's own name.
    fn parent<'n>(&self, name: &'n str, create: bool) -> rustix::io::Result<(Folder, &'n str)> {
        let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
        Ok((self.walk(folders, create)?, file))
    }

    /// Opens the folder `path`, part by part.
    pub(super) fn walk(&self, path: &str, create: bool) -> rustix::io::Result<Folder> {
        let mut folder = self.folder.try_clone().map_err(|_| Errno::MFILE)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            folder = enter(folder.as_fd(), part, create)?;
        }
        Ok(folder)
    }

    pub(super) fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        let fail = |errno| match failure(Operation::Create, name, errno) {
            // A folder that vanishes under us is no reason to call the object missing.
            mut error if error.kind == ErrorKind::NotFound => {
                error.kind = ErrorKind::Unavailable;
                error
            }
            error => error,
        };
        let Some(writing) = &self.writing else {
            return Err(Error::read_only(Operation::Create, name));
        };
        let (folder, file) = self.parent(name, true).map_err(fail)?;
        if exists(&folder, file).map_err(fail)? {
            // Whoever made it may have died before its folder was durable; who
            // takes `Exists` for its own success relies on it.
            fs::fsync(&folder).map_err(fail)?;
            return Ok(Creation::Exists);
        }
        let temporary = write_temporary(writing, bytes).map_err(fail)?;
        let published = match writing.publish {
            Publish::Link => {
                fs::linkat(&writing.temporary, &temporary, &folder, file, AtFlags::empty())
            }
            Publish::Rename => fs::renameat_with(
                &writing.temporary,
                &temporary,
                &folder,
                file,
                RenameFlags::NOREPLACE,
            ),
        };
        if writing.publish == Publish::Link || published.is_err() {
            let _ = fs::unlinkat(&writing.temporary, &temporary, AtFlags::empty());
        }
        let creation = match published {
            Ok(()) => Creation::Created,
            Err(Errno::EXIST) => Creation::Exists,
            Err(errno) => return Err(fail(errno)),
        };
        fs::fsync(&folder).map_err(fail)?;
        Ok(creation)
    }

    pub(super) fn read(&self, name: &str) -> Result<Bytes> {
        let (file, size) = self.open_object(Operation::Read, name)?;
        let length = usize::try_from(size).ok().filter(|length| *length <= MAX_OBJECT_BYTES);
        let Some(length) = length else {
            let detail = format!("{size} bytes are more than any object has");
            return Err(Error::new(ErrorKind::Truncated, Operation::Read, name, detail));
        };
        let mut bytes = Vec::with_capacity(length);
        file.take(size)
            .read_to_end(&mut bytes)
            .map_err(|error| broken(Operation::Read, name, error))?;
        Ok(Bytes::from(bytes))
    }

    pub(super) fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let (file, size) = self.open_object(Operation::Read, name)?;
        let length = range
            .end
            .checked_sub(range.start)
            .filter(|_| range.end <= size)
            .and_then(|length| usize::try_from(length).ok())
            // A file that somebody else has put there may be larger than memory.
            .filter(|length| *length <= MAX_OBJECT_BYTES);
        let Some(length) = length else {
            let detail = format!("bytes {range:?} of {size} are no part of an object");
            return Err(Error::new(ErrorKind::Truncated, Operation::Read, name, detail));
        };
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start)
            .map_err(|error| broken(Operation::Read, name, error))?;
        Ok(Bytes::from(bytes))
    }

    pub(super) fn head(&self, name: &str) -> Result<ObjectInfo> {
        let fail = |errno| failure(Operation::Head, name, errno);
        let (folder, file) = self.parent(name, false).map_err(fail)?;
        let stat = fs::statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        object_info(name.to_owned(), &stat).ok_or_else(|| fail(Errno::LOOP))
    }

    pub(super) fn delete(&self, name: &str) -> Result<()> {
        if self.writing.is_none() {
            return Err(Error::read_only(Operation::Delete, name));
        }
        let fail = |errno| failure(Operation::Delete, name, errno);
        let deleted = self.parent(name, false).and_then(|(folder, file)| {
            fs::unlinkat(&folder, file, AtFlags::empty())?;
            fs::fsync(&folder)
        });
        match deleted {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail(errno)),
        }
    }

    fn open_object(&self, operation: Operation, name: &str) -> Result<(File, u64)> {
        let fail = |errno| failure(operation, name, errno);
        let (folder, file) = self.parent(name, false).map_err(fail)?;
        // NONBLOCK: a pipe that somebody put there must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&folder, file, flags, Mode::empty()).map_err(fail)?;
        let stat = fs::fstat(&file).map_err(fail)?;
        let info = object_info(name.to_owned(), &stat).ok_or_else(|| fail(Errno::LOOP))?;
        Ok((File::from(file), info.size))
    }
}

/// What `stat` says of a file; `None` if it is none.
pub(super) fn object_info(name: String, stat: &fs::Stat) -> Option<ObjectInfo> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Some(ObjectInfo { name, size, modified: UNIX_EPOCH + seconds })
}

/// Opens the folder `part` of `folder`, which must not be a symbolic link.
pub(super) fn enter(
    folder: BorrowedFd<'_>,
    part: &str,
    create: bool,
) -> rustix::io::Result<Folder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(folder, part, flags, Mode::empty()) {
        Err(Errno::NOENT) if create => {}
        // With DIRECTORY and NOFOLLOW, Linux calls a symbolic link "not a directory".
        Err(Errno::NOTDIR) if is_link(folder, part) => return Err(Errno::LOOP),
        opened => return opened,
    }
    match fs::mkdirat(folder, part, FOLDER_MODE) {
        Ok(()) => {
            let made = fs::openat(folder, part, flags, Mode::empty())?;
            let inherited = Mode::from_raw_mode(fs::fstat(&made)?.st_mode) & SET_GROUP;
            fs::fchmod(&made, FOLDER_MODE | inherited)?;
            fs::fsync(folder)?;
            Ok(made)
        }
        Err(Errno::EXIST) => fs::openat(folder, part, flags, Mode::empty()),
        Err(errno) => Err(errno),
    }
}

fn is_link(folder: BorrowedFd<'_>, part: &str) -> bool {
    fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn exists(folder: &Folder, file: &str) -> rustix::io::Result<bool> {
    match fs::statat(folder, file, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Writes a durable file without a name of its own.
fn write_temporary(writing: &Writing, bytes: &Bytes) -> rustix::io::Result<String> {
    let (name, file) = new_temporary(&writing.temporary, &writing.next)?;
    let mut file = File::from(file);
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    if let Err(errno) = written {
        let _ = fs::unlinkat(&writing.temporary, &name, AtFlags::empty());
        return Err(errno);
    }
    Ok(name)
}

fn new_temporary(folder: &Folder, next: &AtomicU64) -> rustix::io::Result<(String, Folder)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        // Unique among the writers of a shared volume, whose process ids may be
        // equal; a name that exists all the same is passed over.
        let nanoseconds =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let number = next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{nanoseconds:x}-{:x}-{number:x}", std::process::id());
        match fs::openat(folder, &name, flags, OBJECT_MODE) {
            Ok(file) => {
                fs::fchmod(&file, OBJECT_MODE)?;
                return Ok((name, file));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Finds out how files are put in place here without replacing others.
fn probe(temporary: &Folder, next: &AtomicU64) -> rustix::io::Result<Option<Publish>> {
    let (first, _) = new_temporary(temporary, next)?;
    let (second, _) = new_temporary(temporary, next)?;
    let target = format!("{first}-probe");
    let remove = |name: &str| {
        let _ = fs::unlinkat(temporary, name, AtFlags::empty());
    };
    let link = |from: &str| fs::linkat(temporary, from, temporary, &target, AtFlags::empty());
    let rename =
        |from: &str| fs::renameat_with(temporary, from, temporary, &target, RenameFlags::NOREPLACE);
    let publish = if link(&first).is_ok() && link(&second) == Err(Errno::EXIST) {
        Some(Publish::Link)
    } else {
        remove(&target);
        (rename(&first).is_ok() && rename(&second) == Err(Errno::EXIST)).then_some(Publish::Rename)
    };
    remove(&first);
    remove(&second);
    remove(&target);
    Ok(publish)
}

/// Removes what crashed writers left. Ages are told by the volume's own clock.
fn remove_leftovers(temporary: &Folder, next: &AtomicU64, age: Duration) -> rustix::io::Result<()> {
    let (reference, file) = new_temporary(temporary, next)?;
    let now = fs::fstat(&file)?.st_mtime;
    let oldest = now.saturating_sub_unsigned(age.as_secs());
    for entry in fs::Dir::read_from(temporary)? {
        let entry = entry?;
        let Ok(stat) = fs::statat(temporary, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mtime < oldest
        {
            // Somebody else may have removed it meanwhile, or own it: no harm.
            let _ = fs::unlinkat(temporary, entry.file_name(), AtFlags::empty());
        }
    }
    let _ = fs::unlinkat(temporary, &reference, AtFlags::empty());
    Ok(())
}

fn broken(operation: Operation, name: &str, error: std::io::Error) -> Error {
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    failure(operation, name, errno).caused_by(error)
}
