//! The Job around a task, at the Pod Security level `restricted`.

use std::collections::BTreeMap;

use dbbackup_contract::{
    DESTINATION_DIR, ExitCode, MAX_TASK_BYTES, REPORT_AUDIENCE, REPORT_TOKEN_DIR, REPOSITORY_DIR,
    SCRATCH_DIR, StorageAccess, TASK_ANNOTATION, TASK_DIR, TERMINATION_FILE, Task,
    runner_memory_bytes,
};
use dbbackup_crds::{JobSpec, QuantityError};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec as ApiJobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, EnvVar,
    LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::resources::runner_resources;
use super::security::{container_security, forbidden, pod_security};
use super::{Mounts, storage::wants_azure_identity};
use crate::labels;
use crate::names::{Purpose, kind_name};

/// Name of the container that `podFailurePolicy` names.
pub(crate) const CONTAINER: &str = "runner";
/// Pods that may fail before the Job gives up; disruptions do not count.
const BACKOFF_LIMIT: i32 = 3;
/// Most bytes of the files that clients of a server need.
const SCRATCH_SIZE: &str = "16Mi";
/// Seconds that a report token is valid; the kubelet renews it long before.
const TOKEN_SECONDS: i64 = 3600;

/// What all pods of the runner have.
#[derive(Clone, Debug)]
pub struct RunnerPod {
    /// The image's name.
    pub image: String,
    /// When it is pulled: Always, IfNotPresent or Never.
    pub pull_policy: String,
    /// As whom they run where their objects say nothing else.
    pub pod_security_context: PodSecurityContext,
}

/// One Job that is wanted.
#[derive(Clone, Debug)]
pub struct JobRequest<'a> {
    /// Its name.
    pub name: String,
    /// The object that it works for: deleting that deletes the Job.
    pub owner: OwnerReference,
    /// Why it exists.
    pub purpose: Purpose,
    /// What it does.
    pub task: &'a Task,
    /// The secrets that the task names.
    pub mounts: &'a Mounts,
    /// The repository's claim.
    pub claim: Option<String>,
    /// The claim of the repository that a copy goes to.
    pub destination_claim: Option<String>,
    /// Bytes that the repository holds, or the larger of two.
    pub stored_bytes: u64,
    /// How it runs.
    pub job: &'a JobSpec,
}

/// Why a Job cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The task is no JSON.
    #[error("the task cannot be written: {0}")]
    Task(#[source] serde_json::Error),
    /// The task is too large for an annotation.
    #[error(
        "the task has {0} bytes, more than {MAX_TASK_BYTES}: name fewer databases or tables, or use globs such as shop_*; put the sql of hooks into functions of the database"
    )]
    TaskTooLarge(usize),
    /// Its pod would have more rights than a runner has.
    #[error("job.{0}")]
    Forbidden(&'static str),
    /// A quantity is none.
    #[error("job.resources: {0}")]
    Resources(#[source] QuantityError),
}

/// Builds the Job of a request.
///
/// # Errors
/// Says which part of the spec does not fit.
pub fn build_job(request: &JobRequest<'_>, runner: &RunnerPod) -> Result<Job, BuildError> {
    let task = serde_json::to_string(request.task).map_err(BuildError::Task)?;
    if task.len() > MAX_TASK_BYTES {
        return Err(BuildError::TaskTooLarge(task.len()));
    }
    if let Some(why) = forbidden(request.job) {
        return Err(BuildError::Forbidden(why));
    }
    let kind = kind_name(request.task.subject.kind);
    let labels: BTreeMap<String, String> = [
        (labels::MANAGED_BY, labels::MANAGER),
        (labels::NAME, labels::RUNNER),
        (labels::KIND, kind),
        (labels::PURPOSE, request.purpose.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let subject = (labels::SUBJECT.to_owned(), request.task.subject.name.clone());
    let job = request.job;
    // Ours come last: whoever finds a pod by its label, or reads its task, relies on them.
    let further = job.labels.iter().map(|(label, value)| (label.clone(), value.0.clone()));
    let mut pod_labels: BTreeMap<_, _> = further.chain(labels.clone()).collect();
    if wants_azure_identity(request.task) {
        pod_labels.insert(labels::AZURE_IDENTITY.to_owned(), "true".to_owned());
    }
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(
                job.annotations
                    .iter()
                    .map(|(name, value)| (name.clone(), value.0.clone()))
                    .chain([subject.clone(), (TASK_ANNOTATION.to_owned(), task)])
                    .collect(),
            ),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(request, runner)?),
    };
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(request.name.clone()),
            namespace: Some(request.task.subject.namespace.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([subject])),
            owner_references: Some(vec![request.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(ApiJobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            pod_failure_policy: Some(pod_failure_policy()),
            // A pod is replaced when it has ended, not when it is being deleted:
            // two runners of one run would only fence each other.
            pod_replacement_policy: Some("Failed".to_owned()),
            template,
            ..ApiJobSpec::default()
        }),
        status: None,
    })
}

/// Permanent exit codes end the Job, disruptions are not its fault, the rest counts.
fn pod_failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(CONTAINER.to_owned()),
                    operator: "In".to_owned(),
                    values: (ExitCode::FIRST_PERMANENT..=ExitCode::LAST_PERMANENT)
                        .map(i32::from)
                        .collect(),
                }),
                on_pod_conditions: None,
            },
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_exit_codes: None,
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                }]),
            },
        ],
    }
}

fn pod_spec(request: &JobRequest<'_>, runner: &RunnerPod) -> Result<PodSpec, BuildError> {
    let job = request.job;
    let (volumes, volume_mounts) = volumes(request);
    let task = request.task;
    let network = task.target().is_some_and(StorageAccess::is_remote);
    let formula = runner_memory_bytes(task.workers, network, request.stored_bytes);
    let resources =
        runner_resources(job.resources.as_ref(), formula).map_err(BuildError::Resources)?;
    Ok(PodSpec {
        restart_policy: Some("Never".to_owned()),
        // The runner needs no rights: its only token is the one for the report channel.
        automount_service_account_token: Some(false),
        // Variables for every Service of the namespace are noise, and may collide with a client's.
        enable_service_links: Some(false),
        service_account_name: job.service_account_name.clone(),
        image_pull_secrets: unless_empty(
            job.image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference { name: secret.name.clone() }),
        ),
        node_selector: unless_empty(
            job.node_selector.iter().map(|(label, value)| (label.clone(), value.0.clone())),
        ),
        tolerations: unless_empty(job.tolerations.iter().cloned()),
        affinity: job.affinity.as_deref().cloned(),
        topology_spread_constraints: unless_empty(job.topology_spread_constraints.iter().cloned()),
        priority_class_name: job.priority_class_name.clone(),
        security_context: Some(pod_security(&runner.pod_security_context, job)),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(runner.image.clone()),
            image_pull_policy: Some(runner.pull_policy.clone()),
            args: Some(vec!["run".to_owned()]),
            env: Some(environment(job)),
            resources: Some(resources),
            termination_message_path: Some(TERMINATION_FILE.to_owned()),
            termination_message_policy: Some("File".to_owned()),
            security_context: Some(container_security(job)),
            volume_mounts: Some(volume_mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    })
}

/// The root file system is read-only: what wants a folder gets the one in memory, whatever
/// the spec says.
fn environment(job: &JobSpec) -> Vec<EnvVar> {
    let further = job.env.iter().map(|further| variable(&further.name, &further.value));
    let ours = [variable("TMPDIR", SCRATCH_DIR), variable("HOME", SCRATCH_DIR)];
    let is_free = |further: &EnvVar| ours.iter().all(|ours| ours.name != further.name);
    further.filter(is_free).chain(ours.clone()).collect()
}

/// A list or map of the pod's; absent where there is nothing in it.
fn unless_empty<C: FromIterator<I>, I>(entries: impl ExactSizeIterator<Item = I>) -> Option<C> {
    (entries.len() > 0).then(|| entries.collect())
}

fn volumes(request: &JobRequest<'_>) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![
        Volume {
            name: "task".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "task.json".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        api_version: None,
                        field_path: format!("metadata.annotations['{TASK_ANNOTATION}']"),
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
                default_mode: Some(0o440),
            }),
            ..Volume::default()
        },
        Volume {
            name: "report-token".to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(ServiceAccountTokenProjection {
                        audience: Some(REPORT_AUDIENCE.to_owned()),
                        expiration_seconds: Some(TOKEN_SECONDS),
                        path: "token".to_owned(),
                    }),
                    ..VolumeProjection::default()
                }]),
                default_mode: Some(0o440),
            }),
            ..Volume::default()
        },
        Volume {
            name: "scratch".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity(SCRATCH_SIZE.to_owned())),
            }),
            ..Volume::default()
        },
    ];
    let mut mounts = vec![
        mount("task", TASK_DIR, true),
        mount("report-token", REPORT_TOKEN_DIR, true),
        mount("scratch", SCRATCH_DIR, false),
    ];
    if let Some(claim) = &request.claim {
        volumes.push(claimed("repository", claim));
        // A restore writes too, where it may: its session keeps the collector away from what
        // it reads.
        let repository = request.task.repository.as_ref();
        let read_only = repository.is_some_and(|it| !it.mode.may_write());
        mounts.push(mount("repository", REPOSITORY_DIR, read_only));
    }
    if let Some(claim) = &request.destination_claim {
        // A pod that has two volumes of one claim may wait for the second one for ever.
        let is_same = request.claim.as_ref() == Some(claim);
        if !is_same {
            volumes.push(claimed("destination", claim));
        }
        let name = if is_same { "repository" } else { "destination" };
        mounts.push(mount(name, DESTINATION_DIR, false));
    }
    volumes.extend(request.mounts.volumes());
    mounts.extend(request.mounts.volume_mounts());
    (volumes, mounts)
}

pub(super) fn claimed(name: &str, claim: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::fixtures;

    #[test]
    fn a_pod_has_what_its_spec_says_and_nothing_of_ours_can_be_said_otherwise() {
        let task = json!({
            "version": 1, "subject": {"kind": "Backup", "namespace": "shop", "name": "b", "uid": "u"},
            "repository": {"name": "main", "storage": {"volume": {"path": "/repository"}},
                "encryption": {"none": {}}},
            "action": {"init": {"initialize": "IfEmpty"}},
            "stallTimeoutSeconds": 900, "workers": 4,
        });
        let term = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone"});
        let job = json!({
            "labels": {"team": "shop", labels::NAME: "mine"},
            "annotations": {"sidecar.istio.io/inject": "false", TASK_ANNOTATION: "{}"},
            "env": [{"name": "HTTPS_PROXY", "value": "http://p:3128"}, {"name": "HOME", "value": "/"}],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": "low", "parallelism": 4,
        });
        let (task, job) =
            (serde_json::from_value(task).unwrap(), serde_json::from_value(job).unwrap());
        let around = fixtures::surroundings();
        let request = JobRequest {
            name: "j".into(),
            owner: OwnerReference::default(),
            purpose: Purpose::Backup,
            task: &task,
            mounts: &Mounts::default(),
            claim: None,
            destination_claim: None,
            stored_bytes: 0,
            job: &job,
        };
        let built = build_job(&request, &around.runner).unwrap();
        let template = built.spec.unwrap().template;
        let (metadata, spec) = (template.metadata.unwrap(), template.spec.unwrap());
        let found = metadata.labels.unwrap();
        assert_eq!((&*found["team"], &*found[labels::NAME]), ("shop", labels::RUNNER));
        let annotations = metadata.annotations.unwrap();
        assert_eq!(annotations["sidecar.istio.io/inject"], "false");
        assert!(annotations[TASK_ANNOTATION].contains("\"uid\":\"u\""));
        let container = &spec.containers[0];
        let env = serde_json::to_value(container.env.as_ref().unwrap()).unwrap();
        assert_eq!(
            env,
            json!([{"name": "HTTPS_PROXY", "value": "http://p:3128"},
                {"name": "TMPDIR", "value": SCRATCH_DIR}, {"name": "HOME", "value": SCRATCH_DIR}])
        );
        let memory = &container.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"];
        assert_eq!(memory.0, runner_memory_bytes(4, false, 0).to_string());
        assert_eq!(spec.priority_class_name.as_deref(), Some("low"));
        assert_eq!(spec.topology_spread_constraints.unwrap()[0].max_skew, 1);
        let affinity = spec.affinity.unwrap().pod_affinity.unwrap();
        let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap();
        assert_eq!(terms[0].topology_key, "zone");
    }
}
