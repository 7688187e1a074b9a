//! The page about all fields of the kinds, written from their definitions.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = "\
<!-- Written by `make generate` from crds/src; do not edit. -->
# Fields of the kinds

What `kubectl explain` says, on one page: `dbbackup.dev/v1alpha1`. `kubectl explain dbbs.spec.retention` shows one part in a
terminal. `[]` is a list, `{}` a map; *needed* has no default. What the API server refuses it
refuses in the words that stand behind *Refused*.
";

/// Fields below which stands the same in several places, from this number on.
const WORTH_A_REFERENCE: usize = 3;

/// The page as Markdown: `docs/reference.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = Page { text: HEAD.to_owned(), ..Page::default() };
    for (_, definition) in crate::definition::plain_definitions() {
        page.kind(&definition);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// Where a schema with many fields was written, by its text.
    written: BTreeMap<String, String>,
}

impl Page {
    fn kind(&mut self, definition: &Value) {
        let names = &definition["spec"]["names"];
        let kind = text(&names["kind"]);
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let short = text(&names["shortNames"][0]);
        self.line(&format!("\n## {kind}\n\n`{short}`. {}", text(&schema["description"])));
        for part in ["spec", "status"] {
            let part_schema = &schema["properties"][part];
            self.line(&format!("\n### {kind}: {part}"));
            self.line("\n| field | type | default | |");
            self.line("|---|---|---|---|");
            self.fields(kind, part, "", part_schema);
            self.rules(part_schema);
        }
    }

    /// A line for each field below a schema, and for those below them.
    fn fields(&mut self, kind: &str, part: &str, path: &str, schema: &Value) {
        let needed = |name: &str| {
            let needed = schema["required"].as_array().into_iter().flatten();
            needed.into_iter().any(|needed| needed == name)
        };
        let below = schema["properties"].as_object().into_iter().flatten();
        // Kubernetes' own fields are explained by `kubectl explain pod`.
        for (name, field) in below.filter(|(_, field)| field.get("description").is_some()) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (type_, inner, ending) = type_of(field);
            let default = match field.get("default") {
                Some(default) => format!("`{}`", cell(&default.to_string())),
                None if needed(name) => "*needed*".to_owned(),
                None => String::new(),
            };
            let path = format!("{path}{ending}");
            let known = self.known(kind, part, &path, inner);
            let says = format!(
                "{}{}{}",
                text(&field["description"]),
                refusals(field),
                refusals_of(inner, field)
            );
            let says = match &known {
                Some(place) => format!("{says} Fields: as in {place}."),
                None => says,
            };
            self.line(&format!("| `{path}` | {type_} | {default} | {} |", cell(&says)));
            if known.is_none() {
                self.fields(kind, part, &path, inner);
            }
        }
    }

    /// Where the fields of a schema stand already, if they are many.
    fn known(&mut self, kind: &str, part: &str, path: &str, schema: &Value) -> Option<String> {
        let fields = schema["properties"].as_object()?;
        if fields.len() < WORTH_A_REFERENCE {
            return None;
        }
        let key = Value::Object(fields.clone()).to_string();
        let place = format!("`{kind}` `{part}.{path}`");
        let known = self.written.get(&key).cloned();
        self.written.entry(key).or_insert(place);
        known
    }

    /// What is refused of the whole.
    fn rules(&mut self, schema: &Value) {
        let mut messages: Vec<&str> = messages(schema).collect();
        messages.dedup();
        if messages.is_empty() {
            return;
        }
        self.line("\nRefused, too:");
        self.line("");
        for message in messages {
            self.line(&format!("- {message}"));
        }
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}", line.trim_end());
    }
}

/// What a field is; the schema of what lies in it; what its path ends with.
fn type_of(field: &Value) -> (String, &Value, &'static str) {
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return (values.join(", "), field, "");
    }
    match text(&field["type"]) {
        "array" => {
            let (type_, inner, _) = type_of(&field["items"]);
            (format!("list of {type_}"), inner, "[]")
        }
        "object" if field.get("additionalProperties").is_some_and(Value::is_object) => {
            let (type_, inner, _) = type_of(&field["additionalProperties"]);
            (format!("map of {type_}"), inner, "{}")
        }
        "string" if field["format"] == "date-time" => ("time".to_owned(), field, ""),
        "" if field["x-kubernetes-int-or-string"] == true => ("quantity".to_owned(), field, ""),
        type_ => (type_.to_owned(), field, ""),
    }
}

/// The words with which a value of this field is refused.
fn refusals(field: &Value) -> String {
    let mut all = String::new();
    for message in messages(field) {
        let _ = write!(all, " *Refused:* {message}.");
    }
    all
}

/// Those of what lies in it, where that is another schema.
fn refusals_of(inner: &Value, field: &Value) -> String {
    if std::ptr::eq(inner, field) { String::new() } else { refusals(inner) }
}

fn messages(schema: &Value) -> impl Iterator<Item = &str> {
    let rules = schema["x-kubernetes-validations"].as_array();
    rules.into_iter().flatten().filter_map(|rule| rule["message"].as_str())
}

/// Text as a cell of a table may hold it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_all_fields_is_what_the_types_say() {
        let committed = include_str!("../../docs/reference.md");
        assert!(
            committed == reference_page(),
            "docs/reference.md is out of date: run `make generate`"
        );
    }

    #[test]
    fn fields_that_stand_elsewhere_are_written_once_and_lists_and_maps_are_marked() {
        let page = reference_page();
        assert_eq!(page.matches("`job.stallTimeout`").count(), 1);
        assert!(page.contains("Fields: as in `BackupRepository` `spec.job`."), "{page}");
        assert!(page.contains("| `copies[].name` | string | *needed* |"));
        assert!(page.contains("| `concurrencyPolicy` | `Forbid`, `Allow` | `\"Forbid\"` |"));
    }
}
