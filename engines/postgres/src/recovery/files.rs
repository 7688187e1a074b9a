//! A base, and the log up to a point, in a folder: a server that is started on it recovers to
//! that point by itself.

use std::fmt::Write as _;
use std::path::Path;

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, BackupSource, ProgressSink};
use tokio_util::sync::CancellationToken;

use super::index::LogIndex;
use super::segment::LogFiles;
use super::target::{Search, StopBehind, Target};
use super::{RecoveryAction, RecoveryRequest, RecoveryTarget, TimelineChoice};
use crate::archiver::LogParts;
use crate::archiver::part::ArchivedPart;
use crate::lsn::Lsn;
use crate::physical::{BaseDocument, local, read_base, segment_name};
use crate::wal::Lineage;
use crate::{RestoreFilesOptions, RestoredFiles, restore_files};

/// Puts a base and its log into a folder. The target is looked for before anything is written.
///
/// `parts` are the archive's, each with its number and what it says of itself.
///
/// # Errors
/// `TargetUnreachable` with the window that can be reached; as of [`restore_files`].
pub async fn recover_files(
    options: &RestoreFilesOptions,
    request: &RecoveryRequest,
    source: &dyn BackupSource,
    archive: &dyn LogParts,
    parts: Vec<(u32, serde_json::Value)>,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoredFiles, Failure> {
    let base = read_base(source, &Activity::default()).await?;
    let index = LogIndex::of(read(parts)?);
    let timeline = match request.timeline {
        TimelineChoice::Latest => index.newest_from(base.timeline),
        TimelineChoice::Current => base.timeline,
        TimelineChoice::Number(number) => number,
    };
    let stretches = index.lineage(base.timeline, timeline).ok_or_else(|| {
        let message = format!(
            "the archive knows no timeline {timeline} that comes from the base's, {}",
            base.timeline
        );
        Failure::new(Reason::TargetUnreachable, message)
    })?;
    let (start, end) = (position(&base.start)?, position(&base.end)?);
    let system_identifier = base.system_identifier.parse().unwrap_or(0);
    let lineage = Lineage { system_identifier, segment_bytes: base.segment_bytes };
    let stop = match target(&request.target)? {
        None => None,
        Some(target) => {
            let search = Search {
                archive,
                index: &index,
                stretches: &stretches,
                base_start: start,
                base_end: end,
                base_time: base.consistent_time,
                lineage,
            };
            Some(search.find(&target).await?)
        }
    };
    let restored = restore_files(options, source, progress, cancel).await?;
    if let Some(stop) = &stop {
        let files = LogFiles {
            archive,
            index: &index,
            stretches: &stretches,
            start,
            segment_bytes: base.segment_bytes,
        };
        write_log(&files, stop, &options.data_dir, &base).await?;
        write_histories(archive, &index, &options.data_dir, &base).await?;
    }
    // The server's own word for that asks for a record behind it.
    let last =
        stop.as_ref().map_or_else(|| base.last_record.clone(), |stop| stop.record.to_string());
    let settings = settings(&last, timeline, request.action);
    write_settings(&options.data_dir, &settings, &base)?;
    Ok(restored)
}

fn read(parts: Vec<(u32, serde_json::Value)>) -> Result<Vec<(u32, ArchivedPart)>, Failure> {
    let read = |(number, about)| match serde_json::from_value(about) {
        Ok(part) => Ok((number, part)),
        Err(error) => {
            let message = format!("part {number} of the log: {error}");
            Err(Failure::new(Reason::RepositoryDamaged, message))
        }
    };
    parts.into_iter().map(read).collect()
}

fn position(text: &str) -> Result<Lsn, Failure> {
    text.parse().map_err(|error| Failure::new(Reason::ArchiveDamaged, format!("the base: {error}")))
}

/// `None` of the moment at which the base is consistent, for which no archive is needed.
fn target(target: &RecoveryTarget) -> Result<Option<Target>, Failure> {
    Ok(Some(match target {
        RecoveryTarget::Immediate => return Ok(None),
        RecoveryTarget::Latest => Target::Latest,
        RecoveryTarget::Name(name) => Target::Name(name.clone()),
        RecoveryTarget::Time { time, inclusive } => {
            Target::Time { time: *time, inclusive: *inclusive }
        }
        RecoveryTarget::Transaction { xid, inclusive } => {
            Target::Transaction { xid: *xid, inclusive: *inclusive }
        }
        RecoveryTarget::Position { lsn, inclusive } => {
            let lsn = lsn.parse().map_err(|error: crate::lsn::LsnError| {
                Failure::new(Reason::UsageError, error.to_string())
            })?;
            Target::Position { lsn, inclusive: *inclusive }
        }
    }))
}

/// The files of the log, from the base's start to the last record that is wanted.
async fn write_log(
    files: &LogFiles<'_>,
    stop: &StopBehind,
    data_dir: &Path,
    base: &BaseDocument,
) -> Result<(), Failure> {
    let folder = data_dir.join("pg_wal");
    let (first, last) = (files.start.0 / files.segment_bytes, stop.end.0 / files.segment_bytes);
    for stretch in files.stretches {
        let begins = (stretch.start.0 / files.segment_bytes).max(first);
        for number in begins..=last {
            let Some(bytes) = files.segment(stretch.timeline, number).await? else { break };
            let at = Lsn(number * files.segment_bytes);
            let name = segment_name(stretch.timeline, at, files.segment_bytes);
            write(&folder.join(name), &bytes, base)?;
        }
    }
    Ok(())
}

/// All that the archive knows: a server that finds a number free takes it for its own timeline.
async fn write_histories(
    archive: &dyn LogParts,
    index: &LogIndex,
    data_dir: &Path,
    base: &BaseDocument,
) -> Result<(), Failure> {
    for (timeline, number) in index.histories() {
        let found = archive.part(number).await?;
        let Some((_, text)) = found else {
            let message = format!("the history of timeline {timeline} is gone");
            return Err(Failure::new(Reason::ObjectMissing, message));
        };
        write(&data_dir.join(format!("pg_wal/{timeline:08X}.history")), &text, base)?;
    }
    Ok(())
}

fn settings(last_record: &str, timeline: u32, action: RecoveryAction) -> String {
    let mut text = String::from("\n# Written by dbbackup: recovery to a point in time.\n");
    // All that is needed lies in pg_wal; nothing else is to be asked.
    text.push_str("restore_command = 'false'\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "recovery_target_lsn = '{last_record}'");
    text.push_str("recovery_target_inclusive = on\n");
    let _ = writeln!(text, "recovery_target_timeline = '{timeline}'");
    let action = match action {
        RecoveryAction::Promote => "promote",
        RecoveryAction::Pause => "pause",
        RecoveryAction::Shutdown => "shutdown",
    };
    let _ = writeln!(text, "recovery_target_action = '{action}'");
    text
}

/// Behind what `ALTER SYSTEM` has written: overwriting that would lose settings without which the
/// server does not begin.
fn write_settings(data_dir: &Path, settings: &str, base: &BaseDocument) -> Result<(), Failure> {
    let path = data_dir.join("postgresql.auto.conf");
    let own = match std::fs::read_to_string(&path) {
        Ok(own) => own,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(local(&path, &error)),
    };
    write(&path, (own + settings).as_bytes(), base)?;
    write(&data_dir.join("recovery.signal"), b"", base)
}

fn write(path: &Path, bytes: &[u8], base: &BaseDocument) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(base.file_mode & 0o666);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| local(path, &error))
}
