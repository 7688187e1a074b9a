//! Writing names and values into statements, by the server's rules.
//!
//! Names of a server are hostile: nothing else puts one into a statement.

/// A name as an identifier: always in quotes.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value as a string; our sessions have `standard_conforming_strings` on.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Settings whose value is a list of names, which the catalogue keeps with the
/// quotes they need (`GUC_LIST_QUOTE` in the server's `guc_tables.c`).
const LIST_SETTINGS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The name in an entry `name=value` of the catalogue, and `SET name TO …`; `None`
/// where it is not one.
pub(crate) fn set_clause(entry: &str) -> Option<(&str, String)> {
    let (name, value) = entry.split_once('=')?;
    // A setting of an extension has a name in two parts, each its own identifier.
    let shown: Vec<_> = name.split('.').map(ident).collect();
    let shown = shown.join(".");
    let value = if LIST_SETTINGS.contains(&name.to_ascii_lowercase().as_str()) {
        let names: Vec<_> = list_names(value).iter().map(|name| literal(name)).collect();
        if names.is_empty() { "''".to_owned() } else { names.join(", ") }
    } else {
        literal(value)
    };
    Some((name, format!("SET {shown} TO {value}")))
}

/// The names of a list, their quotes removed.
pub(crate) fn list_names(list: &str) -> Vec<String> {
    let (mut names, mut name, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                name.push('"');
            }
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ',' if !quoted => {
                names.push(std::mem::take(&mut name));
                any = false;
            }
            c if c.is_whitespace() && !quoted => {}
            c => name.push(c),
        }
    }
    if any || !name.is_empty() {
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(ident("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(literal("it's \\ done"), "'it''s \\ done'");
    }

    #[test]
    fn settings_are_set_as_the_catalogue_has_them() {
        let set = |entry| set_clause(entry).unwrap().1;
        assert_eq!(set("work_mem=64MB"), "SET \"work_mem\" TO '64MB'");
        assert_eq!(
            set("search_path=\"$user\", public, \"a,\"\"b\""),
            "SET \"search_path\" TO '$user', 'public', 'a,\"b'"
        );
        assert_eq!(set("search_path=\"\""), "SET \"search_path\" TO ''");
        assert_eq!(set("app.mode=it's"), "SET \"app\".\"mode\" TO 'it''s'");
        assert_eq!(set_clause("work_mem=64MB").unwrap().0, "work_mem");
        assert_eq!(set_clause("nothing"), None);
    }
}
