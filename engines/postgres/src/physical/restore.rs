//! A base put back as files: the server that is started on them replays its log until they are
//! consistent.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, BackupSource, ProgressSink};
use futures::stream::{self, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::document::{
    BASE_DOCUMENT_VERSION, BASE_STREAM, BaseDocument, FILES, LOG, MANIFEST_STREAM,
};
use crate::archive::decoded_path;
use crate::progress::Meter;
use crate::restore::read_document;
use crate::watch::interrupted;

/// Files that are written at once.
const WRITERS: usize = 4;

/// Where a base is put.
#[derive(Clone, Debug)]
pub struct RestoreFilesOptions {
    /// The data folder: it does not exist, or is empty.
    pub data_dir: PathBuf,
    /// Below it each tablespace gets a folder, named by its OID.
    pub tablespace_dir: Option<PathBuf>,
}

/// A base that was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFiles {
    /// Of which version the server has to be.
    pub server_version: String,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Settings that the server needs and that are in none of the files, since its
    /// configuration was kept elsewhere.
    pub missing_settings: Vec<(String, String)>,
}

/// Puts the files of a base into a folder. They are durable when it returns.
///
/// # Errors
/// `LocalFileError` where the folder is not empty or cannot be written; what the source says. What
/// was written stays, and is no base: the folder has to be emptied before another attempt.
pub async fn restore_files(
    options: &RestoreFilesOptions,
    source: &dyn BackupSource,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoredFiles, Failure> {
    let base = WantedBase::read(source, &Activity::default()).await?;
    let meter = Meter::new(progress, 0, base.bytes());
    base.put(options, source, &meter, cancel).await
}

/// A base that is to be put into a folder.
pub(crate) struct WantedBase {
    pub(crate) document: BaseDocument,
    files: Vec<WantedFile>,
}

impl WantedBase {
    pub(crate) async fn read(
        source: &dyn BackupSource,
        activity: &Activity,
    ) -> Result<Self, Failure> {
        let document = read_base(source, activity).await?;
        let files = wanted(source, &document).await?;
        Ok(Self { document, files })
    }

    /// Bytes of its files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// Writes it. As of [`restore_files`].
    pub(crate) async fn put(
        self,
        options: &RestoreFilesOptions,
        source: &dyn BackupSource,
        meter: &Meter<'_>,
        cancel: &CancellationToken,
    ) -> Result<RestoredFiles, Failure> {
        let Self { document, files } = &self;
        make_folders(options, document)?;
        let writing = stream::iter(files.iter().map(Ok)).try_for_each_concurrent(WRITERS, |file| {
            let place = options.data_dir.join(&file.path);
            write(source, file, place, document, meter)
        });
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(interrupted()),
            written = writing => written?,
        }
        make_durable(options)?;
        let has_own = files.iter().any(|file| file.path == "postgresql.conf");
        let (files, bytes) = (files.len() as u64, self.bytes());
        let settings = self.document.settings.into_iter();
        Ok(RestoredFiles {
            server_version: self.document.server_version,
            files,
            bytes,
            missing_settings: if has_own { Vec::new() } else { settings.collect() },
        })
    }
}

/// What a base says of itself.
pub(crate) async fn read_base(
    source: &dyn BackupSource,
    activity: &Activity,
) -> Result<BaseDocument, Failure> {
    let document: BaseDocument = read_document(source, BASE_STREAM, activity).await?;
    if document.version != BASE_DOCUMENT_VERSION {
        let message = format!("the base has a document of version {}", document.version);
        return Err(Failure::new(Reason::ArchiveUnsupported, message));
    }
    let segment = document.segment_bytes;
    if !segment.is_power_of_two() || !(1 << 20..=1 << 30).contains(&segment) {
        let message = format!("the base says that a file of its log has {segment} bytes");
        return Err(Failure::new(Reason::ArchiveDamaged, message));
    }
    Ok(document)
}

/// A file to write.
struct WantedFile {
    stream: String,
    path: String,
    length: u64,
    /// It has this length in the end, with zeros behind what was kept: a file of the log.
    full_length: Option<u64>,
}

async fn wanted(
    source: &dyn BackupSource,
    document: &BaseDocument,
) -> Result<Vec<WantedFile>, Failure> {
    let mut files = Vec::new();
    for (stream, length) in source.list(FILES).await? {
        let path = decoded_path(&stream[FILES.len()..]).ok_or_else(|| no_path(&stream))?;
        files.push(WantedFile { stream, path, length, full_length: None });
    }
    for (stream, length) in source.list(LOG).await? {
        let name = stream[LOG.len()..].to_owned();
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
            return Err(no_path(&stream));
        }
        let is_segment = !name.ends_with(".history");
        let full_length = is_segment.then_some(document.segment_bytes);
        files.push(WantedFile { stream, path: format!("pg_wal/{name}"), length, full_length });
    }
    for (stream, length) in source.list(MANIFEST_STREAM).await? {
        let path = stream.clone();
        files.push(WantedFile { stream, path, length, full_length: None });
    }
    // Large ones first: they do not come last alone.
    files.sort_by_key(|file| std::cmp::Reverse(file.length));
    Ok(files)
}

fn no_path(stream: &str) -> Failure {
    let message = format!("the stream {stream} is no file of a base");
    Failure::new(Reason::ArchiveUnsupported, message)
}

fn make_folders(options: &RestoreFilesOptions, document: &BaseDocument) -> Result<(), Failure> {
    let root = &options.data_dir;
    if !document.tablespaces.is_empty() && options.tablespace_dir.is_none() {
        let places: Vec<_> = document.tablespaces.values().map(String::as_str).collect();
        let message = format!("the server has tablespaces, in {}", places.join(", "));
        return Err(Failure::new(Reason::UsageError, message)
            .with_hint("Say where they go, by --tablespace-dir: each gets a folder below it."));
    }
    let group = document.file_mode & 0o040 != 0;
    let mode = if group { 0o750 } else { 0o700 };
    let make = |path: &Path| {
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.map_err(|error| local(path, &error))
    };
    make(root)?;
    must_be_empty(root)?;
    set_mode(root, mode)?;
    if let Some(places) = &options.tablespace_dir {
        for oid in document.tablespaces.keys() {
            let place = places.join(oid.to_string());
            make(&place)?;
            must_be_empty(&place)?;
        }
    }
    for folder in document.folders.keys() {
        let path = decoded_path(folder).filter(|path| path == folder);
        let path = path.ok_or_else(|| no_path(folder))?;
        if path.split('/').count() == 2
            && let Some(oid) = path.strip_prefix("pg_tblspc/")
            && oid.parse().is_ok_and(|oid: u32| document.tablespaces.contains_key(&oid))
        {
            continue;
        }
        link_tablespace(options, document, &path)?;
        make(&root.join(path))?;
    }
    Ok(())
}

/// Makes the link of the tablespace that `folder` lies in, before anything is made below it.
fn link_tablespace(
    options: &RestoreFilesOptions,
    document: &BaseDocument,
    folder: &str,
) -> Result<(), Failure> {
    let oid = folder.strip_prefix("pg_tblspc/").and_then(|below| below.split('/').next());
    let Some(oid) = oid.and_then(|oid| oid.parse::<u32>().ok()) else { return Ok(()) };
    let (true, Some(places)) = (document.tablespaces.contains_key(&oid), &options.tablespace_dir)
    else {
        return Ok(());
    };
    let link = options.data_dir.join(format!("pg_tblspc/{oid}"));
    if link.is_symlink() {
        return Ok(());
    }
    let place = std::path::absolute(places.join(oid.to_string()));
    let made = place.and_then(|place| symlink(place, &link));
    made.map_err(|error| local(&link, &error))
}

fn must_be_empty(path: &Path) -> Result<(), Failure> {
    let mut entries = std::fs::read_dir(path).map_err(|error| local(path, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            let message = format!("{} is not empty", path.display());
            Err(Failure::new(Reason::LocalFileError, message).with_hint(
                "Name an empty folder, or one that does not exist yet. Nothing was written.",
            ))
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(|error| local(path, &error))
}

async fn write(
    source: &dyn BackupSource,
    file: &WantedFile,
    place: PathBuf,
    document: &BaseDocument,
    meter: &Meter<'_>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| local(&place, &error);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(document.file_mode & 0o666);
    let opened = tokio::fs::OpenOptions::from(options).open(&place).await;
    let mut written = opened.map_err(failed)?;
    let mut reader = source.open(&file.stream).await?;
    while let Some(bytes) = reader.next().await? {
        written.write_all(&bytes).await.map_err(failed)?;
        meter.moved(bytes.len() as u64);
    }
    written.flush().await.map_err(failed)?;
    if let Some(length) = file.full_length {
        written.set_len(length).await.map_err(failed)?;
    }
    Ok(())
}

/// All of the file systems at once: one `fsync` for each of thousands of files takes far longer.
pub(crate) fn make_durable(options: &RestoreFilesOptions) -> Result<(), Failure> {
    for path in [Some(&options.data_dir), options.tablespace_dir.as_ref()].into_iter().flatten() {
        let opened = match std::fs::File::open(path) {
            // Of a server without tablespaces.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|error| local(path, &error))?,
        };
        rustix::fs::syncfs(&opened).map_err(|error| local(path, &error.into()))?;
    }
    Ok(())
}

/// A file or folder that cannot be read or written.
pub(crate) fn local(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Failure::new(Reason::DiskFull, message).with_hint("Make room on that file system.")
        }
        _ => Failure::new(Reason::LocalFileError, message),
    }
}
