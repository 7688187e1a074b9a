//! What our session sets before the parts of `pg_restore`'s script, so that a
//! target's own settings change nothing of what is loaded: pure.

use super::contents::Wanted;
use super::target::Target;
use crate::archive::Phase;
use crate::backup::Initial;
use crate::sql::{list_names, literal};

/// Oldest major whose owner of a database may drop its schema `public`.
const OWNER_HAS_PUBLIC: u32 = 15;

/// Statements of ours that begin the parts of a load. What they set stays set.
#[derive(Clone, Debug, Default)]
pub(super) struct Prologue {
    before_data: Vec<String>,
    data: Vec<String>,
}

impl Prologue {
    /// Those that begin this part.
    pub(super) fn of(&self, phase: Phase) -> &[String] {
        match phase {
            Phase::BeforeData => &self.before_data,
            Phase::Data => &self.data,
            // The preamble takes the data's search_path back.
            Phase::AfterData => &[],
        }
    }
}

/// What begins the load of `wanted`, and warnings of what will not be as it was.
pub(super) fn plan_prologue(wanted: &Wanted, target: &Target) -> (Prologue, Vec<String>) {
    let unwritten = &wanted.document.unwritten;
    // With the other values, the first would load the word NULL, the second would
    // read expressions as others than were written, and the third would keep the
    // options of text search with quotes.
    let mut before_data = vec![
        "SET array_nulls = on".to_owned(),
        "SET transform_null_equals = off".to_owned(),
        "SET quote_all_identifiers = off".to_owned(),
    ];
    if let Some(locale) = &unwritten.lc_monetary {
        before_data.push(format!("SET lc_monetary = {}", literal(locale)));
    }
    let mut warnings = Vec::new();
    for initial in &unwritten.without {
        let (what, ours) = match initial {
            Initial::PublicSchema => ("SCHEMA public", target.major >= OWNER_HAS_PUBLIC),
            Initial::Plpgsql => ("EXTENSION plpgsql", false),
        };
        if ours || target.superuser {
            before_data.push(format!("DROP {what}"));
        } else {
            warnings.push(format!("it has {what}, which it had not: only a superuser can drop it"));
        }
    }
    let subscriptions = &wanted.layout.needs.subscriptions;
    if !subscriptions.is_empty() {
        // As pg_dump writes them: disabled, and never connected.
        warnings.push(format!(
            "not enabled, and naming the replication slots of the original: subscriptions {}",
            subscriptions.join(", ")
        ));
    }
    let properties = &wanted.document.properties;
    let data = properties.search_path.iter().map(|path| set_path(path, &properties.owner));
    (Prologue { before_data, data: data.collect() }, warnings)
}

/// `SET search_path` to what the catalogue has, as `owner` would have it.
fn set_path(path: &str, owner: &str) -> String {
    // An empty name stands for no schema, and is no identifier.
    let names: Vec<_> = list_names(path)
        .iter()
        .map(|name| literal(if name == "$user" { owner } else { name }))
        .collect();
    let names = if names.is_empty() { literal("") } else { names.join(", ") };
    format!("SET search_path TO {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_owners() {
        assert_eq!(
            set_path("\"$user\", public", "al\"ice"),
            "SET search_path TO 'al\"ice', 'public'"
        );
        assert_eq!(set_path("\"Odd, one\"", "a"), "SET search_path TO 'Odd, one'");
        assert_eq!(set_path("", "a"), "SET search_path TO ''");
        assert_eq!(set_path("\"\"", "a"), "SET search_path TO ''");
    }
}
