//! Schemas and tables that a backup has not, and what may have been meant.

use std::collections::BTreeSet;

use dbbackup_contract::{Failure, Reason, TableName};

use super::choosing::{TABLES, shown};
use crate::archive::TocEntry;

/// Names that a hint gives.
const SHOWN: usize = 5;

pub(super) fn no_such_schema(entries: &[TocEntry], schema: &str) -> Failure {
    let there = entries.iter().filter_map(|entry| entry.namespace.as_deref());
    let names = closest(there, schema);
    let message = format!("the backup has no schema {schema}");
    Failure::new(Reason::TableNotFound, message).with_hint(meant("Schemas", &names))
}

pub(super) fn no_such_table(entries: &[TocEntry], table: &TableName) -> Failure {
    let TableName { schema, name } = table;
    let tables = || entries.iter().filter(|entry| TABLES.contains(&entry.description.as_str()));
    if !entries.iter().any(|entry| entry.namespace.as_ref() == Some(schema)) {
        return no_such_schema(entries, schema);
    }
    let message = format!("the backup has no table {table}");
    let failure = Failure::new(Reason::TableNotFound, message);
    let elsewhere: Vec<_> = tables().filter(|it| it.tag == *name).take(SHOWN).map(shown).collect();
    if !elsewhere.is_empty() {
        return failure.with_hint(format!("There is {}.", elsewhere.join(", ")));
    }
    let of_schema = tables().filter(|entry| entry.namespace.as_ref() == Some(schema));
    let names = closest(of_schema.map(|entry| entry.tag.as_str()), name);
    failure.with_hint(meant(&format!("Tables in {schema}"), &names))
}

pub(super) fn not_a_table(table: &TableName, kind: &str) -> Failure {
    let message = format!("{table} is a {}, and no table", kind.to_lowercase());
    Failure::new(Reason::TableNotFound, message).with_hint(
        "Views and sequences come back with their schema; the sequences of a table with the table.",
    )
}

/// The names that are most like `wanted`: it in other letters first.
fn closest<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Vec<&'a str> {
    let names: BTreeSet<_> = names.collect();
    let mut names: Vec<_> = names.into_iter().collect();
    let wanted_lower = wanted.to_lowercase();
    names.sort_by_cached_key(|name| {
        let name = name.to_lowercase();
        (!name.contains(&wanted_lower), strsim::damerau_levenshtein(&name, &wanted_lower))
    });
    names.truncate(SHOWN);
    names
}

fn meant(what: &str, names: &[&str]) -> String {
    match names {
        [] => "The backup has none of them.".to_owned(),
        names => format!("{what} with names like it: {}.", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(description: &str, schema: &str, tag: &str) -> TocEntry {
        TocEntry {
            description: description.into(),
            namespace: Some(schema.into()),
            tag: tag.into(),
            ..TocEntry::default()
        }
    }

    #[test]
    fn what_may_have_been_meant_is_told() {
        let mut entries: Vec<_> =
            (0..9).map(|n| entry("TABLE", "sales", &format!("archive_{n}"))).collect();
        entries.push(entry("TABLE", "sales", "Orders"));
        entries.push(entry("TABLE", "sales", "oders_old"));
        entries.push(entry("VIEW", "sales", "order"));
        entries.push(entry("TABLE", "hr", "people"));
        let hint = |schema: &str, name: &str| {
            let table = TableName { schema: schema.into(), name: name.into() };
            let failure = no_such_table(&entries, &table);
            assert_eq!(failure.reason, Reason::TableNotFound);
            failure.hint
        };
        let orders = hint("sales", "orders");
        assert!(
            orders.starts_with("Tables in sales with names like it: Orders, oders_old, "),
            "{orders}"
        );
        assert_eq!(orders.matches(", ").count(), SHOWN - 1);
        assert_eq!(hint("sales", "people"), "There is hr.people.");
        assert_eq!(hint("sale", "orders"), "Schemas with names like it: sales, hr.");
    }
}
