//! The volume of a recovered server: whose it is, what room it has, and that what was done there
//! is known to the next attempt.
//!
//! Its first file is the mark, with the request's UID. What bears this request's mark is wiped and
//! begun again, or reported once more where it was complete; a volume with anything else on it is
//! left as it is.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dbbackup_contract::{Failure, RECOVERED_DATA_FOLDER, Reason, RecoverReport, listed};
use dbbackup_engine::{create_anew, open_plain};
use indicatif::DecimalBytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The mark.
const MARK: &str = ".dbbackup-recovery";
/// The mark of a complete recovery, until it takes the mark's place.
const NEW_MARK: &str = ".dbbackup-recovery.new";
/// Where tablespaces go, each in a folder named by its OID.
const TABLESPACES: &str = "tablespaces";
/// What an empty volume may hold: what file systems make by themselves.
const NOBODYS: [&str; 2] = ["lost+found", ".snapshot"];
/// Most bytes of a mark: it holds a report, which is bounded.
const MAX_MARK_BYTES: u64 = 1 << 20;
/// Names that a refusal shows, and names that are looked at for that.
const NAMES_SHOWN: usize = 5;
const NAMES_READ: usize = 1000;

/// What the mark says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    request_uid: String,
    /// The report of a recovery that is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complete: Option<Box<RecoverReport>>,
}

/// What is on a volume.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// What an attempt of this request has begun.
    Begun,
    /// What an attempt of this request has completed, and reported so.
    Complete(Box<RecoverReport>),
}

/// A volume that belongs to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume<'a> {
    pub(super) folder: &'a Path,
    pub(super) request_uid: &'a str,
}

/// A volume that bears this request's mark, and that no other process works on.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    volume: Volume<'a>,
    /// Locked for as long as it is open.
    _mark: File,
}

impl<'a> Volume<'a> {
    /// Looks what is there.
    ///
    /// # Errors
    /// `VolumeNotEmpty` for anything that is not this request's, `LocalFileError`.
    pub(super) fn look(self) -> Result<Found, Failure> {
        let names = self.names()?;
        match self.mark()? {
            None if names.is_empty() => Ok(Found::Nothing),
            None => Err(self.not_empty(&names)),
            Some(mark) if mark.request_uid == self.request_uid => {
                Ok(mark.complete.map_or(Found::Begun, Found::Complete))
            }
            Some(mark) => {
                let uid = &mark.request_uid;
                let message = format!("the volume is of another recovery, of the request {uid}");
                Err(Failure::new(Reason::VolumeNotEmpty, message))
            }
        }
    }

    /// Takes it: what an earlier attempt of this request has left is wiped, room is looked for, and
    /// the mark is there when it returns.
    ///
    /// # Errors
    /// As of [`Volume::look`]; `VolumeTooSmall`; `RestoreInProgress` where somebody else works on it.
    pub(super) async fn take(self, needed: Needed) -> Result<Taken<'a>, Failure> {
        let held = match self.look()? {
            Found::Nothing => None,
            Found::Begun | Found::Complete(_) => Some(self.held()?),
        };
        if held.is_some() {
            self.wipe().await?;
        }
        self.has_room(needed)?;
        let mark = match held {
            Some(mark) => mark,
            None => self.make_mark()?,
        };
        Ok(Taken { volume: self, _mark: mark })
    }

    /// What is there beside the mark and what is nobody's.
    fn names(self) -> Result<Vec<String>, Failure> {
        let failed = |error: std::io::Error| unwritable(self.folder, &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.folder).map_err(failed)?.take(NAMES_READ) {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name != MARK && name != NEW_MARK && !NOBODYS.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// `None` where there is none, or one that its writer was killed over: then nothing else was
    /// written yet, and what is there is somebody else's.
    fn mark(self) -> Result<Option<Mark>, Failure> {
        let path = self.folder.join(MARK);
        let failed = |error: std::io::Error| unwritable(&path, &error);
        let found = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= MAX_MARK_BYTES => found,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => return Ok(None),
        };
        if found.len() == 0 {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&std::fs::read(&path).map_err(failed)?).ok())
    }

    fn not_empty(self, names: &[String]) -> Failure {
        let message = format!("the volume holds {}", listed(names, NAMES_SHOWN));
        Failure::new(Reason::VolumeNotEmpty, message)
    }

    fn make_mark(self) -> Result<File, Failure> {
        let path = self.folder.join(MARK);
        // One that was cut short, and is alone.
        if std::fs::symlink_metadata(&path).is_ok() {
            std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))?;
        }
        let mark = Mark { request_uid: self.request_uid.to_owned(), complete: None };
        let bytes = json(&mark)?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let made = opened.and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            File::open(self.folder)?.sync_all()?;
            Ok(file)
        });
        let file = made.map_err(|error| unwritable(&path, &error))?;
        lock(&file)?;
        Ok(file)
    }

    /// The mark that is there, locked: of a node that is thought to be lost, somebody may work on.
    fn held(self) -> Result<File, Failure> {
        let path = self.folder.join(MARK);
        let opened = open_plain(&path, OpenOptions::new().read(true).write(true));
        let file = opened.map_err(|error| unwritable(&path, &error))?;
        lock(&file)?;
        Ok(file)
    }

    /// Removes what a recovery writes, and nothing else: of links the links, never what they lead to.
    async fn wipe(self) -> Result<(), Failure> {
        for name in [RECOVERED_DATA_FOLDER, TABLESPACES] {
            let path = self.folder.join(name);
            let removing = tokio::task::spawn_blocking(move || match remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(&path, &error)),
                _ => Ok(()),
            });
            removing.await.map_err(|error| {
                Failure::new(Reason::Internal, format!("the wiping of a volume died: {error}"))
            })??;
        }
        Ok(())
    }

    fn has_room(self, needed: Needed) -> Result<(), Failure> {
        let found = rustix::fs::statvfs(self.folder)
            .map_err(|error| unwritable(self.folder, &error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        // Some that are on a network do not say.
        if found.f_blocks == 0 || free >= needed.bytes() {
            return Ok(());
        }
        let message =
            format!("the volume has {} free, and {needed} are needed", DecimalBytes(free));
        Err(Failure::new(Reason::VolumeTooSmall, message))
    }
}

impl Taken<'_> {
    /// The data folder.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.volume.folder.join(RECOVERED_DATA_FOLDER)
    }

    /// Where tablespaces go.
    pub(super) fn tablespace_dir(&self) -> PathBuf {
        self.volume.folder.join(TABLESPACES)
    }

    /// The folders of its tablespaces, as the server's links have them.
    ///
    /// # Errors
    /// `LocalFileError`.
    pub(super) fn tablespaces(&self) -> Result<Vec<PathBuf>, Failure> {
        let folder = self.tablespace_dir();
        let failed = |error: std::io::Error| unwritable(&folder, &error);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let places: std::io::Result<Vec<_>> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut places = places.map_err(failed)?;
        places.sort();
        Ok(places)
    }

    /// Writes into the mark that all is done: from then on the same is reported.
    ///
    /// # Errors
    /// `LocalFileError`, `VolumeTooSmall`.
    pub(super) fn complete(self, report: &RecoverReport) -> Result<(), Failure> {
        let Volume { folder, request_uid } = self.volume;
        let mark =
            Mark { request_uid: request_uid.to_owned(), complete: Some(Box::new(report.clone())) };
        let (new, path) = (folder.join(NEW_MARK), folder.join(MARK));
        write_new(&new, &json(&mark)?)?;
        let placed = std::fs::rename(&new, &path).and_then(|()| File::open(folder)?.sync_all());
        placed.map_err(|error| unwritable(&path, &error))
    }
}

/// What a recovery needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed {
    /// Of the base's files.
    pub(super) files: u64,
    /// Of the log's.
    pub(super) log: u64,
}

impl Needed {
    /// What the server itself writes: two files of its new timeline at least, its checkpoints'
    /// notes, and what its own start adds. That tables grow while the log is replayed is not
    /// counted: nobody knows by how much before it happens, and files of the log are let go
    /// meanwhile.
    const RESERVE: u64 = 128 << 20;

    /// In all.
    pub(super) fn bytes(self) -> u64 {
        self.files.saturating_add(self.log).saturating_add(Self::RESERVE)
    }
}

impl std::fmt::Display for Needed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [all, files, log, reserve] =
            [self.bytes(), self.files, self.log, Self::RESERVE].map(DecimalBytes);
        write!(f, "{all} ({files} of files, {log} of log, {reserve} for the server)")
    }
}

/// Writes a file that is durable, in the place of one that is there.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = create_anew(path, 0o600).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| unwritable(path, &error))
}

fn remove(path: &Path) -> std::io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

/// What cannot be done with a file of the volume.
pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::VolumeTooSmall,
        _ => Reason::LocalFileError,
    };
    Failure::new(reason, format!("{}: {error}", path.display()))
}

fn json(mark: &Mark) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(mark)
        .map_err(|error| Failure::new(Reason::Internal, format!("no JSON: {error}")))
}

/// Where a file system knows no locks, the Job's one pod has to do.
fn lock(mark: &File) -> Result<(), Failure> {
    match rustix::fs::flock(mark, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Failure::new(
            Reason::RestoreInProgress,
            "another process of this request works on the volume",
        )
        .with_hint("It is on another node, which may be lost; wait for it to end.")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const NOTHING: Needed = Needed { files: 0, log: 0 };

    fn volume(folder: &Path) -> Volume<'_> {
        Volume { folder, request_uid: "uid-1" }
    }

    async fn refused(folder: &Path) -> String {
        let failure = volume(folder).take(NOTHING).await.unwrap_err();
        assert_eq!(failure.reason, Reason::VolumeNotEmpty);
        failure.message
    }

    #[tokio::test]
    async fn what_is_not_this_requests_is_refused_by_name_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        assert!(matches!(volume(folder.path()).look(), Ok(Found::Nothing)));
        std::fs::create_dir(folder.path().join("pgdata")).unwrap();
        assert_eq!(refused(folder.path()).await, "the volume holds pgdata");
        for n in 0..9 {
            std::fs::write(folder.path().join(format!("file{n}")), "x").unwrap();
        }
        assert!(refused(folder.path()).await.ends_with("file3, file4 and 5 more"));
        assert!(!folder.path().join(MARK).exists());
    }

    #[tokio::test]
    async fn the_mark_of_another_request_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = Volume { folder: folder.path(), request_uid: "uid-2" };
        drop(other.take(NOTHING).await.unwrap());
        assert!(refused(folder.path()).await.contains("uid-2"));
    }

    #[tokio::test]
    async fn a_retry_wipes_what_is_its_own_alone() {
        let folder = tempfile::tempdir().unwrap();
        let taken = volume(folder.path()).take(NOTHING).await.unwrap();
        std::fs::create_dir_all(taken.data_dir().join("base")).unwrap();
        std::fs::create_dir_all(taken.tablespace_dir()).unwrap();
        std::fs::write(folder.path().join("notes"), "mine").unwrap();
        // As long as somebody is at work, nobody else begins.
        let failure = volume(folder.path()).take(NOTHING).await.unwrap_err();
        assert_eq!(failure.reason, Reason::RestoreInProgress);
        assert!(taken.data_dir().exists());
        drop(taken);
        assert!(matches!(volume(folder.path()).look(), Ok(Found::Begun)));
        let again = volume(folder.path()).take(NOTHING).await.unwrap();
        assert!(!again.data_dir().exists() && !again.tablespace_dir().exists());
        assert!(folder.path().join("notes").exists());
    }

    #[tokio::test]
    async fn a_mark_that_was_cut_short_is_taken_where_it_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MARK), "").unwrap();
        drop(volume(folder.path()).take(NOTHING).await.unwrap());
        assert!(matches!(volume(folder.path()).look(), Ok(Found::Begun)));
        std::fs::write(folder.path().join(MARK), "{\"requ").unwrap();
        std::fs::create_dir(folder.path().join("pgdata")).unwrap();
        refused(folder.path()).await;
    }

    #[tokio::test]
    async fn what_was_complete_is_reported_again() {
        let folder = tempfile::tempdir().unwrap();
        let taken = volume(folder.path()).take(NOTHING).await.unwrap();
        let report =
            RecoverReport { restored_bytes: 7, ..RecoverReport::begun(Timestamp::UNIX_EPOCH) };
        taken.complete(&report).unwrap();
        let Ok(Found::Complete(found)) = volume(folder.path()).look() else { panic!() };
        assert_eq!(*found, report);
    }

    #[tokio::test]
    async fn too_little_room_is_said_with_both_numbers_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let needed = Needed { files: 1 << 60, log: 3_000_000 };
        let failure = volume(folder.path()).take(needed).await.unwrap_err();
        assert_eq!(failure.reason, Reason::VolumeTooSmall);
        assert!(failure.message.contains("PB free") || failure.message.contains(" free, and "));
        assert!(failure.message.contains("3.00 MB of log"), "{failure}");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
