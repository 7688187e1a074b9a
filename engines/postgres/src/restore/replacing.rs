//! Replacing the database that stands under a target's name (`Swap`, `Overwrite`).
//!
//! The restored database is made beside it, loaded and compared as any other. Then one
//! transaction gives the old one another name and the restored one the old one's: whoever
//! looks sees the one or the other under the name, and nothing in between. A rename needs
//! that nobody is connected. It locks the name first, so that nobody new comes in, and waits
//! for five seconds for those who are there (`CountOtherDBBackends` in the server's
//! `procarray.c`); a second session of ours ends them meanwhile, where that is wanted.

use std::convert::Infallible;
use std::time::Duration;

use dbbackup_contract::{ErrorClass, Failure, Reason, ReplacedDatabase};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::contents::MAX_NAME_BYTES;
use super::scratch::{Scratch, look_at, scratch_name};
use crate::connection::Session;
use crate::errors::query_failure;
use crate::server::open_session;
use crate::sql::{ident, literal};
use crate::{Replace, ServerConnection, Strategy};

/// Pause between two tries of the renames, and between two looks at who is connected.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest `lock_timeout`, in milliseconds.
const LONGEST_LOCK_TIMEOUT: u128 = i32::MAX as u128;
/// Databases that the server itself needs under their names.
const OF_THE_SERVER: [&str; 2] = ["template0", "template1"];
/// Roles that a message names.
const NAMED: i64 = 5;

/// What becomes of the database under the target's name.
#[derive(Clone, Debug)]
pub(super) struct Replacing {
    /// The name that it gets.
    pub(super) name: String,
    /// Whether it stays there.
    pub(super) is_kept: bool,
    how: Replace,
    target: String,
}

impl Replacing {
    /// As the strategy says; the same in every attempt.
    pub(super) fn new(strategy: &Strategy, request_uid: &str, target: &str) -> Option<Self> {
        let target = target.to_owned();
        match strategy {
            Strategy::CreateNew => None,
            Strategy::Swap(how) => {
                let name = with_suffix(&target, &format!("_before_{}", how.stamp));
                Some(Self { name, is_kept: true, how: how.clone(), target })
            }
            // A name of ours: nobody is to find it, and backups leave it out.
            Strategy::Overwrite(how) => {
                let name = scratch_name(&[request_uid, &target, "replaced"]);
                Some(Self { name, is_kept: false, how: how.clone(), target })
            }
        }
    }

    /// Takes the name that an earlier release would have given, where a database has it: an
    /// attempt of before the upgrade has put the restored one in place.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn recognise(&mut self, session: &Session) -> Result<(), Failure> {
        let earlier =
            with_suffix(&self.target, &format!("_before_{}", self.how.stamp.to_uppercase()));
        if self.is_kept && look_at(session, &earlier).await?.is_some() {
            self.name = earlier;
        }
        Ok(())
    }

    /// The statements that put the old database back in its place, as one line for `psql`.
    pub(super) fn undo(&self) -> String {
        let aside = with_suffix(&self.target, &format!("_restored_{}", self.how.stamp));
        let rename = |from: &str, to: &str| {
            format!("ALTER DATABASE {} RENAME TO {};", ident(from), ident(to))
        };
        let (first, then) = (rename(&self.target, &aside), rename(&self.name, &self.target));
        format!("BEGIN; {first} {then} COMMIT;")
    }

    /// What would keep the database from being renamed, or dropped, and can be known now:
    /// itself, and who is connected to it.
    ///
    /// # Errors
    /// `DatabaseInUse` and `PermissionDenied`, before anything is created.
    pub(super) async fn validate(&self, session: &Session) -> Result<(), Failure> {
        self.validate_database(session).await?;
        self.validate_sessions(session).await
    }

    /// The same, but for who is connected.
    ///
    /// # Errors
    /// As [`Replacing::validate`].
    pub(super) async fn validate_database(&self, session: &Session) -> Result<(), Failure> {
        let sql = "SELECT datname = current_database(), \
             pg_has_role(current_user, datdba, 'USAGE'), datdba::regrole::text, \
             (SELECT count(*) FROM pg_prepared_xacts x WHERE x.database = d.datname), \
             (SELECT count(*) FROM pg_subscription s WHERE s.subdbid = d.oid) \
             + (SELECT count(*) FROM pg_replication_slots s WHERE s.database = d.datname) \
             FROM pg_database d WHERE datname = $1";
        let row = session.query_opt(sql, &[&self.target]).await;
        let row = row.map_err(|error| query_failure(&error, "looking at what is replaced"))?;
        let Some(row) = row else { return Ok(()) };
        let (is_ours, may): (bool, bool) = (row.get(0), row.get(1));
        let (owner, prepared, replicates): (String, i64, i64) =
            (row.get(2), row.get(3), row.get(4));
        let target = &self.target;
        if is_ours || OF_THE_SERVER.contains(&target.as_str()) {
            let message = format!("restores, or the server itself, use database {target}");
            return Err(Failure::new(Reason::DatabaseInUse, message)
                .with_hint("Restore it under another name with CreateNew."));
        }
        if !may {
            let message = format!(
                "our role may not rename database {target}: it is not of its owner {owner}"
            );
            return Err(Failure::new(Reason::PermissionDenied, message).with_hint(format!(
                "Make the restoring role a member of {owner}, or use a superuser."
            )));
        }
        if prepared > 0 {
            let message = format!("database {target} has {prepared} prepared transactions");
            return Err(Failure::new(Reason::DatabaseInUse, message)
                .with_hint("COMMIT PREPARED or ROLLBACK PREPARED them: see pg_prepared_xacts."));
        }
        if replicates > 0 && !self.is_kept {
            let message =
                format!("database {target} has subscriptions or logical replication slots");
            return Err(Failure::new(Reason::DatabaseInUse, message)
                .with_hint("Drop them first, or use Swap, which keeps the database."));
        }
        Ok(())
    }

    /// The database that gives way, for the plan.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn describe(&self, session: &Session) -> Result<ReplacedDatabase, Failure> {
        let sql = format!(
            "SELECT d.oid, pg_database_size(d.oid), \
             (SELECT count(*) FROM pg_stat_activity s WHERE {CONNECTED} AND s.datid = d.oid) \
             FROM pg_database d WHERE datname = $1"
        );
        let row = session.query_one(&sql, &[&self.target]).await;
        let row = row.map_err(|error| query_failure(&error, "looking at what is replaced"))?;
        let (size, sessions): (i64, i64) = (row.get(1), row.get(2));
        Ok(ReplacedDatabase {
            oid: row.get(0),
            kept_as: self.is_kept.then(|| self.name.clone()),
            size_bytes: u64::try_from(size).unwrap_or(0),
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        })
    }

    /// Who is connected, and whether we may end that.
    async fn validate_sessions(&self, session: &Session) -> Result<(), Failure> {
        let sql = format!(
            "WITH s AS (SELECT coalesce(usename::text, '') AS role, usesysid FROM pg_stat_activity \
                        WHERE {} AND datname = $1), \
             me AS (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
             SELECT count(*), \
               count(*) FILTER (WHERE NOT (me.rolsuper OR r.oid IS NOT NULL AND NOT r.rolsuper AND \
                 (pg_has_role(current_user, r.oid, 'USAGE') OR pg_has_role(current_user, \
                    'pg_signal_backend', 'USAGE')))), \
               coalesce((SELECT string_agg(role, ', ') FROM \
                 (SELECT DISTINCT role FROM s ORDER BY role LIMIT {NAMED}) names), '') \
             FROM s CROSS JOIN me LEFT JOIN pg_roles r ON r.oid = s.usesysid",
            CONNECTED
        );
        let row = session.query_one(&sql, &[&self.target]).await;
        let row = row.map_err(|error| query_failure(&error, "looking at who is connected"))?;
        let (connected, untouchable): (i64, i64) = (row.get(0), row.get(1));
        let roles: String = row.get(2);
        if connected > 0 && !self.how.terminate_sessions {
            let noun = if connected == 1 { "session" } else { "sessions" };
            return Err(in_use(&self.target, &format!("{connected} {noun}, of {roles}")));
        }
        if untouchable > 0 {
            let message = format!(
                "our role may not end {untouchable} of the sessions on database {}, of {roles}",
                self.target
            );
            return Err(Failure::new(Reason::PermissionDenied, message).with_hint(
                "Grant pg_signal_backend to the restoring role; a superuser's session only a superuser can end.",
            ));
        }
        Ok(())
    }

    /// Gives both databases their names, in one transaction.
    ///
    /// # Errors
    /// `DatabaseInUse` where sessions stay, or another transaction holds the name, longer than
    /// `lock_timeout`; `DatabaseExists` and `PlanChanged` where another database stands there than
    /// was `planned` to be replaced. Everything is as before.
    pub(super) async fn carry_out(
        &self,
        session: &Session,
        connection: &ServerConnection,
        scratch: &Scratch,
        planned: Option<u32>,
    ) -> Result<(), Failure> {
        let Some(oid) = planned else {
            let message =
                format!("database {} was created while it was being restored", self.target);
            return Err(Failure::new(Reason::DatabaseExists, message));
        };
        let helper = open_session(connection).await?;
        let until = Instant::now() + self.how.lock_timeout;
        loop {
            let renamed = tokio::select! {
                biased;
                renamed = self.rename_both(session, scratch, oid) => renamed,
                never = self.end_sessions(&helper, scratch) => match never {},
            };
            let Err(error) = renamed else { return Ok(()) };
            let code = error.code().cloned();
            session.run("ROLLBACK", "ending what was begun").await?;
            if code == Some(SqlState::DIVISION_BY_ZERO) {
                let message = format!(
                    "database {} is another one than was planned to be replaced",
                    self.target
                );
                return Err(Failure::new(Reason::PlanChanged, message));
            }
            let is_busy = [SqlState::OBJECT_IN_USE, SqlState::LOCK_NOT_AVAILABLE];
            if !code.is_some_and(|code| is_busy.contains(&code)) {
                return Err(query_failure(&error, "putting the restored database in place"));
            }
            if Instant::now() >= until {
                let by = format!(
                    "sessions that do not end, prepared transactions, or a statement that holds \
                     its name; what was loaded stays as {}",
                    scratch.name
                );
                let failure = in_use(&self.target, &by).with_hint(
                    "When they are gone, the same request goes on from there (--request-id; a \
                     RestoreRequest: delete it and create it again as it is). Else drop what was loaded.",
                );
                return Err(Failure { class: ErrorClass::Retryable, ..failure });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn rename_both(
        &self,
        session: &Session,
        scratch: &Scratch,
        oid: u32,
    ) -> Result<(), tokio_postgres::Error> {
        let (target, replaced) = (ident(&self.target), ident(&self.name));
        let wait = self.how.lock_timeout.as_millis().clamp(1, LONGEST_LOCK_TIMEOUT);
        let mut sql = format!(
            "BEGIN; SET LOCAL lock_timeout = {wait}; ALTER DATABASE {target} RENAME TO {replaced}; \
             SELECT 1 / (oid = {oid})::int FROM pg_database WHERE datname = {}; \
             ALTER DATABASE {} RENAME TO {target};",
            literal(&self.name),
            ident(&scratch.name)
        );
        if !self.is_kept {
            let mark = literal(&scratch.marks.replaced);
            sql.push_str(&format!(" COMMENT ON DATABASE {replaced} IS {mark};"));
        }
        // Nobody can log in to either while it is open: it must not wait for us.
        sql.push_str(" COMMIT;");
        session.batch_execute(&sql).await
    }

    /// Ends sessions again and again, until it is dropped: those on the scratch database, which
    /// nobody knows, and where that is wanted those on the target. What does not work is not
    /// told: the rename decides, and says who stays.
    async fn end_sessions(&self, helper: &Session, scratch: &Scratch) -> Infallible {
        let mut names = vec![scratch.name.as_str()];
        if self.how.terminate_sessions {
            names.push(&self.target);
        }
        let sql =
            format!("SELECT pid FROM pg_stat_activity WHERE {CONNECTED} AND datname = ANY($1)");
        loop {
            let pids = match helper.query(&sql, &[&names]).await {
                Ok(rows) => rows.iter().map(|row| row.get::<_, i32>(0)).collect(),
                Err(error) => {
                    tracing::debug!(%error, "who is connected is not known");
                    Vec::new()
                }
            };
            for pid in pids {
                // One by one: one that we may not end must not save the others.
                if let Err(error) = helper.query("SELECT pg_terminate_backend($1)", &[&pid]).await {
                    tracing::debug!(pid, %error, "a session stays");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Sessions that keep a database from being renamed, but for our own. A worker of the server's
/// own has no role, and goes by itself; its kind is not shown to everybody.
const CONNECTED: &str = "pid <> pg_backend_pid() AND usesysid IS NOT NULL";

fn in_use(target: &str, by: &str) -> Failure {
    Failure::new(Reason::DatabaseInUse, format!("database {target} is in use: {by}"))
}

/// The name, cut so that it and the suffix fit.
fn with_suffix(name: &str, suffix: &str) -> String {
    let end = name.floor_char_boundary(MAX_NAME_BYTES.saturating_sub(suffix.len()));
    format!("{}{suffix}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace() -> Replace {
        Replace {
            terminate_sessions: true,
            lock_timeout: Duration::from_secs(10),
            stamp: "20261120t081200z".into(),
        }
    }

    #[test]
    fn what_is_kept_says_since_when_and_fits_at_a_letters_border() {
        let swap = Strategy::Swap(replace());
        let kept = |target: &str| Replacing::new(&swap, "uid", target).unwrap().name;
        assert_eq!(kept("shop"), "shop_before_20261120t081200z");
        let long = kept(&"ä".repeat(31));
        assert_eq!(long, format!("{}_before_20261120t081200z", "ä".repeat(19)));
        assert!(long.len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn what_is_not_kept_gets_a_name_of_ours() {
        let overwrite = Strategy::Overwrite(replace());
        let name = |uid: &str| Replacing::new(&overwrite, uid, "shop").unwrap().name;
        assert!(super::super::scratch::is_scratch_name(&name("uid")));
        assert_eq!(name("uid"), name("uid"));
        assert_ne!(name("uid"), name("other"));
        assert_ne!(name("uid"), Scratch::new("uid", "shop", &overwrite).name);
    }

    #[test]
    fn the_undo_puts_the_old_one_back_and_the_restored_one_aside() {
        let swap = Strategy::Swap(replace());
        assert_eq!(
            Replacing::new(&swap, "uid", "sh\"op").unwrap().undo(),
            "BEGIN; ALTER DATABASE \"sh\"\"op\" RENAME TO \"sh\"\"op_restored_20261120t081200z\"; \
             ALTER DATABASE \"sh\"\"op_before_20261120t081200z\" RENAME TO \"sh\"\"op\"; COMMIT;"
        );
    }
}
