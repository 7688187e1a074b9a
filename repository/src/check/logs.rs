//! Logs: whether each part is there and follows the one before it; where data is read, their
//! bytes, too.

use super::{Check, CheckLevel, unless_unavailable};
use crate::{LogId, LogReader, Result};

impl Check<'_> {
    pub(super) async fn look_at_logs(&mut self) -> Result<()> {
        for log in self.repository.logs().await? {
            match self.repository.read_log(&log).await {
                Ok(reader) => self.read_parts(&log, &reader).await?,
                Err(error) => {
                    self.report.problem(unless_unavailable(error)?);
                }
            }
        }
        Ok(())
    }

    async fn read_parts(&mut self, log: &LogId, reader: &LogReader) -> Result<()> {
        if self.options.level != CheckLevel::Data {
            return Ok(());
        }
        for part in reader.parts() {
            if !self.options.sample.takes(&format!("{}/{}", log.as_str(), part.number)) {
                continue;
            }
            // One that went since it was listed was replaced.
            if let Err(error) = self.repository.log_part(log, part.number).await {
                self.report.problem(unless_unavailable(error)?);
            }
        }
        Ok(())
    }
}
