//! Noticing that nothing moves any more.
//!
//! Moving data has no time limit; silence has. Whoever moves bytes says so to
//! an [`Activity`]; [`stalled`] returns when it was silent for too long. Work
//! without bytes (statements of our own) says instead when its next step
//! begins. A server that builds an index for an hour is silent too, so a probe
//! is asked before silence is called a stall.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use tokio::time::Instant;

/// Counts what moved, and knows what is being waited for.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Bytes, and steps that began.
    moved: AtomicU64,
    waiting_for: Mutex<String>,
}

impl Activity {
    /// `bytes` have moved.
    pub fn moved(&self, bytes: usize) {
        self.0.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Says what is waited for from now on: the end of the sentence "no byte
    /// moved for 900 s, waiting for …". That a step begins is movement, too: the
    /// one before it has ended.
    pub fn waiting_for(&self, what: impl Into<String>) {
        if let Ok(mut place) = self.0.waiting_for.lock() {
            *place = what.into();
        }
        self.moved(1);
    }

    fn total(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    fn place(&self) -> String {
        self.0.waiting_for.lock().map(|place| place.clone()).unwrap_or_default()
    }
}

/// Returns when no byte has moved for `timeout` and `probe` cannot excuse it.
///
/// `probe` returns whether the silence is work (it is asked again after another
/// `timeout`), or what is known about it, for the message.
///
/// Silence counts from the first look, an eighth of `timeout` after the start:
/// a store that is given the same limit for one object, and that knows better
/// what hangs, speaks first.
pub async fn stalled<P>(activity: &Activity, timeout: Duration, mut probe: P) -> Failure
where
    P: AsyncFnMut() -> Result<(), String>,
{
    let tick = (timeout / 8).max(Duration::from_millis(10));
    tokio::time::sleep(tick).await;
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
    async fn steps_that_follow_each_other_are_no_stall_and_the_last_is_named() {
        let activity = Activity::default();
        let steps = async {
            for n in 0..10 {
                activity.waiting_for(format!("step {n}"));
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let stall = stalled(&activity, Duration::from_secs(60), async || Err(String::new()));
        let failure = tokio::select! {
            () = steps => unreachable!(),
            failure = stall => failure,
        };
        assert_eq!(failure.message, "no byte moved for 60 s, waiting for step 9");
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
