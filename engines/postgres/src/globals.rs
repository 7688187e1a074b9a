//! Roles and tablespaces of a server: `globals.json`.
//!
//! They are kept as data and not as the text of `pg_dumpall --globals-only`,
//! because a merge creates what is missing and leaves the rest alone.

use serde::{Deserialize, Serialize};

use dbbackup_contract::Failure;

use crate::connection::Session;
use crate::database::parse;
use crate::errors::query_failure;

/// Version of the document.
pub(crate) const GLOBALS_VERSION: u32 = 1;

/// Roles and tablespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Globals {
    /// [`GLOBALS_VERSION`] of the writer.
    pub(crate) version: u32,
    /// Whether the hashes of passwords could be read.
    pub(crate) with_passwords: bool,
    pub(crate) roles: Vec<Role>,
    pub(crate) memberships: Vec<Membership>,
    /// Rights to set parameters; from PostgreSQL 15 on.
    #[serde(default)]
    pub(crate) parameters: Vec<ParameterPrivilege>,
    pub(crate) tablespaces: Vec<Tablespace>,
}

/// A role; those that every server has (`pg_…`) are not recorded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) superuser: bool,
    pub(crate) inherit: bool,
    pub(crate) create_role: bool,
    pub(crate) create_database: bool,
    pub(crate) login: bool,
    pub(crate) replication: bool,
    pub(crate) bypass_row_security: bool,
    pub(crate) connection_limit: i64,
    pub(crate) valid_until: Option<String>,
    /// The hash, as the server keeps it.
    pub(crate) password: Option<String>,
    pub(crate) comment: Option<String>,
    /// `ALTER ROLE … SET`, as the catalogue keeps it.
    pub(crate) settings: Vec<String>,
}

/// A hash of a password is a secret too.
impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One role in another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    pub(crate) role: String,
    pub(crate) member: String,
    pub(crate) grantor: Option<String>,
    pub(crate) admin: bool,
    /// From PostgreSQL 16 on.
    pub(crate) inherit: Option<bool>,
    /// From PostgreSQL 16 on.
    pub(crate) set: Option<bool>,
}

/// The right to set a parameter of the server: `GRANT … ON PARAMETER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParameterPrivilege {
    pub(crate) parameter: String,
    /// `None` is everybody.
    pub(crate) grantee: Option<String>,
    pub(crate) grantor: String,
    /// `SET` or `ALTER SYSTEM`.
    pub(crate) privilege: String,
    pub(crate) grantable: bool,
}

/// A tablespace: recorded to be looked at; a restore never creates one, since
/// its folder must exist on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tablespace {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) location: String,
    pub(crate) options: Vec<String>,
    pub(crate) comment: Option<String>,
}

const GLOBALS: &str = r"
SELECT jsonb_build_object(
    'version', 1,
    'withPasswords', has_column_privilege('pg_authid', 'rolpassword', 'SELECT'),
    'roles', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', r.rolname,
            'superuser', r.rolsuper,
            'inherit', r.rolinherit,
            'createRole', r.rolcreaterole,
            'createDatabase', r.rolcreatedb,
            'login', r.rolcanlogin,
            'replication', r.rolreplication,
            'bypassRowSecurity', r.rolbypassrls,
            'connectionLimit', r.rolconnlimit,
            'validUntil', r.rolvaliduntil::text,
            'password', NULL,
            'comment', shobj_description(r.oid, 'pg_authid'),
            'settings', coalesce((SELECT to_jsonb(s.setconfig) FROM pg_db_role_setting s
                WHERE s.setrole = r.oid AND s.setdatabase = 0), '[]')) ORDER BY r.rolname), '[]')
        FROM pg_roles r WHERE r.rolname !~ '^pg_'),
    'memberships', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'role', r.rolname,
            'member', m.rolname,
            'grantor', g.rolname,
            'admin', a.admin_option,
            'inherit', to_jsonb(a)->'inherit_option',
            'set', to_jsonb(a)->'set_option') ORDER BY r.rolname, m.rolname, g.rolname), '[]')
        FROM pg_auth_members a
            JOIN pg_roles r ON r.oid = a.roleid
            JOIN pg_roles m ON m.oid = a.member
            LEFT JOIN pg_roles g ON g.oid = a.grantor
        WHERE m.rolname !~ '^pg_'),
    'tablespaces', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', t.spcname,
            'owner', pg_get_userbyid(t.spcowner),
            'location', pg_tablespace_location(t.oid),
            'options', coalesce(to_jsonb(t.spcoptions), '[]'),
            'comment', shobj_description(t.oid, 'pg_tablespace')) ORDER BY t.spcname), '[]')
        FROM pg_tablespace t WHERE t.spcname !~ '^pg_'))";

/// The catalogue that it reads is of 15 and later.
const PARAMETERS: &str = r"
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'parameter', p.parname,
    'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
    'grantor', pg_get_userbyid(a.grantor),
    'privilege', a.privilege_type,
    'grantable', a.is_grantable) ORDER BY p.parname, n), '[]')
FROM pg_parameter_acl p, aclexplode(p.paracl) WITH ORDINALITY
    AS a(grantor, grantee, privilege_type, is_grantable, n)
-- The superuser's own, which every superuser has anyway.
WHERE a.grantee <> 10";

/// Reads roles and tablespaces; hashes of passwords only where we may.
pub(crate) async fn read_globals(session: &Session) -> Result<Globals, Failure> {
    let doing = "reading roles and tablespaces";
    let row =
        session.query_one(GLOBALS, &[]).await.map_err(|error| query_failure(&error, doing))?;
    let mut globals: Globals = parse(row.try_get(0))?;
    if session.major >= 15 {
        let row = session
            .query_one(PARAMETERS, &[])
            .await
            .map_err(|error| query_failure(&error, doing))?;
        globals.parameters = parse(row.try_get(0))?;
    }
    if globals.with_passwords {
        let sql = "SELECT rolname::text, rolpassword FROM pg_authid";
        let rows = session.query(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
        for row in rows {
            let name: String = row.get(0);
            if let Some(role) = globals.roles.iter_mut().find(|role| role.name == name) {
                role.password = row.get(1);
            }
        }
    }
    Ok(globals)
}
