//! Whether a database can be read whole, before `pg_dump` tries.
//!
//! `pg_dump` would fail on the first table that it may not read, with a message
//! in the server's language. Asking the catalogue names the tables in any.

use dbbackup_contract::{Failure, Reason};

use crate::connection::Session;
use crate::errors::query_failure;

/// Tables that are named in a message; the rest is a number.
const NAMED: usize = 3;

const UNREADABLE: &str = r"
SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'S',
    has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN c.relkind = 'S'
        THEN has_sequence_privilege(c.oid, 'SELECT')
        ELSE has_table_privilege(c.oid, 'SELECT') END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S')
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = c.oid AND d.deptype = 'e')
    AND (NOT has_schema_privilege(n.oid, 'USAGE')
        OR CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT')
            ELSE NOT has_table_privilege(c.oid, 'SELECT') OR row_security_active(c.oid) END)
ORDER BY 1";

/// Refuses a database of which not everything can be read.
pub(super) async fn check_readable(session: &Session) -> Result<(), Failure> {
    let rows = session
        .query(UNREADABLE, &[])
        .await
        .map_err(|error| query_failure(&error, "looking for tables that may not be read"))?;
    let Some(first) = rows.first() else { return Ok(()) };
    let names: Vec<String> = rows.iter().take(NAMED).map(|row| row.get(0)).collect();
    let mut shown = names.join(", ");
    if rows.len() > NAMED {
        shown.push_str(&format!(" and {} more", rows.len() - NAMED));
    }
    if first.get::<_, bool>(2) {
        return Err(Failure::new(
            Reason::PermissionDenied,
            format!("row-level security hides rows of {shown}"),
        )
        .with_hint("Give the backup role BYPASSRLS, or use a role that owns the tables."));
    }
    let kind = if first.get::<_, bool>(1) { "sequence" } else { "table" };
    Err(Failure::new(Reason::PermissionDenied, format!("permission denied for {kind} {shown}"))
        .with_hint(
            "Grant the role pg_read_all_data to the backup role, or SELECT on what the message \
             names, or exclude the database.",
        ))
}
