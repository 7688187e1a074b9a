//! As whom a pod of ours runs: what the operator says by itself, what the chart says, what the
//! object says, in this order. What makes the Pod Security level `restricted` stands after all
//! of them.

use dbbackup_crds::JobSpec;
use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

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
    for said in [Some(chart), job.pod_security_context.as_ref()].into_iter().flatten() {
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
        ..job.security_context.clone().unwrap_or_default()
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
