//! How the Jobs of an object run.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Affinity, PodSecurityContext, SecurityContext, Toleration, TopologySpreadConstraint,
};
use kube::KubeSchema;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::references::OBJECT_NAME;
use crate::{DurationError, DurationText, LocalRef, Quantity};

/// How the Jobs of this object run. All of it may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// CPU and memory of the runner. Where memory is not said, the runner gets what its formula needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, LabelText>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// Where the pods run and do not run, beside which others: as in a pod (kubectl explain pod.spec.affinity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::status::any_object")]
    pub affinity: Option<Box<Affinity>>,
    /// How the pods are spread over zones or nodes: as in a pod (kubectl explain pod.spec.topologySpreadConstraints).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub priority_class_name: Option<String>,
    /// Further labels of the pods; those of the operator's own stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, LabelText>,
    /// Further annotations of the pods, such as sidecar.istio.io/inject: "false"; those of the operator's own stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, AnnotationText>,
    /// Environment variables of the runner, such as HTTPS_PROXY and NO_PROXY. They show in the Job: nothing secret belongs here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvSpec>,
    /// Threads that compress and encrypt, 2 where left out. Each takes 24 MiB, and a core where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub parallelism: Option<u32>,
    /// Service account of the pods; it needs no rights, and its token is not mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub service_account_name: Option<String>,
    /// As whom the pods run, and with which volumes' groups: as in a pod (kubectl explain pod.spec.securityContext). What is said takes the place of what the operator says by itself, which is user and groups 65532 unless the chart says otherwise; nothing makes the pods privileged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = never_root(), validation = no_unconfined())]
    pub pod_security_context: Option<Box<PodSecurityContext>>,
    /// The same of the runner's container: as in a pod (kubectl explain pod.spec.containers.securityContext).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = never_root(), validation = no_unconfined(), validation = no_privileges())]
    pub security_context: Option<Box<SecurityContext>>,
    /// Secrets with which the runner's image is pulled, and the server's image of a PitrRestore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalRef>,
    /// A pod that has not started after so long (image, node, volume) is given up. Units: s, m, h, d.
    #[serde(default = "fifteen_minutes")]
    pub start_timeout: DurationText,
    /// A transfer that moves no byte for so long is given up. There is no limit on the whole run.
    #[serde(default = "fifteen_minutes")]
    pub stall_timeout: DurationText,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            priority_class_name: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            env: Vec::new(),
            parallelism: None,
            service_account_name: None,
            pod_security_context: None,
            security_context: None,
            image_pull_secrets: Vec::new(),
            start_timeout: fifteen_minutes(),
            stall_timeout: fifteen_minutes(),
        }
    }
}

impl JobSpec {
    /// How long a pod may take to start.
    ///
    /// # Errors
    /// The text is no duration.
    pub fn start_timeout(&self) -> Result<Duration, DurationError> {
        self.start_timeout.parse()
    }

    /// How long a transfer may move nothing.
    ///
    /// # Errors
    /// The text is no duration.
    pub fn stall_timeout(&self) -> Result<Duration, DurationError> {
        self.stall_timeout.parse()
    }
}

/// CPU and memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is reserved on the node, by name: cpu, memory, ephemeral-storage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What may be used at most, by name: cpu, memory, ephemeral-storage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// The value of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct LabelText(#[schemars(length(max = 63))] pub String);

/// The value of an annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct AnnotationText(#[schemars(length(max = 4096))] pub String);

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// What the API server takes for a pod is checked by it when the Job is created: the whole
/// schema of it, in every kind, would not fit.
fn any_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// A file server that squashes root gives another one no more than that.
fn never_root() -> Rule {
    Rule::new("(!has(self.runAsNonRoot) || self.runAsNonRoot) && (!has(self.runAsUser) || self.runAsUser != 0) && (!has(self.windowsOptions))").message("the runner never runs as root: leave out runAsNonRoot, runAsUser: 0 and windowsOptions; an NFS server is told the user that it knows (runAsUser) or its group (supplementalGroups)")
}

fn no_unconfined() -> Rule {
    Rule::new("(!has(self.seccompProfile) || self.seccompProfile.type != 'Unconfined') && (!has(self.appArmorProfile) || self.appArmorProfile.type != 'Unconfined')").message("the runner is never unconfined: say RuntimeDefault or Localhost, or leave the profile out")
}

fn no_privileges() -> Rule {
    Rule::new("(!has(self.privileged) || !self.privileged) && (!has(self.allowPrivilegeEscalation) || !self.allowPrivilegeEscalation) && (!has(self.capabilities) || !has(self.capabilities.add) || self.capabilities.add.size() == 0) && (!has(self.procMount) || self.procMount == 'Default') && (!has(self.readOnlyRootFilesystem) || self.readOnlyRootFilesystem)").message("the runner needs no privileges and no capabilities, and writes to its volumes alone: leave them out")
}

fn fifteen_minutes() -> DurationText {
    DurationText::new("15m")
}
