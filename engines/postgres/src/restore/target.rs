//! What the target has: gathered once, before anything is created.

use std::collections::HashSet;

use dbbackup_contract::{Failure, Reason};

use crate::connection::Session;
use crate::errors::query_failure;
use crate::server::Server;

/// A trusted one is created by whoever may create in the database, as its owner may.
const SUPERUSER_EXTENSIONS: &str = "SELECT v.name::text FROM pg_available_extension_versions v \
     JOIN pg_available_extensions e ON e.name = v.name AND e.default_version = v.version \
     WHERE v.superuser AND NOT v.trusted";

/// The target, as far as restores depend on it.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) major: u32,
    pub(super) superuser: bool,
    /// Our own role.
    pub(super) role: String,
    pub(super) roles: HashSet<String>,
    /// Roles that we may act as; all of them for a superuser.
    pub(super) own_roles: HashSet<String>,
    pub(super) tablespaces: HashSet<String>,
    pub(super) extensions: HashSet<String>,
    /// Those of them that only a superuser creates, as far as their control files say.
    pub(super) superuser_extensions: HashSet<String>,
    /// Names of settings.
    pub(super) settings: HashSet<String>,
}

impl Target {
    /// Looks around.
    ///
    /// # Errors
    /// `PermissionDenied` where we may not create databases at all.
    pub(super) async fn gather(server: &Server) -> Result<Self, Failure> {
        let session = &server.session;
        let row = session
            .query_one(
                "SELECT rolsuper, rolsuper OR rolcreatedb, pg_is_in_recovery(), rolname::text \
                 FROM pg_roles WHERE rolname = current_user",
                &[],
            )
            .await
            .map_err(|error| query_failure(&error, "looking at our own role"))?;
        let (superuser, creates, standby): (bool, bool, bool) =
            (row.get(0), row.get(1), row.get(2));
        let role: String = row.get(3);
        if standby {
            let message = "the target is a standby: nothing can be created on it";
            return Err(Failure::new(Reason::StatementFailed, message)
                .with_hint("Give the address of the primary."));
        }
        if !creates {
            let message = format!("role {role} may not create databases");
            return Err(Failure::new(Reason::PermissionDenied, message)
                .with_hint(format!("ALTER ROLE {role} CREATEDB, or use a role that has it.")));
        }
        // From 16 on a role may belong to another without being able to act as it. Its
        // rights must be inherited, too: what was given to the owner is still altered.
        let act_as = if server.major >= 16 { "SET" } else { "MEMBER" };
        let own = format!(
            "SELECT rolname::text FROM pg_roles WHERE pg_has_role(current_user, oid, '{act_as}') \
             AND pg_has_role(current_user, oid, 'USAGE')"
        );
        Ok(Self {
            major: server.major,
            superuser,
            role,
            roles: names(session, "SELECT rolname::text FROM pg_roles").await?,
            own_roles: names(session, &own).await?,
            tablespaces: names(session, "SELECT spcname::text FROM pg_tablespace").await?,
            extensions: names(session, "SELECT name::text FROM pg_available_extensions").await?,
            superuser_extensions: names(session, SUPERUSER_EXTENSIONS).await?,
            settings: names(session, "SELECT name FROM pg_settings").await?,
        })
    }
}

impl Target {
    /// Tells that `what` was left out, since no server of this major can have it.
    pub(super) fn lacks(&self, what: &str) -> String {
        format!("{what} is left out: PostgreSQL {} has no such thing", self.major)
    }
}

async fn names(session: &Session, sql: &str) -> Result<HashSet<String>, Failure> {
    let rows = session
        .query(sql, &[])
        .await
        .map_err(|error| query_failure(&error, "looking at the target"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
