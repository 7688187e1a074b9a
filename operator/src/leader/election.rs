//! The loop around the decision.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};

use super::{Decision, Seen, decide};
use crate::cluster::{is_conflict, is_not_found};

/// For how long a leader may be silent.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long gives up: sooner than others may take over.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at the Lease.
const PERIOD: Duration = Duration::from_secs(3);

/// Takes part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    me: String,
    last_seen: Option<(String, Instant)>,
}

/// Why a replica does not lead any more.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// Another replica holds the Lease.
    #[error("another replica leads")]
    Lost,
    /// The Lease could not be renewed in time.
    #[error("the Lease could not be renewed for {DEADLINE:?}: {0}")]
    Silent(#[source] Box<kube::Error>),
}

impl Election {
    /// A candidate named `me` for the Lease `name`.
    #[must_use]
    pub fn new(api: Api<Lease>, name: String, me: String) -> Self {
        Self { api, name, me, last_seen: None }
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self) {
        loop {
            match tokio::time::timeout(DEADLINE, self.step()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "cannot read or write the Lease"),
                Err(_) => tracing::warn!("the API server does not answer about the Lease"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews for as long as it can.
    pub async fn keep(&mut self) -> ElectionError {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(PERIOD).await;
            // A call that hangs must not outlast the deadline either.
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left.max(Duration::from_millis(100)), self.step()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return ElectionError::Lost,
                Ok(Err(error)) if renewed.elapsed() >= DEADLINE => {
                    return ElectionError::Silent(Box::new(error));
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the Lease"),
                Err(_) => {
                    let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    return ElectionError::Silent(Box::new(kube::Error::Service(timeout.into())));
                }
            }
        }
    }

    /// Gives the Lease back, so that another replica need not wait.
    pub async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.me) {
            return;
        }
        spec.holder_identity = Some(String::new());
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "the Lease was not given back");
        }
    }

    /// One look and one write. Whether this replica leads now.
    async fn step(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let unchanged_for = self.unchanged_for(version.unwrap_or_default());
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(15);
        let seen = Seen {
            holder: lease
                .as_ref()
                .map(|_| spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("")),
            unchanged_for,
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(15)),
        };
        let written = match decide(&seen, &self.me) {
            Decision::Wait => return Ok(false),
            Decision::Create => {
                self.api.create(&PostParams::default(), &self.lease(None, true)).await
            }
            Decision::Take => {
                let lease = self.lease(lease, true);
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
            Decision::Renew => {
                let lease = self.lease(lease, false);
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Another replica was quicker; the next look shows who.
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unchanged_for(&mut self, version: String) -> Duration {
        match &self.last_seen {
            Some((known, since)) if *known == version => since.elapsed(),
            _ => {
                self.last_seen = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn lease(&self, previous: Option<Lease>, is_new_term: bool) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = previous.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if is_new_term {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}
