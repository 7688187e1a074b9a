//! The files of a base as the server sends them: each a stream of its own, its pages looked at
//! as they pass.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, BackupSink, Shape, StreamWriter};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::document::FILES;
use crate::archive::encoded_path;
use crate::base::manifest::{self, FileSum, MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::base::page_watch::{PageWatch, Suspect};
use crate::base::tar::{EntryKind, TarEntry, TarError, TarPart, TarReader};
use crate::lsn::Lsn;
use crate::progress::Meter;
use crate::replication::{BaseBackup, BaseBackupPart};

/// Files whose last bytes are on their way into the repository at once: small ones follow each
/// other faster than each is finished.
const FINISHING: usize = 32;
/// Pages that are remembered until the log has said whether they were being written. Where there are
/// more the server's disk is broken.
const MAX_SUSPECTS: usize = 100_000;

/// The files of a base.
pub(super) struct BaseFiles {
    /// Where the log ends that makes them consistent.
    pub(super) end: Lsn,
    /// Folders by their paths, with their modes.
    pub(super) folders: BTreeMap<String, u32>,
    /// Mode of the files.
    pub(super) file_mode: u32,
    /// Where the links of tablespaces led to.
    pub(super) tablespaces: BTreeMap<u32, String>,
    /// What arrived.
    pub(super) sums: HashMap<String, FileSum>,
    /// Pages that are damaged, or were just being written.
    pub(super) suspects: Vec<Suspect>,
    /// The server's list of files.
    pub(super) manifest: Vec<u8>,
    /// Bytes that arrived.
    pub(super) bytes: u64,
}

/// Where the bytes of files go, and who hears of it.
pub(super) struct Receiver<'a> {
    pub(super) sink: &'a dyn BackupSink,
    pub(super) meter: &'a Meter<'a>,
    pub(super) activity: &'a Activity,
    /// Whether pages have checksums.
    pub(super) has_checksums: bool,
    /// Told where the log ends, as soon as that is known.
    pub(super) end: watch::Sender<Option<Lsn>>,
}

impl Receiver<'_> {
    /// Takes all that the server sends.
    ///
    /// # Errors
    /// What the server or the repository says; that what arrived is not what the server's
    /// manifest names.
    pub(super) async fn receive(self, backup: &mut BaseBackup<'_>) -> Result<BaseFiles, Failure> {
        let mut arrival = Arrival::new(&self);
        loop {
            match backup.next().await? {
                BaseBackupPart::Archive(oid) => arrival.begin_archive(oid)?,
                BaseBackupPart::Manifest => arrival.end_archive()?,
                BaseBackupPart::Data(bytes) => arrival.take(bytes).await?,
                BaseBackupPart::Progress(_) => {}
                BaseBackupPart::Warning(text) => tracing::warn!("the server warns: {text}"),
                BaseBackupPart::End(end, _) => {
                    let files = arrival.finish(end).await?;
                    compare(&files)?;
                    // Who receives the log may have given up: that is its own failure.
                    let _ = self.end.send(Some(end));
                    return Ok(files);
                }
            }
        }
    }
}

/// That nothing was lost or changed on the way.
fn compare(files: &BaseFiles) -> Result<(), Failure> {
    let compared = Manifest::read(&files.manifest).and_then(|told| told.compare(&files.sums));
    compared.map_err(|error| {
        let message = match error {
            ManifestError::Differs(text) => format!("not what the server's manifest names: {text}"),
            other => other.to_string(),
        };
        Failure::new(Reason::DataCorrupted, message).with_hint(
            "Run the backup again; where it stays so, look at the server's memory and disks.",
        )
    })
}

struct Arrival<'a> {
    receiver: &'a Receiver<'a>,
    archive: Option<(String, TarReader)>,
    open: Option<OpenFile>,
    /// Tasks of their own: what a file holds until it is finished the next one may wait for.
    finishing: JoinSet<Result<(), Failure>>,
    files: BaseFiles,
}

struct OpenFile {
    path: String,
    writer: Box<dyn StreamWriter>,
    crc: crc_fast::Digest,
    bytes: u64,
    pages: Option<PageWatch>,
}

impl<'a> Arrival<'a> {
    fn new(receiver: &'a Receiver<'a>) -> Self {
        let files = BaseFiles {
            end: Lsn::default(),
            folders: BTreeMap::new(),
            file_mode: 0o600,
            tablespaces: BTreeMap::new(),
            sums: HashMap::new(),
            suspects: Vec::new(),
            manifest: Vec::new(),
            bytes: 0,
        };
        Self { receiver, archive: None, open: None, finishing: JoinSet::new(), files }
    }

    fn begin_archive(&mut self, oid: Option<u32>) -> Result<(), Failure> {
        self.end_archive()?;
        let below = oid.map(|oid| format!("pg_tblspc/{oid}/")).unwrap_or_default();
        self.archive = Some((below, TarReader::default()));
        Ok(())
    }

    fn end_archive(&mut self) -> Result<(), Failure> {
        match self.archive.take() {
            Some((_, archive)) => archive.finish().map_err(unreadable),
            None => Ok(()),
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.receiver.activity.moved(bytes.len());
        let Some((_, archive)) = &mut self.archive else {
            if self.files.manifest.len() + bytes.len() > MAX_MANIFEST_BYTES {
                let message =
                    format!("the server's manifest has more than {MAX_MANIFEST_BYTES} bytes");
                return Err(Failure::new(Reason::LayoutUnsupported, message));
            }
            self.files.manifest.extend_from_slice(&bytes);
            return Ok(());
        };
        self.files.bytes += bytes.len() as u64;
        self.receiver.meter.moved(bytes.len() as u64);
        archive.push(bytes);
        while let Some((below, archive)) = &mut self.archive
            && let Some(part) = archive.next().map_err(unreadable)?
        {
            match part {
                TarPart::Entry(entry) => {
                    let path = format!("{below}{}", entry.path);
                    self.begin(path, entry).await?;
                }
                TarPart::Data(piece) => self.write(piece).await?,
                TarPart::End => self.end().await?,
            }
        }
        Ok(())
    }

    async fn begin(&mut self, path: String, entry: TarEntry) -> Result<(), Failure> {
        match entry.kind {
            EntryKind::Folder => {
                self.files.folders.insert(path, entry.mode);
            }
            EntryKind::Link { to } => {
                let oid = path.strip_prefix("pg_tblspc/").and_then(|oid| oid.parse().ok());
                let oid = oid.ok_or_else(|| odd(format!("{path} is a link")))?;
                self.files.tablespaces.insert(oid, to);
            }
            EntryKind::File { .. } => {
                let pages = PageWatch::of(&path);
                let shape = if pages.is_some() { Shape::Pages } else { Shape::Bytes };
                let name = format!("{FILES}{}", encoded_path(&path));
                let writer = self.receiver.sink.open(&name, shape).await?;
                self.files.file_mode |= entry.mode & 0o777;
                self.open = Some(OpenFile {
                    path,
                    writer,
                    crc: manifest::crc(),
                    bytes: 0,
                    pages: pages.filter(|_| self.receiver.has_checksums),
                });
            }
        }
        Ok(())
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        let Some(file) = &mut self.open else { return Err(odd("contents of no file".into())) };
        file.crc.update(&piece);
        file.bytes += piece.len() as u64;
        if let Some(pages) = &mut file.pages {
            pages.push(&piece, &mut self.files.suspects);
            if self.files.suspects.len() > MAX_SUSPECTS {
                let message = format!("more than {MAX_SUSPECTS} pages have wrong checksums");
                return Err(Failure::new(Reason::DataCorrupted, message));
            }
        }
        file.writer.write(piece).await
    }

    async fn end(&mut self) -> Result<(), Failure> {
        let Some(file) = self.open.take() else { return Err(odd("the end of no file".into())) };
        // A CRC32C has 32 bits.
        let sum = FileSum { bytes: file.bytes, crc: file.crc.finalize() as u32 };
        if self.files.sums.insert(file.path.clone(), sum).is_some() {
            return Err(odd(format!("{} came twice", file.path)));
        }
        self.finishing.spawn(file.writer.finish());
        while self.finishing.len() >= FINISHING {
            self.next_finished().await?;
        }
        Ok(())
    }

    async fn next_finished(&mut self) -> Result<(), Failure> {
        match self.finishing.join_next().await {
            None => Ok(()),
            Some(Ok(finished)) => finished,
            Some(Err(error)) => Err(Failure::new(Reason::Internal, error.to_string())),
        }
    }

    async fn finish(mut self, end: Lsn) -> Result<BaseFiles, Failure> {
        self.end_archive()?;
        while !self.finishing.is_empty() {
            self.next_finished().await?;
        }
        self.files.end = end;
        Ok(self.files)
    }
}

fn unreadable(error: TarError) -> Failure {
    odd(error.to_string())
}

fn odd(what: String) -> Failure {
    Failure::new(Reason::Internal, format!("what the server sends cannot be read: {what}"))
}
