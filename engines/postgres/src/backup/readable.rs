//! Whether a database can be read whole, before `pg_dump` tries.
//!
//! `pg_dump` would fail on the first table that it may not read, with a message
//! in the server's language. Asking the catalogue names the tables in any.

use dbbackup_contract::{Failure, Reason, listed};

use crate::connection::Session;
use crate::errors::query_failure;

/// Tables that are named in a message; the rest is a number.
const NAMED: usize = 3;

/// What `pg_dump` reads: tables and sequences, of extensions only those whose
/// rows an extension has dumped. Policies of a partitioned table hide no rows
/// of its partitions, which are read one by one.
const UNREADABLE: &str = r"
SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'S',
    has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN c.relkind = 'S'
        THEN has_sequence_privilege(c.oid, 'SELECT')
        ELSE has_table_privilege(c.oid, 'SELECT') END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S')
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND (NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid AND d.deptype = 'e')
        OR EXISTS (SELECT FROM pg_extension e WHERE c.oid = ANY (e.extconfig)))
    AND (NOT has_schema_privilege(n.oid, 'USAGE')
        OR CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT')
            ELSE NOT has_table_privilege(c.oid, 'SELECT') END
        OR c.relkind = 'r' AND row_security_active(c.oid))
ORDER BY 1";

/// Large objects are nobody's but their owner's and whom they were granted to:
/// `pg_read_all_data` does not reach them.
const UNREADABLE_LARGE_OBJECTS: &str = r"
SELECT count(*), min(m.oid) FROM pg_largeobject_metadata m
WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
    AND NOT current_setting('lo_compat_privileges')::boolean
    AND NOT pg_has_role(m.lomowner, 'USAGE')
    AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
        AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))";

/// Refuses a database of which not everything can be read.
pub(super) async fn check_readable(session: &Session) -> Result<(), Failure> {
    let rows = session
        .query(UNREADABLE, &[])
        .await
        .map_err(|error| query_failure(&error, "looking for tables that may not be read"))?;
    let Some(first) = rows.first() else { return check_large_objects(session).await };
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let shown = listed(&names, NAMED);
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

async fn check_large_objects(session: &Session) -> Result<(), Failure> {
    let row = session
        .query_one(UNREADABLE_LARGE_OBJECTS, &[])
        .await
        .map_err(|error| query_failure(&error, "looking for large objects that may not be read"))?;
    let (count, first): (i64, Option<u32>) = (row.get(0), row.get(1));
    let Some(first) = first else { return Ok(()) };
    let shown = match count {
        1 => format!("large object {first}"),
        _ => format!("{count} large objects, the first is {first}"),
    };
    Err(Failure::new(Reason::PermissionDenied, format!("permission denied for {shown}")).with_hint(
        "Make the backup role a superuser or a member of the large objects' owners, or \
                    grant it SELECT on them.",
    ))
}
