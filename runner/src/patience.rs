//! How long work waits: for a stop, not at all, unless it is about to be done.

use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use tokio_util::sync::CancellationToken;

/// How long a step that is better not cut may still take after a stop. With the
/// engines' own cleaning up (10 s) it stays below the 30 s that Kubernetes gives a pod.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Does `work`, unless the run is told to stop first.
///
/// # Errors
/// `Interrupted`, or what the work says.
pub(crate) async fn unless_stopped<T, E: Into<Failure>>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(interrupted()),
        done = work => done.map_err(Into::into),
    }
}

/// Does `work`, which has a few seconds more when the run is told to stop; `None`
/// where these were not enough.
pub(crate) async fn with_grace<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Option<T> {
    let over = async {
        cancel.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = over => None,
    }
}

/// Does `work`, which is worth no more than a few seconds.
pub(crate) async fn briefly<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(GRACE, work).await.ok()
}

fn interrupted() -> Failure {
    Failure::new(Reason::Interrupted, "the run was told to stop")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_heard_at_once_or_after_the_grace_and_what_is_done_counts() {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        });
        let never = || std::future::pending::<Result<(), Failure>>();
        let failure = unless_stopped(&cancel, never()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Interrupted);
        assert!(with_grace(&cancel, never()).await.is_none());
        assert!(briefly(never()).await.is_none());
        let soon = async {
            tokio::time::sleep(GRACE / 2).await;
            7
        };
        assert_eq!(with_grace(&cancel, soon).await, Some(7));
    }
}
