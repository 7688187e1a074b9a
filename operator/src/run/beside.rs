//! What a pod's status says about the server that runs beside a runner, and about the container
//! that prepares it.

use dbbackup_contract::{Failure, Reason, Report, out_of_memory};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::pods::{init_containers, limit_of, terminated};
use crate::job::SERVER;
use crate::labels;
use crate::names::Purpose;

/// How a container is called that was killed for want of memory.
pub(super) const OOM_KILLED: &str = "OOMKilled";

/// What a runner says that misses its server: whether the kernel has killed that one, it cannot
/// see.
const MISSED: [Reason; 3] = [Reason::ServerNotReady, Reason::RecoveryFailed, Reason::ChildKilled];

/// The server's image cannot be pulled.
pub(super) fn no_image(pod: &Pod, image: &str, cause: &str) -> Failure {
    let Named { image: field, other, job, .. } = named_by(pod);
    let message = format!("the image {image}, which {field} names, cannot be pulled: {cause}");
    Failure::new(Reason::ImagePullFailed, message).with_hint(format!(
        "Bring it to the registry, or {other} the right image; for a registry that wants a \
         password, give {job}.imagePullSecrets."
    ))
}

/// What the fields are called that a server beside a runner comes from, and what a person does who
/// wants other ones.
struct Named {
    image: &'static str,
    other: &'static str,
    job: &'static str,
    larger: &'static str,
}

fn named_by(pod: &Pod) -> Named {
    let purpose = pod.metadata.labels.as_ref().and_then(|labels| labels.get(labels::PURPOSE));
    if purpose.is_some_and(|purpose| purpose == Purpose::Drill.as_str()) {
        return Named {
            image: "spec.verification.drill.image",
            other: "name there",
            job: "verification.drill.job",
            larger: "Raise verification.drill.server.resources.limits.memory.",
        };
    }
    Named {
        image: "spec.image",
        other: "create another PitrRestore that names",
        job: "job",
        larger: "Create another PitrRestore with a larger server.resources.limits.memory.",
    }
}

/// Why a pod ended whose runner was never started.
pub(super) fn explain_end(pod: &Pod) -> Option<Failure> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let failed = init_containers(pod).iter().filter_map(|container| {
        let ended = terminated(container).filter(|ended| ended.exit_code != 0)?;
        Some((&container.name, ended))
    });
    let (container, ended) = failed.into_iter().next()?;
    if ended.reason.as_deref() == Some(OOM_KILLED) && container == SERVER {
        return short_of_memory(pod);
    }
    let code = ended.exit_code;
    let message =
        format!("the container {container} of the pod {name} ended with exit code {code}");
    let hint = format!("See: kubectl logs {name} -c {container}.");
    Some(Failure::new(Reason::PodFailed, message).with_hint(hint))
}

/// Why the server's container is started again and again, and the runner never.
pub(super) fn explain_restart(pod: &Pod, container: &ContainerStatus) -> Option<Failure> {
    if let Some(failure) = short_of_memory(pod) {
        return Some(failure);
    }
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    let (image, field) = (&container.image, named_by(pod).image);
    let why = match (last.reason.as_deref(), last.message.as_deref()) {
        (Some("StartError"), Some(message)) => message.to_owned(),
        _ => format!("it ended with exit code {}", last.exit_code),
    };
    let message = format!("the image {image}, which {field} names, does not start: {why}");
    Some(Failure::new(Reason::ServerImageUnsuitable, message))
}

/// The server was killed for want of memory, now or before it was started again.
fn short_of_memory(pod: &Pod) -> Option<Failure> {
    let server = init_containers(pod).iter().find(|container| container.name == SERVER)?;
    let states = [&server.state, &server.last_state];
    let mut ends = states.into_iter().filter_map(|state| state.as_ref()?.terminated.as_ref());
    ends.find(|end| end.reason.as_deref() == Some(OOM_KILLED))?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref());
    let container = containers.unwrap_or_default().iter().find(|it| it.name == SERVER);
    let failure =
        out_of_memory(&format!("the server in the pod {name}"), container.and_then(limit_of));
    Some(failure.with_hint(named_by(pod).larger))
}

/// A report of a failure, with what its runner could not see of the server.
pub(super) fn completed(mut report: Report, pod: Option<&Pod>) -> Report {
    let error = match &mut report {
        Report::Recover(recovery) => &mut recovery.error,
        Report::Drill(drill) => &mut drill.error,
        _ => return report,
    };
    if let Some(told) = error
        && MISSED.contains(&told.reason)
        && let Some(seen) = pod.and_then(short_of_memory)
    {
        let message = format!("{} ({}: {})", seen.message, told.reason, told.message);
        *told = Failure { message, ..seen };
    }
    report
}

#[cfg(test)]
#[path = "beside_tests.rs"]
mod tests;
