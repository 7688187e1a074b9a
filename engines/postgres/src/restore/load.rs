//! Filling the scratch database: streams → `pg_restore` → preamble → `psql`.
//!
//! `pg_restore` turns the archive into a script and never connects; `psql`
//! carries the script out and stops at the first error. Three arrows, each a
//! pipe of the kernel: the memory is what stands in them.

use bytes::{Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, BackupSource, ChildExit, ChildProcess, ChildSpec, StdinUse};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::preamble::Preamble;
use super::target::Target;
use crate::ServerConnection;
use crate::archive::Layout;
use crate::archive::join::{BlockJoiner, PreludeJoiner, block_header};
use crate::client_files::ClientFiles;
use crate::clients::Clients;
use crate::connection::keep_alive_statements;
use crate::errors::{OlderTarget, failure_of_psql, failure_of_restore};
use crate::progress::Meter;
use crate::server::Server;
use crate::watch::{ClientWatcher, Guard};

/// How much of the script is read at a time.
const READ_BYTES: usize = 256 * 1024;

/// What all loads of a run share.
pub(super) struct Loader<'a> {
    pub(super) connection: &'a ServerConnection,
    pub(super) server: &'a Server,
    pub(super) target: &'a Target,
    pub(super) clients: &'a Clients,
    pub(super) source: &'a dyn BackupSource,
    pub(super) meter: &'a Meter<'a>,
    pub(super) guard: &'a Guard<'a>,
}

impl Loader<'_> {
    /// Loads an archive into `database` and compares what arrived.
    pub(super) async fn load(
        &self,
        layout: &Layout,
        database: &str,
        preamble: Preamble,
    ) -> Result<(), Failure> {
        let application_name = format!("dbbackup restore {database}");
        let files = ClientFiles::write(self.connection, database, &application_name)?;
        let mut pg_restore = ChildProcess::start(&self.pg_restore())?;
        let mut psql = ChildProcess::start(&self.psql(&files))?;
        let activity = self.guard.activity();
        activity.waiting_for("pg_restore and psql to take the data");
        let watcher = ClientWatcher::new(&self.server.session, application_name);
        let pipes = (
            pg_restore.take_stdin(),
            pg_restore.take_stdout(),
            psql.take_stdin(),
            psql.take_stdout(),
        );
        let (Some(archive), Some(script), Some(statements), Some(tags)) = pipes else {
            return Err(Failure::new(Reason::Internal, "a client has no pipes"));
        };
        let work = async {
            let (joined, passed, counted, restored, carried_out) = tokio::join!(
                self.join_into(layout, archive, activity),
                pass_on(script, statements, preamble, activity),
                count_rows(tags),
                pg_restore.wait(),
                psql.wait(),
            );
            let older = OlderTarget::of(&layout.server_version, self.target.major);
            judge(layout, joined, passed?, counted, &restored?, &carried_out?, older)
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
            let _ = tokio::join!(psql.end(), pg_restore.end());
        }
        outcome
    }

    fn pg_restore(&self) -> ChildSpec {
        ChildSpec {
            program: self.clients.program("pg_restore"),
            args: vec!["--format=custom".into(), "--file=-".into()],
            env: Vec::new(),
            stdin: StdinUse::Piped,
            name: "pg_restore",
        }
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

    /// Joins the streams into the archive that `pg_restore` reads.
    async fn join_into(
        &self,
        layout: &Layout,
        mut archive: impl AsyncWrite + Unpin,
        activity: &Activity,
    ) -> Result<Joined, Failure> {
        let asking =
            |stream: &str| activity.waiting_for(format!("the repository to give {stream}"));
        let mut out = Vec::new();
        asking(&layout.prelude.stream);
        let mut reader = self.source.open(&layout.prelude.stream).await?;
        let mut prelude = PreludeJoiner::new(layout);
        while let Some(bytes) = reader.next().await? {
            prelude.push(bytes, &mut out);
            for bytes in out.drain(..) {
                if !self.give(&mut archive, &bytes, "the schema", activity).await {
                    return Ok(Joined::NotTaken);
                }
            }
            asking(&layout.prelude.stream);
        }
        prelude.finish()?;
        for block in &layout.blocks {
            let shown = block.shown();
            let header = block_header(block, layout.int_size);
            let mut joiner = BlockJoiner::new(block, layout.int_size);
            asking(&block.stream);
            let mut reader = self.source.open(&block.stream).await?;
            let mut next = Some(header);
            let mut is_header = true;
            while let Some(bytes) = next {
                if !is_header {
                    joiner.push(&bytes)?;
                }
                if !self.give(&mut archive, &bytes, &shown, activity).await {
                    return Ok(Joined::NotTaken);
                }
                is_header = false;
                asking(&block.stream);
                next = reader.next().await?;
            }
            joiner.finish()?;
        }
        activity.waiting_for("pg_restore and psql to end");
        // Without this pg_restore would wait for more.
        let _ = archive.shutdown().await;
        Ok(Joined::Whole)
    }

    /// Whether `bytes` were taken; a reader that is gone says itself why.
    async fn give(
        &self,
        archive: &mut (impl AsyncWrite + Unpin),
        bytes: &Bytes,
        shown: &str,
        activity: &Activity,
    ) -> bool {
        activity.waiting_for(format!("pg_restore and psql to take {shown}"));
        if archive.write_all(bytes).await.is_err() {
            return false;
        }
        activity.moved(bytes.len());
        self.meter.moved(bytes.len() as u64);
        true
    }
}

/// How far the archive came.
enum Joined {
    Whole,
    /// `pg_restore` had gone.
    NotTaken,
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

/// Passes the script on to `psql`; returns whether all of it was taken.
async fn pass_on(
    mut script: impl AsyncRead + Unpin,
    mut statements: impl AsyncWrite + Unpin,
    mut preamble: Preamble,
    activity: &Activity,
) -> Result<bool, Failure> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match script.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(read) => activity.moved(read),
            Err(_) => return Ok(false),
        }
        let bytes = preamble.push(buffer.split().freeze())?;
        if statements.write_all(&bytes).await.is_err() {
            return Ok(false);
        }
    }
    let rest = preamble.finish();
    Ok(statements.write_all(&rest).await.is_ok() && statements.shutdown().await.is_ok())
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
    joined: Result<Joined, Failure>,
    passed: bool,
    counted: Vec<u64>,
    restored: &ChildExit,
    carried_out: &ChildExit,
    older: Option<OlderTarget>,
) -> Result<(), Failure> {
    let joined = joined?;
    if !carried_out.is_success() {
        return Err(failure_of_psql(carried_out, older));
    }
    if !restored.is_success() {
        return Err(failure_of_restore(restored));
    }
    if !passed || matches!(joined, Joined::NotTaken) {
        let message = "a client ended before it had taken everything";
        return Err(Failure::new(Reason::ClientFailed, message));
    }
    let tables: Vec<_> = layout.tables().collect();
    if counted.len() != tables.len() {
        let message = format!("{} of {} tables were filled", counted.len(), tables.len());
        return Err(Failure::new(Reason::RowsDiffer, message));
    }
    let differing = tables.iter().zip(&counted).find(|(table, count)| table.rows != **count);
    match differing {
        None => Ok(()),
        Some((table, count)) => Err(Failure::new(
            Reason::RowsDiffer,
            format!("{} has {count} rows, the backup has {}", table.shown(), table.rows),
        )),
    }
}
