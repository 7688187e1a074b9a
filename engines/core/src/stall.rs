//! Noticing that nothing moves any more.
//!
//! Moving data has no time limit; silence has. Whoever moves bytes says so to
//! an [`Activity`]; [`stalled`] returns when it was silent for too long. A
//! server that builds an index for an hour is silent too, so a probe is asked
//! before silence is called a stall.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use tokio::time::Instant;

/// Counts the bytes that moved, and knows what is being waited for.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    moved: AtomicU64,
    waiting_for: Mutex<String>,
}

impl Activity {
    /// `bytes` have moved.
    pub fn moved(&self, bytes: usize) {
        self.0.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that have moved so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    /// Says what the next bytes are waited for: the end of the sentence "no byte
    /// moved for 900 s, waiting for …".
    pub fn waiting_for(&self, what: impl Into<String>) {
        if let Ok(mut place) = self.0.waiting_for.lock() {
            *place = what.into();
        }
    }

    fn place(&self) -> String {
        self.0.waiting_for.lock().map(|place| place.clone()).unwrap_or_default()
    }
}

/// Returns when no byte has moved for `timeout` and `probe` cannot excuse it.
///
/// `probe` returns whether the silence is work (it is asked again after another
/// `timeout`), or what is known about it, for the message.
pub async fn stalled<P>(activity: &Activity, timeout: Duration, mut probe: P) -> Failure
where
    P: AsyncFnMut() -> Result<(), String>,
{
    let tick = (timeout / 8).max(Duration::from_millis(10));
    let (mut seen, mut since) = (activity.total(), Instant::now());
    loop {
        tokio::time::sleep(tick).await;
        let now = activity.total();
        if now != seen {
            (seen, since) = (now, Instant::now());
            continue;
        }
        if since.elapsed() < timeout {
            continue;
        }
        match probe().await {
            Ok(()) => since = Instant::now(),
            Err(known) => {
                let mut message = format!(
                    "no byte moved for {} s, waiting for {}",
                    timeout.as_secs().max(1),
                    activity.place()
                );
                if !known.is_empty() {
                    message.push_str("; ");
                    message.push_str(&known);
                }
                return Failure::new(Reason::Stalled, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_stall_and_says_where() {
        let activity = Activity::default();
        activity.waiting_for("pg_dump of shop");
        let mut asked = 0;
        let started = Instant::now();
        let failure = stalled(&activity, Duration::from_secs(60), async || {
            asked += 1;
            if asked < 3 { Ok(()) } else { Err("the session waits for a lock".to_owned()) }
        })
        .await;
        assert_eq!(failure.reason, Reason::Stalled);
        assert_eq!(
            failure.message,
            "no byte moved for 60 s, waiting for pg_dump of shop; the session waits for a lock"
        );
        assert!(started.elapsed() >= Duration::from_secs(180));
    }

    #[tokio::test(start_paused = true)]
    async fn moving_bytes_are_never_a_stall() {
        let activity = Activity::default();
        let mover = {
            let activity = activity.clone();
            async move {
                for _ in 0..100 {
                    tokio::time::sleep(Duration::from_secs(50)).await;
                    activity.moved(1);
                }
            }
        };
        tokio::select! {
            () = mover => {}
            failure = stalled(&activity, Duration::from_secs(60), async || Err(String::new())) => {
                panic!("{failure}");
            }
        }
    }
}
