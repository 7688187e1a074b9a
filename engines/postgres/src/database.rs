//! What belongs to a database itself and not to its contents: `database.json`.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;

use dbbackup_contract::{Failure, Reason};

use crate::connection::Session;
use crate::errors::query_failure;

/// A database's own properties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DatabaseProperties {
    pub(crate) name: String,
    pub(crate) owner: String,
    /// The server's name of it: `UTF8`.
    pub(crate) encoding: String,
    /// `c` (libc), `i` (ICU) or `b` (the server's own).
    pub(crate) locale_provider: String,
    pub(crate) collate: String,
    pub(crate) ctype: String,
    /// Locale of the providers but libc.
    pub(crate) locale: Option<String>,
    pub(crate) icu_rules: Option<String>,
    pub(crate) collation_version: Option<String>,
    pub(crate) connection_limit: i64,
    pub(crate) allows_connections: bool,
    pub(crate) is_template: bool,
    pub(crate) tablespace: String,
    pub(crate) comment: Option<String>,
    /// Privileges; `None` are the server's defaults.
    pub(crate) privileges: Option<Vec<Privilege>>,
    /// `ALTER DATABASE … SET`, and `ALTER ROLE … IN DATABASE … SET`.
    pub(crate) settings: Vec<Setting>,
    /// `search_path` of a session of the owner.
    #[serde(default)]
    pub(crate) search_path: Option<String>,
    /// Every role that the database's contents refer to.
    pub(crate) roles: Vec<String>,
    /// Bytes on the server's disk; `None` where we may not know.
    pub(crate) size_bytes: Option<i64>,
}

/// One privilege.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Privilege {
    /// `None` is everybody.
    pub(crate) grantee: Option<String>,
    pub(crate) grantor: String,
    /// `CONNECT`, `CREATE`, `TEMPORARY`.
    pub(crate) privilege: String,
    pub(crate) grantable: bool,
}

/// Settings of one role, or of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Setting {
    /// `None` is every role.
    pub(crate) role: Option<String>,
    /// `name=value`, as the catalogue keeps it.
    pub(crate) values: Vec<String>,
}

impl DatabaseProperties {
    /// Roles that the database's own privileges and settings name.
    pub(crate) fn granted_roles(&self) -> impl Iterator<Item = &str> {
        let granted = self.privileges.iter().flatten();
        let granted =
            granted.flat_map(|p| p.grantee.as_deref().into_iter().chain([p.grantor.as_str()]));
        let set = self.settings.iter().filter_map(|setting| setting.role.as_deref());
        granted.chain(set)
    }
}

/// One row as JSON: which columns the catalogue has depends on the server's
/// version, and `to_jsonb` gives those that there are.
const PROPERTIES: &str = r"
SELECT jsonb_build_object(
    'name', d.datname,
    'owner', pg_get_userbyid(d.datdba),
    'encoding', pg_encoding_to_char(d.encoding),
    'localeProvider', coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
    'collate', d.datcollate,
    'ctype', d.datctype,
    'locale', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'),
    'icuRules', to_jsonb(d)->>'daticurules',
    'collationVersion', to_jsonb(d)->>'datcollversion',
    'connectionLimit', d.datconnlimit,
    'allowsConnections', d.datallowconn,
    'isTemplate', d.datistemplate,
    'tablespace', t.spcname,
    'comment', shobj_description(d.oid, 'pg_database'),
    'privileges', CASE WHEN d.datacl IS NOT NULL THEN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
            'grantor', pg_get_userbyid(a.grantor),
            'privilege', a.privilege_type,
            'grantable', a.is_grantable) ORDER BY n), '[]')
        FROM aclexplode(d.datacl) WITH ORDINALITY
            AS a(grantor, grantee, privilege_type, is_grantable, n)) END,
    'settings', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END,
            'values', to_jsonb(s.setconfig)) ORDER BY s.setrole), '[]')
        FROM pg_db_role_setting s WHERE s.setdatabase = d.oid),
    'searchPath', coalesce((
        SELECT substr(c, length('search_path=') + 1)
        FROM pg_db_role_setting s, unnest(s.setconfig) AS c
        WHERE c LIKE 'search\_path=%' AND s.setdatabase IN (0, d.oid) AND s.setrole IN (0, d.datdba)
        ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1),
        (SELECT reset_val FROM pg_settings WHERE name = 'search_path')),
    'roles', (
        SELECT coalesce(jsonb_agg(DISTINCT pg_get_userbyid(p.refobjid)), '[]')
        FROM pg_shdepend p
        WHERE p.dbid = d.oid AND p.refclassid = 'pg_authid'::regclass),
    'sizeBytes', CASE WHEN has_database_privilege(d.oid, 'CONNECT')
        OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END)
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace";

/// Predefined roles (`pg_…`) that privileges and policies of the database name.
///
/// The catalogue of dependencies leaves them out, since nobody can drop them; but
/// an older server lacks the newer ones. What the server itself brought (OIDs
/// below 16384) speaks of roles that it has.
const PREDEFINED_ROLES: &str = r"
WITH named(role) AS (
    SELECT (aclexplode(relacl)).grantee FROM pg_class WHERE oid >= 16384
    UNION SELECT (aclexplode(attacl)).grantee FROM pg_attribute WHERE attrelid >= 16384
    UNION SELECT (aclexplode(proacl)).grantee FROM pg_proc WHERE oid >= 16384
    UNION SELECT (aclexplode(typacl)).grantee FROM pg_type WHERE oid >= 16384
    UNION SELECT a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE (n.oid >= 16384 OR n.nspname = 'public') AND a.grantee <> n.nspowner
    UNION SELECT (aclexplode(lanacl)).grantee FROM pg_language
    UNION SELECT (aclexplode(fdwacl)).grantee FROM pg_foreign_data_wrapper
    UNION SELECT (aclexplode(srvacl)).grantee FROM pg_foreign_server
    UNION SELECT (aclexplode(lomacl)).grantee FROM pg_largeobject_metadata
    UNION SELECT (aclexplode(defaclacl)).grantee FROM pg_default_acl
    UNION SELECT unnest(polroles) FROM pg_policy)
SELECT r.rolname::text FROM named JOIN pg_roles r ON r.oid = named.role
WHERE r.rolname ~ '^pg_' ORDER BY 1";

/// Every database of the server, the largest first.
///
/// The largest first: the end of a run is not held up by one that was left for
/// last, and the position of the snapshot is that of the one that matters most.
pub(crate) async fn list_databases(session: &Session) -> Result<Vec<DatabaseProperties>, Failure> {
    let sql = format!("{PROPERTIES} WHERE d.datconnlimit <> -2");
    let rows = session
        .query(&sql, &[])
        .await
        .map_err(|error| query_failure(&error, "listing the databases"))?;
    let mut databases = rows
        .iter()
        .map(|row| parse(row.try_get(0)))
        .collect::<Result<Vec<DatabaseProperties>, Failure>>()?;
    databases.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.name.cmp(&b.name)));
    Ok(databases)
}

/// The properties of `database`, asked for where the databases were listed.
///
/// What all databases share (names, comments, settings) has no encoding of its
/// own: in another session it might be other text.
pub(crate) async fn read_properties(
    session: &Session,
    database: &str,
) -> Result<DatabaseProperties, Failure> {
    let sql = format!("{PROPERTIES} WHERE d.datname = $1");
    let row = session
        .query_opt(&sql, &[&database])
        .await
        .map_err(|error| query_failure(&error, "reading the database's properties"))?;
    match row {
        Some(row) => parse(row.try_get(0)),
        None => Err(Failure::new(Reason::DatabaseNotFound, "it was dropped or renamed just now")),
    }
}

/// Predefined roles that the contents of `session`'s database refer to.
pub(crate) async fn read_predefined_roles(session: &Session) -> Result<Vec<String>, Failure> {
    let rows = session
        .query(PREDEFINED_ROLES, &[])
        .await
        .map_err(|error| query_failure(&error, "reading whom the database's privileges name"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A value that the server built as JSON for us.
pub(crate) fn parse<T: for<'a> Deserialize<'a>>(
    value: Result<Json<T>, tokio_postgres::Error>,
) -> Result<T, Failure> {
    value.map(|Json(value)| value).map_err(|error| {
        Failure::new(Reason::Internal, format!("the catalogue is not what was expected: {error}"))
    })
}
