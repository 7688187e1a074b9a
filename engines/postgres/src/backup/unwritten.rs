//! What `pg_dump` does not write down about a database: what a restore must
//! know all the same, and what a person must be told.

use dbbackup_contract::{Failure, listed};
use dbbackup_engine::ChildExit;
use serde::{Deserialize, Serialize};

use crate::connection::Session;
use crate::database::parse;
use crate::errors::query_failure;

/// Names that a warning lists; the rest is a number.
const NAMED: usize = 3;

/// What a restore must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Unwritten {
    /// `lc_monetary` of the dump, where the database has columns of type `money`:
    /// their text means nothing without it.
    pub(crate) lc_monetary: Option<String>,
    /// What every new database has and this one has not.
    pub(crate) without: Vec<Initial>,
}

/// What a new database has from its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Initial {
    /// `SCHEMA public`.
    PublicSchema,
    /// `EXTENSION plpgsql`.
    Plpgsql,
}

/// What the catalogue answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    unwritten: Unwritten,
    invalid_indexes: Vec<String>,
    in_pg_catalog: Vec<String>,
    unlogged_elsewhere: Vec<String>,
    security_labels: u64,
    hidden_mappings: u64,
}

const UNWRITTEN: &str = r"
SELECT jsonb_build_object(
    'unwritten', jsonb_build_object(
        'lcMonetary', CASE WHEN EXISTS (
                SELECT FROM pg_attribute WHERE atttypid IN ('money'::regtype, 'money[]'::regtype))
            OR EXISTS (SELECT FROM pg_type WHERE typbasetype IN ('money'::regtype, 'money[]'::regtype))
            OR EXISTS (SELECT FROM pg_range WHERE rngsubtype = 'money'::regtype)
            THEN current_setting('lc_monetary') END,
        'without', (SELECT coalesce(jsonb_agg(name), '[]') FROM (
            SELECT 'PublicSchema' WHERE to_regnamespace('public') IS NULL
            UNION ALL
            SELECT 'Plpgsql' WHERE NOT EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql')
            ) AS missing(name))),
    'invalidIndexes', (
        SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready)
            AND n.nspname !~ '^pg_'),
    -- What a server is made with has numbers below 16384.
    'inPgCatalog', (
        SELECT coalesce(jsonb_agg(a.identity ORDER BY a.identity), '[]')
        FROM (SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
            UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator
            UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace FROM pg_collation
            UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace FROM pg_conversion
            UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace FROM pg_opclass
            UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
            UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace FROM pg_ts_dict
            UNION ALL SELECT 'pg_class'::regclass, oid, relnamespace FROM pg_class
                WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
                WHERE typtype IN ('d', 'e', 'r') OR typtype = 'b' AND typcategory <> 'A'
        ) AS o(class, oid, namespace), pg_identify_object(o.class, o.oid, 0) AS a
        -- One that was dropped just now has no identity.
        WHERE o.oid >= 16384 AND a.identity IS NOT NULL
            AND o.namespace = 'pg_catalog'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class
                AND d.objid = o.oid AND d.deptype = 'e')),
    'unloggedElsewhere', (
        SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE pg_is_in_recovery() AND c.relpersistence = 'u' AND c.relkind IN ('r', 'S')
            AND n.nspname !~ '^pg_'),
    'securityLabels', (
        SELECT count(*) FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid
        WHERE l.classoid = 'pg_database'::regclass AND d.datname = current_database()),
    'hiddenMappings', (
        SELECT count(*) FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
        WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            AND NOT (m.umuser <> 0 AND m.usename = current_user
                AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE')))
            AND NOT (m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE'))))";

/// Asks the database that `session` is connected to; the second is for people.
pub(super) async fn read_unwritten(session: &Session) -> Result<(Unwritten, Vec<String>), Failure> {
    let doing = "looking for what pg_dump leaves out";
    let row =
        session.query_one(UNWRITTEN, &[]).await.map_err(|error| query_failure(&error, doing))?;
    let found: Found = parse(row.try_get(0))?;
    let mut warnings = Vec::new();
    if !found.invalid_indexes.is_empty() {
        let names = listed(&found.invalid_indexes, NAMED);
        warnings.push(format!("not in the backup, because they are not valid: indexes {names}"));
    }
    if !found.in_pg_catalog.is_empty() {
        let names = listed(&found.in_pg_catalog, NAMED);
        warnings
            .push(format!("not in the backup, because they are in the schema pg_catalog: {names}"));
    }
    if !found.unlogged_elsewhere.is_empty() {
        let names = listed(&found.unlogged_elsewhere, NAMED);
        warnings.push(format!(
            "not in the backup, because a standby has no rows of what is unlogged: {names}"
        ));
    }
    if found.security_labels > 0 {
        warnings.push("not in the backup: the security labels of the database itself".to_owned());
    }
    if found.hidden_mappings > 0 {
        warnings.push(format!(
            "{} user mappings are in the backup without their options (passwords): only a \
             superuser may read them",
            found.hidden_mappings
        ));
    }
    Ok((found.unwritten, warnings))
}

/// What a `pg_dump` that ended well warned of: it left something out.
pub(super) fn warnings_of(exit: &ChildExit) -> Vec<String> {
    let lines = exit.stderr.lines();
    lines.filter_map(|line| line.strip_prefix("pg_dump: warning: ")).map(str::to_owned).collect()
}
