//! The generated files are what the types say, and small and bounded enough for the API server.

use std::path::Path;

use serde_json::Value;

#[test]
fn the_files_in_the_project_and_in_the_chart_are_those_that_are_generated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["crds/yaml", "charts/dbbackup/files/crds"] {
        let expected = dbbackup_crds::definitions_yaml().unwrap();
        for (name, yaml) in &expected {
            let path = root.join(folder).join(name);
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == *yaml,
                "{} is out of date: run `make generate`, and commit what it changes",
                path.display()
            );
        }
        let files = std::fs::read_dir(root.join(folder)).unwrap().count();
        assert_eq!(files, expected.len(), "{folder} holds a file that nothing generates");
    }
}

#[test]
fn a_definition_stays_below_the_size_that_clients_can_apply() {
    for (name, yaml) in dbbackup_crds::definitions_yaml().unwrap() {
        // Client-side apply keeps a copy in an annotation of at most 256 KiB.
        assert!(yaml.len() < 250_000, "{name} has {} bytes", yaml.len());
    }
}

#[test]
fn every_string_list_and_map_of_ours_has_a_maximum() {
    for (name, crd) in dbbackup_crds::definitions() {
        let spec = crd
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .unwrap_or_else(|| panic!("{name} has no spec"));
        bounded(&format!("{name}.spec"), spec);
    }
}

/// Whether a field is of Kubernetes' own types.
fn is_foreign(path: &str) -> bool {
    [".tolerations", ".podSecurityContext", ".securityContext"].iter().any(|it| path.ends_with(it))
}

fn bounded(path: &str, schema: &Value) {
    // Kubernetes' own types are not ours to bound.
    if is_foreign(path) {
        return;
    }
    let has = |key: &str| schema.get(key).is_some();
    match schema["type"].as_str() {
        Some("string") => assert!(
            has("maxLength") || has("enum") || schema["format"] == "date-time",
            "{path} is a string without a maximum"
        ),
        Some("array") => {
            assert!(has("maxItems"), "{path} is a list without a maximum");
            bounded(&format!("{path}[]"), &schema["items"]);
        }
        Some("object") if has("additionalProperties") => {
            assert!(has("maxProperties"), "{path} is a map without a maximum");
        }
        _ => {}
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            bounded(&format!("{path}.{name}"), property);
        }
    }
}

#[test]
fn every_field_is_explained_and_no_format_is_unknown_to_kubernetes() {
    for (name, crd) in dbbackup_crds::definitions() {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            explained(&format!("{name}.{part}"), &schema["properties"][part]);
        }
    }
}

fn explained(path: &str, schema: &Value) {
    if is_foreign(path) {
        return;
    }
    if let Some(format) = schema["format"].as_str() {
        assert!(["int32", "int64", "date-time", "double"].contains(&format), "{path}: {format}");
    }
    explained_items(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            assert!(property.get("description").is_some(), "{path} is not explained");
            explained(&path, property);
        }
    }
}

fn explained_items(path: &str, schema: &Value) {
    if let Some(items) = schema.get("items") {
        explained(&format!("{path}[]"), items);
    }
}

#[test]
fn hosts_and_paths_are_refused_with_sentences_and_not_with_a_pattern() {
    let mut found = Vec::new();
    for (_, crd) in dbbackup_crds::definitions() {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        refused("spec", &schema["properties"]["spec"], &mut found);
    }
    let of = |field: &str| found.iter().filter(|(path, _)| path.ends_with(field)).count();
    // A schedule's, a template's and a restore's.
    assert_eq!((of(".host"), of(".volume.path")), (3, 1), "{found:?}");
    for (path, messages) in &found {
        let expected =
            if path.ends_with(".host") { "the port has its own field" } else { "/dbbackup" };
        assert!(messages.contains(expected), "{path}: {messages}");
    }
}

/// The words with which hosts and paths below `schema` are refused.
fn refused(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
    if path.ends_with(".host") || path.ends_with(".volume.path") {
        assert_eq!(schema.get("pattern"), None, "{path}");
        let rules = schema["x-kubernetes-validations"].as_array();
        let messages = rules.into_iter().flatten().map(|rule| rule["message"].to_string());
        found.push((path.to_owned(), messages.collect()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        refused(&format!("{path}.{name}"), property, found);
    }
}
