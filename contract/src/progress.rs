//! What a run says while it works.

use serde::{Deserialize, Serialize};

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ProgressPhase {
    /// Opening the repository and connecting to the server.
    #[default]
    Preparing,
    /// Reading from the server or from the repository, and writing to the other.
    Transferring,
    /// The recovered server replays its log.
    Recovering,
    /// Making sure that what was written is whole.
    Verifying,
    /// Committing the snapshot, or putting the restored databases in place.
    Finishing,
}

/// How far a run has come. Totals are estimates until the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// What the run is doing.
    pub phase: ProgressPhase,
    /// The database or stream that is being worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub current: Option<String>,
    /// The position in its log that a server has replayed up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub position: Option<String>,
    /// Bytes moved so far, as the server gives or takes them.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub bytes_done: u64,
    /// Bytes expected in all; absent while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Bytes a second, over the last half minute.
    pub bytes_per_second: u64,
    /// Share that is done, 0 to 100; absent while the total is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 100)))]
    pub percent: Option<u8>,
    /// Seconds that are left at this speed; absent while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
    /// Databases that are done.
    pub databases_done: u32,
    /// Databases in all.
    pub databases_total: u32,
}

impl Progress {
    /// Fills in share and remaining time from bytes, total and speed.
    ///
    /// An estimate that was exceeded shows 99 % until the run says that it has ended.
    #[must_use]
    pub fn estimated(mut self) -> Self {
        let Some(total) = self.bytes_total.filter(|total| *total > 0) else {
            self.percent = None;
            self.remaining_seconds = None;
            return self;
        };
        let share = u128::from(self.bytes_done) * 100 / u128::from(total);
        self.percent = Some(u8::try_from(share).unwrap_or(99).min(99));
        let left = total.saturating_sub(self.bytes_done);
        self.remaining_seconds =
            (self.bytes_per_second > 0).then(|| left.div_ceil(self.bytes_per_second));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_needs_a_total_and_a_speed() {
        let unknown = Progress { bytes_done: 5, ..Progress::default() }.estimated();
        assert_eq!((unknown.percent, unknown.remaining_seconds), (None, None));
        let half = Progress {
            bytes_done: 50,
            bytes_total: Some(100),
            bytes_per_second: 20,
            ..Progress::default()
        }
        .estimated();
        assert_eq!((half.percent, half.remaining_seconds), (Some(50), Some(3)));
    }

    #[test]
    fn an_exceeded_estimate_does_not_read_as_done() {
        let over = Progress { bytes_done: 300, bytes_total: Some(100), ..Progress::default() };
        assert_eq!(over.estimated().percent, Some(99));
    }
}
