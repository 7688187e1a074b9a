//! The policy as it is applied, from what people write.

use std::time::Duration;

use dbbackup_contract::{DurationError, DurationText, RetentionSpec};

/// Why a policy cannot be carried out. The message names the field and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A rule that would keep nothing.
    #[error("retention.{0} is 0: write 1 or more, or leave it out")]
    Zero(&'static str),
    /// Not a duration.
    #[error("retention.keepWithin: {0}")]
    Duration(#[from] DurationError),
}

/// A policy that is understood. The default keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    // 0: there is no such rule.
    pub(crate) last: u32,
    pub(crate) hourly: u32,
    pub(crate) daily: u32,
    pub(crate) weekly: u32,
    pub(crate) monthly: u32,
    pub(crate) yearly: u32,
    pub(crate) within: Option<Duration>,
    pub(crate) minimum: u32,
}

impl RetentionPolicy {
    /// The policy that people wrote.
    ///
    /// # Errors
    /// A number or a duration of zero, or a text that is no duration.
    pub fn of(spec: &RetentionSpec) -> Result<Self, PolicyError> {
        let within = spec.keep_within.as_ref().map(DurationText::parse).transpose()?;
        if within.is_some_and(|within| within.is_zero()) {
            return Err(PolicyError::Zero("keepWithin"));
        }
        Ok(Self {
            last: count("keepLast", spec.keep_last)?,
            hourly: count("keepHourly", spec.keep_hourly)?,
            daily: count("keepDaily", spec.keep_daily)?,
            weekly: count("keepWeekly", spec.keep_weekly)?,
            monthly: count("keepMonthly", spec.keep_monthly)?,
            yearly: count("keepYearly", spec.keep_yearly)?,
            within,
            minimum: count("minimum", spec.minimum)?,
        })
    }

    /// Whether nothing is ever dropped: there is no `keep…` rule. `minimum` alone is a
    /// floor under rules that are not there.
    #[must_use]
    pub fn keeps_everything(&self) -> bool {
        *self == Self { minimum: self.minimum, ..Self::default() }
    }
}

fn count(field: &'static str, number: Option<u32>) -> Result<u32, PolicyError> {
    match number {
        Some(0) => Err(PolicyError::Zero(field)),
        number => Ok(number.unwrap_or(0)),
    }
}
