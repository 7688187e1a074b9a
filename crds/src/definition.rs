//! The CustomResourceDefinitions, as the API server takes them and as files.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{Backup, BackupRepository, BackupSchedule, PitrRestore, RestoreRequest};

/// All definitions as JSON, with the file name of each.
#[must_use]
pub fn definitions() -> Vec<(&'static str, Value)> {
    let mut definitions = plain_definitions();
    for (_, definition) in &mut definitions {
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        definition.pointer_mut(spec).into_iter().for_each(tell_defaults);
    }
    definitions
}

/// The definitions without defaults in their descriptions.
pub(crate) fn plain_definitions() -> Vec<(&'static str, Value)> {
    [
        ("backuprepositories", BackupRepository::crd()),
        ("backupschedules", BackupSchedule::crd()),
        ("backups", Backup::crd()),
        ("restorerequests", RestoreRequest::crd()),
        ("pitrrestores", PitrRestore::crd()),
    ]
    .into_iter()
    .map(|(plural, crd)| (plural, finished(&crd)))
    .collect()
}

/// All definitions as YAML files: name and content.
///
/// # Errors
/// A definition cannot be written as YAML.
pub fn definitions_yaml() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false, min_fold_chars: 4096 };
    definitions()
        .into_iter()
        .map(|(plural, value)| {
            let yaml = serde_saphyr::to_string_with_options(&value, options.clone())?;
            let head = "# Generated from crds/src by `make generate`; do not edit.\n";
            Ok((format!("dbbackup.dev_{plural}.yaml"), format!("{head}{yaml}")))
        })
        .collect()
}

/// What the derive macro leaves to do.
fn finished(crd: &CustomResourceDefinition) -> Value {
    let mut value = serde_json::to_value(crd).unwrap_or_default();
    if let Some(root) = value.as_object_mut() {
        root.remove("status");
    }
    if let Some(schema) = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema, false);
        // kstatus and `kubectl wait` must not read a new object as done.
        if let Some(status) =
            schema.pointer_mut("/properties/status").and_then(Value::as_object_mut)
        {
            status.insert("default".into(), json!({"observedGeneration": -1}));
            status.remove("nullable");
            status.insert(
                "description".into(),
                "What the operator and the runner found and did.".into(),
            );
        }
        if let Some(spec) = schema.pointer_mut("/properties/spec").and_then(Value::as_object_mut) {
            spec.insert("description".into(), "What is wanted.".into());
        }
    }
    value
}

/// Fields of Kubernetes' own types.
const FOREIGN: [&str; 3] = ["tolerations", "podSecurityContext", "securityContext"];

/// Makes a schema one that every API server takes without a warning:
/// integers are int64 (`uint64` is no known format), Kubernetes' own types
/// carry no descriptions (they would be most of the file).
fn tidy(schema: &mut Value, foreign: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["title", "$schema", "examples"] {
        object.remove(key);
    }
    if foreign {
        object.remove("description");
    }
    tidy_number(object);
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            tidy(inner, foreign);
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            let description = property.get("description").cloned();
            let is_foreign = FOREIGN.contains(&name.as_str());
            tidy(property, foreign || is_foreign);
            // The field itself is ours, what lies below is not.
            if is_foreign && let (Some(text), Some(own)) = (description, property.as_object_mut()) {
                own.insert("description".into(), text);
            }
        }
    }
}

/// Adds defaults to the descriptions: `kubectl explain` shows no others.
fn tell_defaults(schema: &mut Value) {
    let told = match schema.get("default") {
        Some(Value::String(text)) if !text.is_empty() => format!(" Default: {text}."),
        Some(default @ (Value::Number(_) | Value::Bool(_))) => format!(" Default: {default}."),
        _ => String::new(),
    };
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description += &told;
    }
    for inner in ["items", "additionalProperties"] {
        schema.get_mut(inner).into_iter().for_each(tell_defaults);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(tell_defaults);
}

fn tidy_number(object: &mut Map<String, Value>) {
    let unsigned = object
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with("uint"));
    if unsigned {
        let wide = object.get("format") == Some(&json!("uint64"));
        object.insert("format".into(), if wide { "int64" } else { "int32" }.into());
        object.entry("minimum").or_insert(json!(0));
    }
    // Rust's integers and lengths come as floats from some attributes.
    for key in ["minimum", "maximum"] {
        let whole = object.get(key).and_then(Value::as_f64).filter(|number| number.fract() == 0.0);
        if let Some(number) = whole {
            #[expect(clippy::cast_possible_truncation, reason = "limits of schemas are small")]
            object.insert(key.into(), json!(number as i64));
        }
    }
}
