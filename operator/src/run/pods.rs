//! What a pod's status says about a run that does not speak for itself.

use std::borrow::Cow;

use dbbackup_contract::{ExitCode, Failure, Reason, out_of_memory};
use dbbackup_crds::Quantity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};

use super::beside;
use crate::job::{RECOVERED, SERVER};

/// The pod that was created last.
#[must_use]
pub fn newest(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().max_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, pod.metadata.name.clone())
    })
}

/// The newest of those that have ended.
pub(super) fn newest_ended(pods: &[Pod]) -> Option<&Pod> {
    let ended = pods.iter().filter_map(|pod| Some((ended_at(pod)?, pod)));
    ended.max_by_key(|(time, pod)| (*time, pod.metadata.name.clone())).map(|(_, pod)| pod)
}

/// When a pod ended, if it has.
#[must_use]
pub fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    if !matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return None;
    }
    let terminated = containers(pod).iter().filter_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref().map(|time| time.0)
    });
    // One that was evicted may tell nothing of its container.
    let conditions = status.conditions.iter().flatten();
    let changed = conditions.filter_map(|c| c.last_transition_time.as_ref().map(|time| time.0));
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    terminated.max().or_else(|| changed.max()).or(created).or(Some(Timestamp::MIN))
}

/// Whether the runner's program ever ran in this pod.
#[must_use]
pub fn was_started(pod: &Pod) -> bool {
    let ran = |state: Option<&ContainerState>| {
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    containers(pod)
        .iter()
        .any(|status| ran(status.state.as_ref()) || ran(status.last_state.as_ref()))
}

/// Why a pod has not started yet, as far as its status tells.
#[must_use]
pub fn explain_wait(pod: &Pod) -> Option<Failure> {
    let all = init_containers(pod).iter().chain(containers(pod));
    unschedulable(pod).or_else(|| all.filter_map(|container| waiting(pod, container)).next())
}

/// How a pod that tells nothing ended.
#[must_use]
pub fn explain_end(pod: &Pod) -> Failure {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(disruption) = condition(pod, "DisruptionTarget").filter(|c| c.status == "True") {
        let why = disruption.reason.as_deref().unwrap_or("disruption");
        let detail = disruption.message.as_deref().unwrap_or_default();
        return Failure::new(
            Reason::PodDisrupted,
            format!("the pod {name} was disrupted ({why}): {detail}"),
        );
    }
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref());
    if let Some(why @ ("Evicted" | "NodeLost" | "NodeShutdown" | "Terminated" | "Preempting")) =
        reason
    {
        let detail = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
        return Failure::new(
            Reason::PodDisrupted,
            format!("the pod {name} ended ({why}): {detail}"),
        );
    }
    let Some(ended) = containers(pod).iter().find_map(terminated) else {
        return beside::explain_end(pod).unwrap_or_else(|| {
            Failure::new(
                Reason::PodFailed,
                format!("the pod {name} ended and tells nothing about its container"),
            )
        });
    };
    if ended.reason.as_deref() == Some(beside::OOM_KILLED) {
        return out_of_memory(&format!("the runner in the pod {name}"), memory_limit(pod));
    }
    let how = match ended.exit_code {
        0 => "ended with exit code 0 and left no report".to_owned(),
        137 => "was killed (SIGKILL)".to_owned(),
        143 => "was told to stop (SIGTERM)".to_owned(),
        code => match ExitCode::from_code(code) {
            Some(known) => format!("ended with exit code {code} ({known:?})"),
            None => format!("ended with exit code {code}"),
        },
    };
    Failure::new(Reason::PodFailed, format!("the runner in the pod {name} {how}"))
}

/// The runner's limit of memory in bytes: also one that a LimitRange has set.
fn memory_limit(pod: &Pod) -> Option<u64> {
    limit_of(pod.spec.as_ref()?.containers.first()?)
}

/// A container's limit of memory in bytes.
pub(super) fn limit_of(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Quantity(limits.get("memory")?.0.clone()).units().ok()
}

fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// Those that come before the runner, or run beside it.
pub(super) fn init_containers(pod: &Pod) -> &[ContainerStatus] {
    let status = pod.status.as_ref();
    status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default()
}

/// How a container ended that does not run.
pub(super) fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn unschedulable(pod: &Pod) -> Option<Failure> {
    let scheduled = condition(pod, "PodScheduled").filter(|c| c.status == "False")?;
    let detail = scheduled.message.as_deref().unwrap_or_default();
    // What it says of preempting other pods helps nobody.
    let detail = detail.split_once(" preemption: ").map_or(detail, |(words, _)| words);
    let detail = detail.trim_end_matches(['.', ' ']);
    // The scheduler's own words; there is no other place that names the claim.
    if detail.to_ascii_lowercase().contains("persistentvolumeclaim") {
        return Some(claim_trouble(pod, detail));
    }
    let failure = Failure::new(Reason::Unschedulable, format!("no node takes the pod: {detail}"));
    // The volume's, not that of job.affinity. Older schedulers have the second words.
    let is_bound = ["PersistentVolume's node affinity", "volume node affinity conflict"]
        .iter()
        .any(|words| detail.contains(words));
    let claim = claim_of(pod, detail).filter(|_| is_bound);
    Some(match claim {
        Some(Claim { name: claim, .. }) => failure.with_hint(format!(
            "The volume of the claim {claim} can be had on its own nodes alone. See whether one of \
             them is there and lets pods in: kubectl describe pvc {claim}, kubectl get nodes."
        )),
        None => failure,
    })
}

/// A claim that a pod mounts.
struct Claim<'a> {
    name: Cow<'a, str>,
    /// Whether a server is recovered onto it; else a repository is on it.
    is_recovered: bool,
    /// Whether it was made with the pod.
    is_scratch: bool,
}

/// The claim that the scheduler speaks of. It names the one that it does not find, and no other;
/// the repository was opened before, so that of a recovered server is the one that is new.
fn claim_of<'a>(pod: &'a Pod, detail: &str) -> Option<Claim<'a>> {
    let volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    let claims = volumes.filter_map(|volume| {
        let is_scratch = volume.ephemeral.is_some();
        let name = match &volume.persistent_volume_claim {
            Some(claim) => Cow::Borrowed(claim.claim_name.as_str()),
            None if is_scratch => Cow::Owned(format!("{pod}-{}", volume.name)),
            None => return None,
        };
        Some(Claim { name, is_recovered: volume.name == RECOVERED, is_scratch })
    });
    let is_named = |claim: &Claim<'_>| detail.contains(&format!("\"{}\"", claim.name));
    claims.min_by_key(|claim| (!is_named(claim), !claim.is_recovered))
}

/// What is wrong with a claim, in words that name it.
fn claim_trouble(pod: &Pod, detail: &str) -> Failure {
    let found = claim_of(pod, detail);
    let claim = found.as_ref().map(|claim| claim.name.as_ref()).unwrap_or_default();
    let (user, field) = match &found {
        Some(Claim { is_scratch: true, .. }) => {
            ("is the scratch storage of the drill", "verification.drill.storage")
        }
        Some(Claim { is_recovered: true, .. }) => {
            ("the server is recovered onto", "to.volumeClaim.name")
        }
        _ => ("the BackupRepository names", "storage.volume.claimName"),
    };
    let (trouble, hint) = if detail.contains("not found") {
        let hint = format!(
            "Create the claim, or correct {field}: see kubectl get pvc. \
             The pod starts by itself once {claim} is there."
        );
        ("does not exist".to_owned(), hint)
    } else if detail.contains("unbound") {
        let hint = format!("See: kubectl describe pvc {claim}.");
        ("is not bound to a volume yet".to_owned(), hint)
    } else {
        let hint = format!("See: kubectl describe pvc {claim}.");
        (format!("cannot be used: {detail}"), hint)
    };
    let message = format!("the PersistentVolumeClaim {claim}, which {user}, {trouble}");
    Failure::new(Reason::ClaimNotFound, message).with_hint(hint)
}

fn waiting(pod: &Pod, container: &ContainerStatus) -> Option<Failure> {
    let is_server = container.name == SERVER;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let detail = waiting.message.as_deref().unwrap_or_default();
    let image = &container.image;
    match waiting.reason.as_deref()? {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            // The kubelet goes to and fro between the error and the wait for the next
            // try, which quotes the error: the same words for both, or the status flaps.
            let cause = detail.split_once("ErrImagePull: ").map_or(detail, |(_, cause)| cause);
            Some(if is_server {
                beside::no_image(pod, image, cause)
            } else {
                Failure::new(
                    Reason::ImagePullFailed,
                    format!("the image {image} cannot be pulled: {cause}"),
                )
            })
        }
        why @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            let container = if is_server { "server's container" } else { "container" };
            Some(Failure::new(
                Reason::PodRejected,
                format!("the {container} cannot be created ({why}): {detail}"),
            ))
        }
        "CrashLoopBackOff" if is_server && !was_started(pod) => {
            beside::explain_restart(pod, container)
        }
        _ => None,
    }
}
