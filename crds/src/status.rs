//! What the statuses of all kinds share.

use jiff::Timestamp;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a runner said last, as it came over the report channel. Once the outcome is derived it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RawReport {
    /// The Job whose pod sent it.
    #[schemars(length(max = 63))]
    pub job_name: String,
    /// The Job's pod that sent it.
    #[schemars(length(max = 253))]
    pub pod_name: String,
    /// UID of that pod: a report of an earlier attempt says nothing about a later one.
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// When it came.
    pub received_time: Timestamp,
    /// The report as JSON.
    #[schemars(schema_with = "any_object")]
    pub content: serde_json::Value,
}

/// Conditions as kstatus reads them: a list keyed by type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Ready, Reconciling or Stalled; one-shot kinds also have Complete and Failed, repositories Maintained and Intact, schedules Copied, Notified and LogArchived."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "Generation of the spec that the condition speaks of."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status changed last."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Stable name of the cause."},
                "message": {"type": "string", "maxLength": 32768, "description": "What happened, and what a person can do."},
            },
        },
    })
}

/// An object whose fields are not looked at.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
