//! As whom a pod of ours runs: what the operator says by itself, what the chart says, what the
//! object says, in this order. What makes the Pod Security level `restricted` stands after all
//! of them.

use dbbackup_crds::JobSpec;
use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

/// Types of SELinux that Pod Security lets containers have.
const CONTAINER_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// How a container's profile of AppArmor was said before it had a field; it still counts.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is said and would give a pod more than `restricted` does, and what to write instead. The
/// namespace's own Pod Security may be another one.
pub(super) fn forbidden(job: &JobSpec) -> Option<&'static str> {
    let pod = job.pod_security_context.as_ref();
    if pod.and_then(|pod| pod.sysctls.as_ref()).is_some_and(|sysctls| !sysctls.is_empty()) {
        return Some("podSecurityContext.sysctls: the runner needs none, leave it out");
    }
    let of_pod = pod.and_then(|pod| pod.se_linux_options.as_ref());
    let of_container = job.security_context.as_ref().and_then(|it| it.se_linux_options.as_ref());
    let is_more = |options: &SELinuxOptions| {
        let is_said = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        let type_ = options.type_.as_deref().unwrap_or_default();
        !CONTAINER_TYPES.contains(&type_) || is_said(&options.user) || is_said(&options.role)
    };
    if of_pod.into_iter().chain(of_container).any(is_more) {
        return Some(
            "seLinuxOptions: leave user and role out, and type too, or say one of containers, such as container_t",
        );
    }
    let is_confined = |profile: &str| {
        profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/")
    };
    let mut profiles = job.annotations.iter().filter(|(name, _)| name.starts_with(APPARMOR));
    profiles
        .any(|(_, profile)| !is_confined(&profile.0))
        .then_some("annotations: the runner is never unconfined, leave the profile of AppArmor out")
}

/// The pod's, where the chart says `chart` of all pods.
pub(super) fn pod_security(chart: &PodSecurityContext, job: &JobSpec) -> PodSecurityContext {
    let mut merged = PodSecurityContext {
        // A repository has many files; walking them before every run is not needed.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    };
    for said in [Some(chart), job.pod_security_context.as_deref()].into_iter().flatten() {
        // A profile is one thing, of whatever parts: another one has none of them.
        let profiles = (said.seccomp_profile.is_some(), said.app_armor_profile.is_some());
        merged.seccomp_profile = merged.seccomp_profile.filter(|_| !profiles.0);
        merged.app_armor_profile = merged.app_armor_profile.filter(|_| !profiles.1);
        merged.merge_from(said.clone());
    }
    merged.run_as_non_root = Some(true);
    merged
}

/// The container's.
pub(super) fn container_security(job: &JobSpec) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..job.security_context.as_deref().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The contexts of pod and container, by what chart and object say.
    fn built(chart: Value, pod: Value, container: Value) -> (Value, Value) {
        let chart = serde_json::from_value(chart).unwrap();
        let job = json!({"podSecurityContext": pod, "securityContext": container});
        let job: JobSpec = serde_json::from_value(job).unwrap();
        let pod = serde_json::to_value(pod_security(&chart, &job)).unwrap();
        (pod, serde_json::to_value(container_security(&job)).unwrap())
    }

    #[test]
    fn an_object_says_more_than_the_chart_and_the_chart_more_than_the_operator() {
        let chart = json!({
            "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "Localhost", "localhostProfile": "ours.json"},
        });
        let pod = json!({
            "runAsUser": 1000, "fsGroupChangePolicy": "Always", "supplementalGroups": [5000],
            "seccompProfile": {"type": "RuntimeDefault"},
            "seLinuxOptions": {"level": "s0:c123,c456"},
        });
        let (pod, container) = built(chart, pod, json!({"runAsUser": 1001}));
        assert_eq!(
            pod,
            json!({
                "runAsUser": 1000, "runAsGroup": 65532, "fsGroup": 65532, "runAsNonRoot": true,
                "fsGroupChangePolicy": "Always", "supplementalGroups": [5000],
                "seccompProfile": {"type": "RuntimeDefault"},
                "seLinuxOptions": {"level": "s0:c123,c456"},
            })
        );
        assert_eq!(container["runAsUser"], 1001);
    }

    #[test]
    fn where_the_platform_assigns_users_nobody_else_does() {
        let (pod, _) = built(json!({"runAsNonRoot": true}), Value::Null, Value::Null);
        assert_eq!(
            pod,
            json!({
                "runAsNonRoot": true, "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
    }

    #[test]
    fn what_pod_security_would_refuse_is_refused_where_a_namespace_has_none() {
        let profile =
            |profile: &str| json!({"annotations": {format!("{APPARMOR}runner"): profile}});
        let pod = |it: Value| json!({"podSecurityContext": it});
        let container = |it: Value| json!({"securityContext": {"seLinuxOptions": it}});
        let rights = json!({"level": "s0:c1,c2", "type": "container_t"});
        for (job, expected) in [
            (json!({}), None),
            (pod(json!({"seLinuxOptions": rights})), None),
            (container(rights), None),
            (profile("runtime/default"), None),
            (json!({"annotations": {"sidecar.istio.io/inject": "false"}}), None),
            (pod(json!({"seLinuxOptions": {"type": "spc_t"}})), Some("seLinuxOptions")),
            (container(json!({"type": "spc_t"})), Some("seLinuxOptions")),
            (container(json!({"user": "system_u"})), Some("seLinuxOptions")),
            (container(json!({"role": "sysadm_r"})), Some("seLinuxOptions")),
            (pod(json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})), Some("sysctls")),
            (profile("unconfined"), Some("AppArmor")),
        ] {
            let spec: JobSpec = serde_json::from_value(job.clone()).unwrap();
            let told = forbidden(&spec);
            assert_eq!(told.is_some(), expected.is_some(), "{job}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{job}");
        }
    }

    #[test]
    fn nothing_that_restricted_forbids_can_be_said() {
        let wrong = json!({
            "privileged": true, "allowPrivilegeEscalation": true, "runAsNonRoot": false,
            "readOnlyRootFilesystem": false, "capabilities": {"add": ["NET_ADMIN"]},
        });
        let root = json!({"runAsNonRoot": false});
        let (pod, container) = built(root.clone(), root, wrong);
        assert_eq!(pod["runAsNonRoot"], true);
        assert_eq!(
            container,
            json!({
                "privileged": false, "allowPrivilegeEscalation": false, "runAsNonRoot": true,
                "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            })
        );
    }
}
