//! Tries again what could not be done, with growing and scattered delays.

use std::time::{Duration, SystemTime};

use crate::Result;
use crate::scatter::Scatter;

/// Longest pause that is granted to a store that asks for one. One that wants
/// more is down, and the Job's own retries outlast that better.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How often and how long it is tried again.
///
/// Exponential back-off with full jitter (Brooker, *Exponential Backoff And
/// Jitter*, AWS Architecture Blog, 2015): the n-th delay is drawn evenly from 0
/// to `first_delay × 2^n`, `longest_delay` at most. A pause that the store asks for
/// ([`crate::Error::retry_after`]) comes before it, so that those who were sent away
/// together do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub tries: u32,
    /// Upper end of the first delay.
    pub first_delay: Duration,
    /// Upper end of any delay.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    /// Seven tries within about half a minute: a restart of a store, not an outage,
    /// which the Job's own retries outlast.
    fn default() -> Self {
        Self {
            tries: 7,
            first_delay: Duration::from_millis(200),
            longest_delay: Duration::from_secs(15),
        }
    }
}

/// Repeats what failed as [`crate::ErrorKind::Unavailable`].
#[derive(Debug)]
pub struct Repeater {
    policy: RetryPolicy,
    random: Scatter,
}

impl Repeater {
    /// Repeats by `policy`; `seed` scatters the delays.
    #[must_use]
    pub fn new(policy: RetryPolicy, seed: u64) -> Self {
        Self { policy, random: Scatter::new(seed) }
    }

    /// Repeats by `policy`; the delays of different processes scatter.
    #[must_use]
    pub fn scattered(policy: RetryPolicy) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = now.as_secs().rotate_left(32) ^ u64::from(now.subsec_nanos());
        Self::new(policy, time ^ u64::from(std::process::id()))
    }

    /// Does `operation` until it succeeds, fails for good, or was tried often
    /// enough. It is told whether it was tried before.
    ///
    /// # Errors
    /// The last one of `operation`.
    pub async fn repeat<T, F, R>(&self, mut operation: F) -> Result<T>
    where
        F: FnMut(bool) -> R + Send,
        R: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let mut failures = 0;
        loop {
            match operation(failures > 0).await {
                Err(error) if error.is_retryable() && failures + 1 < self.policy.tries => {
                    let pause = error.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                    let delay = pause + self.delay(failures);
                    tracing::warn!(%error, ?delay, "trying again");
                    tokio::time::sleep(delay).await;
                    failures += 1;
                }
                done => return done,
            }
        }
    }

    fn delay(&self, failures: u32) -> Duration {
        let ceiling = self
            .policy
            .first_delay
            .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
            .min(self.policy.longest_delay);
        ceiling.mul_f64((self.random.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind, Operation};

    /// How long three tries take, when each failure asks for this pause.
    async fn three_tries(pause: Option<Duration>) -> Duration {
        let repeater = Repeater::new(RetryPolicy { tries: 3, ..RetryPolicy::default() }, 1);
        let started = tokio::time::Instant::now();
        let failed: Result<()> = repeater
            .repeat(|_| async move {
                let kind = ErrorKind::Unavailable;
                Err(Error::new(kind, Operation::Read, "a", "slow down").retry_after(pause))
            })
            .await;
        assert!(failed.is_err());
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_asks_for_a_pause_gets_it_within_reason() {
        let usual = three_tries(None).await;
        assert!(usual < Duration::from_millis(200 + 400), "{usual:?}");
        let asked = three_tries(Some(Duration::from_secs(7))).await;
        assert!(asked >= Duration::from_secs(14) && asked < Duration::from_secs(15), "{asked:?}");
        let patient = three_tries(Some(Duration::from_secs(86_400))).await;
        assert!(patient < Duration::from_secs(241), "{patient:?}");
    }
}
