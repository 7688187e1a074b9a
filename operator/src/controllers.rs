//! The controllers, and how they run.

mod triggers;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbbackup_contract::ReportEndpoint;
use dbbackup_crds::{Backup, BackupRepository, BackupSchedule, PitrRestore, RestoreRequest};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::triggers::{controller, of_schedules, with_copies, with_repositories, with_turns};
use crate::backoff::Backoff;
use crate::cluster::{is_conflict, is_going, is_not_found};
use crate::context::{Context, Guarded, ReconcileError};
use crate::events::Events;
use crate::job::RunnerPod;
use crate::labels;
use crate::metrics::{Metrics, Stores};
use crate::queue::Queue;
use crate::reconcile;
use crate::reconcile::notifications::Places;
use crate::watch::Watch;

/// What the controllers are made from.
#[derive(Clone)]
pub struct Settings {
    /// The API server.
    pub client: Client,
    /// Counts what is done.
    pub metrics: Arc<Metrics>,
    /// The runner's image.
    pub runner: RunnerPod,
    /// The cluster's id.
    pub cluster: String,
    /// A pod that was told to end and is not gone after so long sits on a lost node.
    pub lost_after: SignedDuration,
    /// Where runners report to.
    pub endpoint: watch::Receiver<ReportEndpoint>,
    /// Name of this replica.
    pub instance: String,
    /// Which backups may begin, in all namespaces.
    pub queue: Arc<Queue>,
}

/// Runs all controllers for one namespace, or for all, until `stop`.
pub async fn run(settings: Settings, namespace: Option<String>, stop: CancellationToken) {
    let scope = Scope { client: settings.client.clone(), namespace };
    let mut repositories = Watch::<Guarded<BackupRepository>>::default();
    let mut schedules = Watch::<Guarded<BackupSchedule>>::default();
    let mut backups = Watch::<Guarded<Backup>>::default();
    let mut requests = Watch::<Guarded<RestoreRequest>>::default();
    let mut recoveries = Watch::<Guarded<PitrRestore>>::default();
    let stores = Stores {
        repositories: repositories.store(),
        schedules: schedules.store(),
        backups: backups.store(),
    };
    let backups_of = backups.index(|backup: &Guarded<Backup>| {
        let schedule = backup.0.as_ref().ok()?.spec.schedule_ref.as_ref()?;
        Some(&schedule.name)
    });
    settings.metrics.watch(stores.clone());
    settings.queue.follow(scope.namespace.as_deref(), &mut repositories, &mut backups);
    let reporter = Reporter {
        controller: "dbbackup-operator".to_owned(),
        instance: Some(settings.instance.clone()),
    };
    let context = Arc::new(Context {
        events: Events::new(Recorder::new(settings.client.clone(), reporter)),
        client: settings.client,
        metrics: settings.metrics,
        backoff: Backoff::default(),
        runner: settings.runner,
        cluster: settings.cluster,
        lost_after: settings.lost_after,
        endpoint: settings.endpoint,
        repositories: stores.repositories.clone(),
        backups: stores.backups.clone(),
        backups_of: backups_of.clone(),
        schedules: stores.schedules.clone(),
        queue: Arc::clone(&settings.queue),
        places: Places::default(),
    });

    let of_repositories = scope.with_children(controller(&mut repositories));
    let of_schedules = of_schedules(&mut schedules, &mut repositories, &mut backups);
    let of_schedules = scope.with_children(of_schedules);
    let of_backups = scope.with_children(controller(&mut backups));
    let of_backups = with_repositories(of_backups, &backups, &mut repositories);
    let of_backups = with_copies(of_backups, &mut backups, &mut schedules, backups_of);
    let of_backups = with_turns(of_backups, &mut backups, settings.queue);
    let of_requests = scope.with_children(controller(&mut requests));
    let of_recoveries = scope.with_children(controller(&mut recoveries));
    let watched = async {
        tokio::join!(
            repositories.run(scope.api(), stop.clone()),
            schedules.run(scope.api(), stop.clone()),
            backups.run(scope.api(), stop.clone()),
            requests.run(scope.api(), stop.clone()),
            recoveries.run(scope.api(), stop.clone()),
        )
    };

    // Slots are judged by what is known of the backups, and turns by what runs: nothing may be
    // judged before.
    let known = Arc::clone(&context.queue);
    let judged = async {
        let known = async {
            let _ = context.backups.wait_until_ready().await;
            known.wait_until_known().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = known => {
                tokio::join!(
                    drive(of_schedules, &context, &stop, "BackupSchedule", reconcile_schedule),
                    drive(of_backups, &context, &stop, "Backup", reconcile_backup),
                );
            }
        }
    };
    tokio::join!(
        watched,
        drive(of_repositories, &context, &stop, "BackupRepository", reconcile_repository),
        judged,
        drive(of_requests, &context, &stop, "RestoreRequest", reconcile_request),
        drive(of_recoveries, &context, &stop, "PitrRestore", reconcile_recovery),
    );
}

/// The time in milliseconds: finer ones only make statuses hard to read.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

async fn reconcile_repository(
    object: Arc<BackupRepository>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    reconcile::repository::reconcile(&object, &context, now()).await
}

async fn reconcile_schedule(
    object: Arc<BackupSchedule>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    reconcile::schedule::reconcile(&object, &context, now()).await
}

async fn reconcile_backup(
    object: Arc<Backup>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    reconcile::backup::reconcile(&object, &context, now()).await
}

async fn reconcile_request(
    object: Arc<RestoreRequest>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    reconcile::restore::reconcile(&object, &context, now()).await
}

async fn reconcile_recovery(
    object: Arc<PitrRestore>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    reconcile::pitr::reconcile(&object, &context, now()).await
}

/// A kind that is watched.
trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Watched for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// What the operator looks after.
struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Jobs by their owner, pods by the name that their Job gave them.
    fn with_children<K: Watched>(
        &self,
        controller: Controller<Guarded<K>>,
    ) -> Controller<Guarded<K>> {
        let selector =
            format!("{}={},{}={}", labels::MANAGED_BY, labels::MANAGER, labels::KIND, K::kind(&()));
        let ours = watcher::Config::default().labels(&selector);
        controller.owns(self.api::<Job>(), ours.clone()).watches(self.api::<Pod>(), ours, |pod| {
            let subject = pod.annotations().get(labels::SUBJECT).cloned();
            let namespace = pod.namespace();
            subject.zip(namespace).map(|(name, namespace)| ObjectRef::new(&name).within(&namespace))
        })
    }
}

/// Runs one controller until `stop`, and then lets what has begun end.
async fn drive<K, F>(
    controller: Controller<Guarded<K>>,
    context: &Arc<Context>,
    stop: &CancellationToken,
    kind: &'static str,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
) where
    K: Watched,
    F: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let stopped = stop.clone();
    controller
        .graceful_shutdown_on(async move { stopped.cancelled().await })
        .run(
            move |object: Arc<Guarded<K>>, context| {
                let reconcile = reconcile.clone();
                async move {
                    match &object.0 {
                        Ok(object) => {
                            measured(kind, Arc::new(object.clone()), context, reconcile).await
                        }
                        Err(invalid) => {
                            // Written by a newer release, or by hand before the CRD said so.
                            tracing::warn!(
                                kind,
                                name = invalid.metadata.name,
                                error = invalid.error,
                                "an object cannot be read"
                            );
                            Ok(Action::await_change())
                        }
                    }
                }
            },
            move |object, error, context| failed(kind, &object, error, &context),
            Arc::clone(context),
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                match error {
                    kube::runtime::controller::Error::ObjectNotFound(_)
                    | kube::runtime::controller::Error::ReconcilerFailed(..) => {}
                    error => tracing::warn!(kind, %error, "a watch has trouble"),
                }
            }
        })
        .await;
}

async fn measured<K, F>(
    kind: &'static str,
    object: Arc<K>,
    context: Arc<Context>,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F,
) -> Result<Action, ReconcileError>
where
    K: Resource<DynamicType = ()>,
    F: Future<Output = Result<Action, ReconcileError>>,
{
    let begun = Instant::now();
    let key = key(kind, &*object);
    // An object that is going needs nothing: its Jobs go with it. What it has elsewhere does not.
    if object.meta().deletion_timestamp.is_some() && !labels::has_slot(&*object) {
        context.backoff.succeeded(&key);
        return Ok(Action::await_change());
    }
    let result = reconcile(object, Arc::clone(&context)).await;
    context.metrics.reconciliations.with_label_values(&[kind]).inc();
    context
        .metrics
        .reconcile_seconds
        .with_label_values(&[kind])
        .observe(begun.elapsed().as_secs_f64());
    if result.is_ok() {
        context.backoff.succeeded(&key);
    }
    result
}

fn key<K: Resource<DynamicType = ()>>(kind: &str, object: &K) -> String {
    let meta = object.meta();
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{kind}/{}/{}", part(&meta.namespace), part(&meta.name))
}

fn failed<K: Resource<DynamicType = ()>>(
    kind: &'static str,
    object: &Guarded<K>,
    error: &ReconcileError,
    context: &Context,
) -> Action {
    // Somebody else wrote first; the watch brings what they wrote.
    if matches!(error, ReconcileError::Status(cause) if is_conflict(cause)) {
        return Action::requeue(Duration::from_millis(500));
    }
    let key = key(kind, object);
    // The object is gone, or goes with its namespace: there is nothing to bring forward.
    let is_gone = matches!(error, ReconcileError::Status(cause) if is_not_found(cause));
    if is_gone || error.cause().is_some_and(is_going) {
        context.backoff.succeeded(&key);
        return Action::await_change();
    }
    context.metrics.reconcile_errors.with_label_values(&[kind]).inc();
    let wait = context.backoff.failed(&key);
    tracing::warn!(object = key, %error, ?wait, "a reconcile failed");
    Action::requeue(wait)
}
