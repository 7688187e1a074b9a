//! Delays that grow by object, and are forgotten on success.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// Delays by object.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// One more failure of `object`: how long to wait.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_default();
        *count = count.saturating_add(1);
        // An API server that was away is asked again within a minute.
        delay(*count, Duration::from_secs(1), Duration::from_secs(60))
    }

    /// `object` went well, or is gone.
    pub fn succeeded(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

/// The delay after `failures` of them: `first`, doubled each time, up to `most`.
#[must_use]
pub fn delay(failures: u32, first: Duration, most: Duration) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor.max(1)).min(most)
}

/// When it is tried again that failed so often by now, with pauses as in [`delay`].
#[must_use]
pub fn next_attempt(
    failures: u32,
    first: Duration,
    most: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    now.checked_add(delay(failures, first, most)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_doubles_up_to_its_limit_and_starts_anew_after_a_success() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (0..10).map(|_| backoff.failed("a").as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(backoff.failed("b").as_secs(), 1);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a").as_secs(), 1);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        assert_eq!(delay(u32::MAX, Duration::from_secs(1), Duration::from_secs(9)).as_secs(), 9);
        assert_eq!(delay(0, Duration::from_secs(1), Duration::from_secs(9)).as_secs(), 1);
    }
}
