//! What every reconciler has at hand.

use std::sync::Arc;

use dbbackup_contract::ReportEndpoint;
use dbbackup_crds::{Backup, BackupRepository, BackupSchedule};
use jiff::SignedDuration;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::{Client, Resource};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::events::Events;
use crate::index::Index;
use crate::job::RunnerPod;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::reconcile::notifications::Places;

/// A kind as it is watched: an object that cannot be read stops no watch.
pub type Guarded<K> = DeserializeGuard<K>;

/// What every Job is built with, besides its object.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The cluster's id.
    pub cluster: String,
    /// The runner's image.
    pub runner: RunnerPod,
    /// Where runners report to.
    pub endpoint: ReportEndpoint,
}

/// What every reconciler has at hand.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Writes events.
    pub events: Events,
    /// Counts what is done.
    pub metrics: Arc<Metrics>,
    /// Delays by object.
    pub backoff: Backoff,
    /// The runner's image.
    pub runner: RunnerPod,
    /// The cluster's id: UID of the namespace `kube-system`.
    pub cluster: String,
    /// A pod that was told to end and is not gone after so long sits on a lost node.
    pub lost_after: SignedDuration,
    /// Where runners report to; it changes when the CA does.
    pub endpoint: watch::Receiver<ReportEndpoint>,
    /// All repositories, as the watch has them.
    pub repositories: Store<Guarded<BackupRepository>>,
    /// All backups, as the watch has them.
    pub backups: Store<Guarded<Backup>>,
    /// The same by the schedule that they name.
    pub backups_of: Index<Guarded<Backup>>,
    /// All schedules, as the watch has them.
    pub schedules: Store<Guarded<BackupSchedule>>,
    /// Which backups may begin.
    pub queue: Arc<Queue>,
    /// How many are told at once.
    pub places: Places,
}

impl Context {
    /// What Jobs are built with now.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        Surroundings {
            cluster: self.cluster.clone(),
            runner: self.runner.clone(),
            endpoint: self.endpoint.borrow().clone(),
        }
    }
}

/// What a reconcile could not do. The variant names the action.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Reading an object or a list.
    #[error("cannot read {0}: {1}")]
    Read(&'static str, #[source] Box<kube::Error>),
    /// Creating a child.
    #[error("cannot create {0}: {1}")]
    Create(String, #[source] Box<kube::Error>),
    /// Deleting or changing a child.
    #[error("cannot change {0}: {1}")]
    Change(String, #[source] Box<kube::Error>),
    /// Writing a status.
    #[error("cannot write the status: {0}")]
    Status(#[source] Box<kube::Error>),
    /// An object without a name, namespace or UID: never seen from an API server.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// A child of this name belongs to another object.
    #[error("the Job {0} exists and belongs to another object")]
    NotOurs(String),
}

impl ReconcileError {
    /// What the API server said, if it was asked.
    #[must_use]
    pub fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Read(_, cause)
            | Self::Create(_, cause)
            | Self::Change(_, cause)
            | Self::Status(cause) => Some(cause),
            Self::Incomplete(_) | Self::NotOurs(_) => None,
        }
    }
}

/// Name, namespace and UID of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl Identity {
    /// Reads them from an object.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn of<K: Resource>(object: &K) -> Result<Self, ReconcileError> {
        let meta = object.meta();
        Ok(Self {
            namespace: meta.namespace.clone().ok_or(ReconcileError::Incomplete("namespace"))?,
            name: meta.name.clone().ok_or(ReconcileError::Incomplete("name"))?,
            uid: meta.uid.clone().ok_or(ReconcileError::Incomplete("UID"))?,
        })
    }
}

/// Seconds without a byte after which a transfer is given up, for the task.
#[must_use]
pub fn stall_seconds(job: &dbbackup_crds::JobSpec) -> u64 {
    // The schema has checked the text.
    job.stall_timeout().map_or(900, |timeout| timeout.as_secs().max(1))
}

/// How long a pod may take to start.
#[must_use]
pub fn start_timeout(job: &dbbackup_crds::JobSpec) -> SignedDuration {
    job.start_timeout()
        .ok()
        .and_then(|timeout| SignedDuration::try_from(timeout).ok())
        .unwrap_or(SignedDuration::from_mins(15))
}

/// Bytes that a repository holds, as far as anybody has looked: what a Job of it needs
/// grows with them.
#[must_use]
pub fn stored_bytes(repository: &dbbackup_crds::BackupRepository) -> u64 {
    let status = repository.status.as_ref();
    status.and_then(|status| status.bytes.as_ref()).map_or(0, |bytes| bytes.stored)
}

/// A repository as statuses name it, with its id as far as that is known.
#[must_use]
pub fn status_ref(
    name: &str,
    repository: Option<&dbbackup_crds::BackupRepository>,
) -> dbbackup_crds::RepositoryStatusRef {
    let status = repository.and_then(|repository| repository.status.as_ref());
    let id = status.and_then(|status| status.id.clone());
    dbbackup_crds::RepositoryStatusRef { name: name.to_owned(), id }
}

/// The claim that a task needs, if the repository is on one.
#[must_use]
pub fn claim_of(spec: &dbbackup_crds::BackupRepositorySpec) -> Option<String> {
    spec.storage.volume.as_ref().map(|volume| volume.claim_name.clone())
}
