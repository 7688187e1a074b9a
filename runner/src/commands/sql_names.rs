//! Names of schemas and tables as SQL has them: without quotes in lower case, with quotes as they
//! are.

use dbbackup_contract::{Failure, Reason, TableName};

/// `SCHEMA`.
pub(super) fn schema_name(text: &str) -> Result<String, Failure> {
    match parts(text).as_deref() {
        Some([name]) => Ok(name.clone()),
        _ => Err(wrong("--schema", text, "--schema sales, or --schema '\"Odd schema\"'")),
    }
}

/// `SCHEMA.NAME`.
pub(super) fn table_name(text: &str) -> Result<TableName, Failure> {
    match parts(text).as_deref() {
        Some([schema, name]) => Ok(TableName { schema: schema.clone(), name: name.clone() }),
        _ => Err(wrong("--table", text, "--table sales.orders, or --table 'sales.\"Odd table\"'")),
    }
}

fn wrong(flag: &str, text: &str, example: &str) -> Failure {
    let message = format!("{flag} {text} is no such name as SQL has them");
    Failure::new(Reason::UsageError, message).with_hint(format!("Write {example}."))
}

/// The names between the dots.
fn parts(text: &str) -> Option<Vec<String>> {
    let (mut names, mut rest) = (Vec::new(), text);
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (name, behind) = rest.split_at(end);
                let is_plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                (Some(name).filter(|name| name.chars().all(is_plain))?.to_ascii_lowercase(), behind)
            }
        };
        if name.is_empty() {
            return None;
        }
        names.push(name);
        if behind.is_empty() {
            return Some(names);
        }
        rest = behind.strip_prefix('.')?;
    }
}

/// A name up to its closing quote, and what stands behind that.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None => return Some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_server_reads_them() {
        let table = |text: &str| table_name(text).map(|it| (it.schema, it.name)).ok();
        let is = |schema: &str, name: &str| Some((schema.to_owned(), name.to_owned()));
        assert_eq!(table("Sales.Orders_2$"), is("sales", "orders_2$"));
        assert_eq!(table("\"Sales\".\"Or.d\"\"er's\""), is("Sales", "Or.d\"er's"));
        assert_eq!(table("sales.größe"), is("sales", "größe"));
        for wrong in ["orders", "a.b.c", "a.", ".b", "a.\"b", "a.\"\"", "a.b c", "\"a\"b.c", ""] {
            assert_eq!(table_name(wrong).unwrap_err().reason, Reason::UsageError, "{wrong}");
        }
        assert_eq!(schema_name("Sales").unwrap(), "sales");
        assert_eq!(schema_name("\"a.b\"").unwrap(), "a.b");
        assert!(schema_name("a.b").is_err());
    }
}
