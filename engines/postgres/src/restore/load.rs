//! Filling the scratch database: streams → `pg_restore` → preamble → `psql`.
//!
//! `pg_restore` turns the archive into a script and never connects; `psql`
//! carries the script out and stops at the first error. Three arrows, each a
//! pipe of the kernel: the memory is what stands in them. This is the end of
//! the last one; [`Script`] writes what comes in.

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{BackupSource, ChildExit, ChildProcess, ChildSpec, StdinUse};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::contents::Wanted;
use super::prologue::Prologue;
use super::script::Script;
use super::target::Target;
use crate::ServerConnection;
use crate::archive::{Layout, RoleChanges};
use crate::client_files::ClientFiles;
use crate::clients::Clients;
use crate::connection::keep_alive_statements;
use crate::errors::{OlderTarget, failure_of_psql};
use crate::progress::Meter;
use crate::server::Server;
use crate::watch::{ClientWatcher, Guard};

/// What all loads of a run share.
pub(super) struct Loader<'a> {
    pub(super) connection: &'a ServerConnection,
    pub(super) server: &'a Server,
    pub(super) target: &'a Target,
    pub(super) roles: &'a RoleChanges,
    pub(super) clients: &'a Clients,
    pub(super) source: &'a dyn BackupSource,
    pub(super) meter: &'a Meter<'a>,
    pub(super) guard: &'a Guard<'a>,
}

impl Loader<'_> {
    /// Loads an archive into `database` and compares what arrived.
    pub(super) async fn load(
        &self,
        wanted: &Wanted,
        database: &str,
        prologue: &Prologue,
    ) -> Result<(), Failure> {
        let application_name = format!("dbbackup restore {database}");
        let files = ClientFiles::write(self.connection, database, &application_name)?;
        let mut psql = ChildProcess::start(&self.psql(&files))?;
        let (Some(statements), Some(tags)) = (psql.take_stdin(), psql.take_stdout()) else {
            return Err(Failure::new(Reason::Internal, "psql has no pipes"));
        };
        self.guard.waiting_for("pg_restore and psql to take the data");
        let watcher = ClientWatcher::new(&self.server.session, application_name);
        let layout = &wanted.layout;
        let script = Script { loader: self, wanted, files: &files, prologue };
        let mut pg_restore = None;
        let work = async {
            let (written, counted, carried_out) = tokio::join!(
                script.write(statements, &mut pg_restore),
                count_rows(tags),
                psql.wait(),
            );
            let older = OlderTarget::of(&layout.server_version, self.target.major);
            judge(layout, written, &counted, &carried_out?, older)
        };
        let held = async {
            tokio::select! {
                ended = work => ended,
                () = self.server.session.lost() => Err(Failure::new(
                    Reason::ServerGoneAway,
                    "the session that held the lock of the restore was lost",
                )),
            }
        };
        let outcome = self.guard.client(&watcher, held).await;
        if outcome.is_err() {
            // Those that have ended already cost nothing.
            let restoring = async {
                if let Some(pg_restore) = &mut pg_restore {
                    let _ = pg_restore.end().await;
                }
            };
            let _ = tokio::join!(psql.end(), restoring);
        }
        outcome.map_err(|failure| match failure.reason {
            Reason::StatementFailed if wanted.part.is_some() => failure.with_hint(
                "The body of a function, or a row (regclass), may name what is left out, and \
                 nothing says so: restore that as well, or its schema.",
            ),
            _ => failure,
        })
    }

    fn psql(&self, files: &ClientFiles) -> ChildSpec {
        let args = [
            "--no-psqlrc",
            "--no-password",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            "--set=VERBOSITY=verbose",
            "--set=SHOW_CONTEXT=never",
            &format!("--command={}", session_settings(self.target)),
            "--file=-",
        ];
        ChildSpec {
            program: self.clients.program("psql"),
            args: args.map(Into::into).to_vec(),
            env: files.env(),
            stdin: StdinUse::Piped,
            name: "psql",
        }
    }
}

/// What `psql`'s session is told before it waits for the script: as statements,
/// since a pooler refuses settings in its environment.
fn session_settings(target: &Target) -> String {
    // Durable once it matters: the rename, in another session, waits for all that
    // was logged before it.
    let mut settings =
        "SET synchronous_commit = off; SET default_transaction_read_only = off; ".to_owned();
    settings.push_str(&keep_alive_statements());
    // Limits of the server's owner that a script may not lift: that of an older
    // pg_restore does not know them all, and none expects to wait for its rows.
    for limit in ["transaction_timeout", "idle_session_timeout"] {
        if target.settings.contains(limit) {
            settings.push_str(&format!("SET {limit} = 0; "));
        }
    }
    settings
}

/// Reads the rows that `psql` says it copied, table by table.
async fn count_rows(tags: impl AsyncRead + Unpin) -> Vec<u64> {
    let mut lines = BufReader::new(tags);
    let mut counts = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return counts,
            Ok(_) => {}
        }
        let count: Option<u64> = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| line.trim_end().strip_prefix("COPY "))
            .and_then(|count| count.parse().ok());
        counts.extend(count);
    }
}

/// What came of it: the first cause, not its consequences.
fn judge(
    layout: &Layout,
    written: Result<bool, Failure>,
    counted: &[u64],
    carried_out: &ChildExit,
    older: Option<OlderTarget>,
) -> Result<(), Failure> {
    // A part that was not written is the cause; psql then saw a script that ends early.
    let taken = written?;
    if !carried_out.is_success() {
        return Err(failure_of_psql(carried_out, older));
    }
    if !taken {
        let message = "psql ended before it had taken everything";
        return Err(Failure::new(Reason::ClientFailed, message));
    }
    let tables: Vec<_> = layout.tables().collect();
    if counted.len() != tables.len() {
        let message = format!("{} of {} tables were filled", counted.len(), tables.len());
        return Err(Failure::new(Reason::RowsDiffer, message));
    }
    let differing = tables.iter().zip(counted).find(|(table, count)| table.rows != **count);
    match differing {
        None => Ok(()),
        Some((table, count)) => Err(Failure::new(
            Reason::RowsDiffer,
            format!("{} has {count} rows, the backup has {}", table.shown(), table.rows),
        )),
    }
}
