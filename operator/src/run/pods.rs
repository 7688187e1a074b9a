//! What a pod's status says about a run that does not speak for itself.

use dbbackup_contract::{ExitCode, Failure, Reason};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};

/// The pod that was created last.
#[must_use]
pub fn newest(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().max_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, pod.metadata.name.clone())
    })
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
    unschedulable(pod).or_else(|| containers(pod).iter().find_map(waiting))
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
    let terminated =
        containers(pod).iter().find_map(|container| container.state.as_ref()?.terminated.as_ref());
    let Some(ended) = terminated else {
        return Failure::new(
            Reason::PodFailed,
            format!("the pod {name} ended and tells nothing about its container"),
        );
    };
    if ended.reason.as_deref() == Some("OOMKilled") {
        return Failure::new(
            Reason::OutOfMemory,
            format!("the runner in the pod {name} was killed for want of memory"),
        );
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

fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn unschedulable(pod: &Pod) -> Option<Failure> {
    let scheduled = condition(pod, "PodScheduled").filter(|c| c.status == "False")?;
    let detail = scheduled.message.clone().unwrap_or_default();
    // The scheduler's own words; there is no other place that names the claim.
    let (reason, what) =
        if detail.contains("persistentvolumeclaim") || detail.contains("PersistentVolumeClaim") {
            (Reason::ClaimNotFound, "its volume claim")
        } else {
            (Reason::Unschedulable, "a node")
        };
    Some(Failure::new(reason, format!("the pod waits for {what}: {detail}")))
}

fn waiting(container: &ContainerStatus) -> Option<Failure> {
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
            Some(Failure::new(
                Reason::ImagePullFailed,
                format!("the image {image} cannot be pulled: {cause}"),
            ))
        }
        why @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            Some(Failure::new(
                Reason::PodRejected,
                format!("the container cannot be created ({why}): {detail}"),
            ))
        }
        _ => None,
    }
}
