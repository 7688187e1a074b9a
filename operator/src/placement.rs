//! Where pods run that share a volume which one node at a time can mount.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PodAffinityTerm, PodTemplateSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Api, ResourceExt};

use crate::context::Context;
use crate::labels;

/// Access modes with which several nodes can mount a volume.
const SHARED: [&str; 2] = ["ReadWriteMany", "ReadOnlyMany"];
/// More than anything else that the scheduler weighs.
const WEIGHT: i32 = 100;
const NODE: &str = "kubernetes.io/hostname";

/// Lets the Job's pods run where those run that have its claims, if one node at a time can mount
/// them: on another node a pod would wait for the volume until they have ended.
///
/// It is a wish and no condition. Pods of a lost node stay on it for minutes, and what a claim
/// says is not what every volume needs: some that are shared are called `ReadWriteOnce`.
pub(crate) async fn keep_together(job: &Job, context: &Context) -> Job {
    let mut job = job.clone();
    let names = claims_of(&job);
    let claims = Api::<PersistentVolumeClaim>::namespaced(
        context.client.clone(),
        &job.namespace().unwrap_or_default(),
    );
    for name in names {
        match claims.get_opt(&name).await {
            Ok(Some(claim)) => prefer_node_of(&claim, &mut job),
            // The pod will wait for it, and say so.
            Ok(None) => {}
            // A role of before may lack the right; nothing depends on it.
            Err(error) => tracing::warn!(claim = name, %error, "a claim cannot be read"),
        }
    }
    job
}

fn template(job: &mut Job) -> Option<&mut PodTemplateSpec> {
    job.spec.as_mut().map(|spec| &mut spec.template)
}

fn claims_of(job: &Job) -> Vec<String> {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let volumes = pod.and_then(|pod| pod.volumes.as_ref()).into_iter().flatten();
    volumes
        .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
        .collect()
}

fn prefer_node_of(claim: &PersistentVolumeClaim, job: &mut Job) {
    let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    let is_shared = modes.clone().any(|mode| SHARED.contains(&&**mode));
    let (Some(uid), Some(template), false) = (claim.uid(), template(job), is_shared) else {
        return;
    };
    // Not its name, which may be longer than a label.
    let label = format!("{}{uid}", labels::CLAIM_PREFIX);
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(label.clone(), "true".to_owned());
    let selector = LabelSelector {
        match_labels: Some([(label, "true".to_owned())].into()),
        ..LabelSelector::default()
    };
    let term = PodAffinityTerm {
        label_selector: Some(selector),
        topology_key: NODE.to_owned(),
        ..PodAffinityTerm::default()
    };
    let affinity = template.spec.get_or_insert_default().affinity.get_or_insert_default();
    let pods = affinity.pod_affinity.get_or_insert_default();
    let wishes = &mut pods.preferred_during_scheduling_ignored_during_execution;
    wishes
        .get_or_insert_default()
        .push(WeightedPodAffinityTerm { pod_affinity_term: term, weight: WEIGHT });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn placed(modes: &[&str], affinity: Value) -> Value {
        let job = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [], "affinity": affinity,
            "volumes": [{"name": "task"}, {"name": "repository", "persistentVolumeClaim": {"claimName": "backups"}}],
        }}}});
        let mut job: Job = serde_json::from_value(job).unwrap();
        assert_eq!(claims_of(&job), ["backups"]);
        let claim =
            json!({"metadata": {"name": "backups", "uid": "u-1"}, "spec": {"accessModes": modes}});
        prefer_node_of(&serde_json::from_value(claim).unwrap(), &mut job);
        serde_json::to_value(job.spec.unwrap().template).unwrap()
    }

    #[test]
    fn pods_of_a_claim_of_one_node_want_to_be_together_and_keep_their_own_wishes() {
        let wish = |key: &str| json!({"weight": 1, "podAffinityTerm": {"topologyKey": key}});
        let own = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish("zone")]}});
        let template = placed(&["ReadWriteOnce"], own);
        let label = "claim.dbbackup.dev/u-1";
        assert_eq!(template["metadata"]["labels"], json!({"a": "b", label: "true"}));
        let wishes = &template["spec"]["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(wishes[0], wish("zone"));
        let expected = json!({"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {label: "true"}}}});
        assert_eq!(wishes[1], expected);
    }

    #[test]
    fn pods_of_a_claim_that_is_shared_are_spread_as_others() {
        for modes in [&["ReadWriteMany"][..], &["ReadWriteOnce", "ReadOnlyMany"]] {
            let template = placed(modes, Value::Null);
            assert_eq!(template["metadata"]["labels"], json!({"a": "b"}));
            assert_eq!(template["spec"]["affinity"], Value::Null);
        }
    }
}
