//! A base, and the log up to a point, in a folder: a server that is started on it recovers to
//! that point by itself.

use std::path::Path;

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, BackupSource, ProgressSink, create_anew};
use tokio_util::sync::CancellationToken;

use super::RecoveryRequest;
use super::archived_log::ArchivedLog;
use super::plan::{RecoveryPlan, plan_recovery};
use super::segment::LogFiles;
use super::settings::RecoverySettings;
use crate::archiver::LogParts;
use crate::lsn::Lsn;
use crate::physical::{WantedBase, local, make_durable, segment_name};
use crate::progress::Meter;
use crate::watch::interrupted;
use crate::{RestoreFilesOptions, RestoredFiles};

/// Puts a base and its log into a folder: [`plan_recovery`], and [`RecoveryPlan::carry_out`].
///
/// # Errors
/// Of both.
pub async fn recover_files(
    options: &RestoreFilesOptions,
    request: &RecoveryRequest,
    source: &dyn BackupSource,
    archive: &dyn LogParts,
    log: &ArchivedLog,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoredFiles, Failure> {
    let plan = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(interrupted()),
        plan = plan_recovery(request, source, archive, log) => plan?,
    };
    plan.carry_out(options, source, archive, progress, cancel).await
}

impl RecoveryPlan {
    /// Puts the base and the log into a folder, durably, with what tells a server to recover to the
    /// point. `source` and `archive` are those with which it was planned.
    ///
    /// # Errors
    /// As of [`crate::restore_files`]; what the archive says.
    pub async fn carry_out(
        &self,
        options: &RestoreFilesOptions,
        source: &dyn BackupSource,
        archive: &dyn LogParts,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<RestoredFiles, Failure> {
        let base = WantedBase::read(source, &Activity::default()).await?;
        if base.document != self.base {
            let message = "the base is another one than that with which the recovery was planned";
            return Err(Failure::new(Reason::Internal, message));
        }
        let meter = Meter::new(progress, 0, base.bytes() + self.log_bytes());
        let mut restored = base.put(options, source, &meter, cancel).await?;
        let log = async {
            self.write_log(archive, &options.data_dir, &meter).await?;
            self.write_histories(archive, &options.data_dir).await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(interrupted()),
            written = log => written?,
        }
        // Before the server is told of them.
        make_durable(options)?;
        let last_record = self.record();
        let (timeline, action) = (self.timeline, self.action);
        RecoverySettings { last_record: &last_record, timeline, action }
            .write(&options.data_dir, self.file_mode())?;
        make_durable(options)?;
        restored.files += self.segments.len() as u64;
        restored.bytes += self.log_bytes();
        Ok(restored)
    }

    /// The files of the log, from the base's start to the last record that is wanted.
    async fn write_log(
        &self,
        archive: &dyn LogParts,
        data_dir: &Path,
        meter: &Meter<'_>,
    ) -> Result<(), Failure> {
        let segment_bytes = self.base.segment_bytes;
        let files = LogFiles {
            archive,
            index: &self.index,
            stretches: &self.stretches,
            start: self.start,
            segment_bytes,
        };
        for (timeline, number) in &self.segments {
            let at = Lsn(number * segment_bytes);
            let bytes = files.segment(*timeline, *number).await?;
            let name = segment_name(*timeline, at, segment_bytes);
            self.write(&data_dir.join("pg_wal").join(name), &bytes)?;
            meter.moved(segment_bytes);
        }
        Ok(())
    }

    /// All that the archive knows: a server that finds a number free takes it for its own timeline.
    async fn write_histories(
        &self,
        archive: &dyn LogParts,
        data_dir: &Path,
    ) -> Result<(), Failure> {
        for (timeline, number) in self.index.histories() {
            let found = archive.part(number).await?;
            let Some((_, text)) = found else {
                let message = format!("the history of timeline {timeline} is gone");
                return Err(Failure::new(Reason::ObjectMissing, message));
            };
            self.write(&data_dir.join(format!("pg_wal/{timeline:08X}.history")), &text)?;
        }
        Ok(())
    }

    fn file_mode(&self) -> u32 {
        self.base.file_mode & 0o666
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        use std::io::Write as _;
        let made = create_anew(path, self.file_mode());
        let written = made.and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| local(path, &error))
    }
}
