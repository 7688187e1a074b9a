//! The script that fills a scratch database, as it streams to `psql`: one
//! `pg_restore` after the other writes what comes before the data, the data, and
//! what comes after it ([`RestoreOrder`]).

use bytes::{Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{Activity, ChildProcess, ChildSpec, StdinUse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::ChildStdin;

use super::contents::Wanted;
use super::load::Loader;
use super::preamble::Preamble;
use super::prelude::read_prelude;
use super::prologue::Prologue;
use crate::archive::join::{BlockJoiner, block_header};
use crate::archive::{BlockLayout, PHASES, Phase, RestoreOrder, RestoreOrderReader, RoleRewriter};
use crate::client_files::ClientFiles;
use crate::errors::failure_of_restore;

/// How much of the script is read at a time.
const READ_BYTES: usize = 256 * 1024;

/// The script of one load.
pub(super) struct Script<'a> {
    pub(super) loader: &'a Loader<'a>,
    pub(super) wanted: &'a Wanted,
    pub(super) files: &'a ClientFiles,
    pub(super) prologue: &'a Prologue,
}

impl Script<'_> {
    /// Writes the whole script; whether `psql` took all of it. `running` is the
    /// `pg_restore` that was begun last.
    pub(super) async fn write(
        &self,
        mut statements: ChildStdin,
        running: &mut Option<ChildProcess>,
    ) -> Result<bool, Failure> {
        let order = self.read_order().await?;
        for phase in PHASES {
            if !self.write_part(phase, &order, &mut statements, running).await? {
                return Ok(false);
            }
        }
        Ok(statements.shutdown().await.is_ok())
    }

    /// Writes the script of one phase; whether `psql` took all of it.
    async fn write_part(
        &self,
        phase: Phase,
        order: &RestoreOrder,
        statements: &mut ChildStdin,
        running: &mut Option<ChildProcess>,
    ) -> Result<bool, Failure> {
        let list = self.files.add(&format!("{phase:?}.list"), order.list(phase).as_bytes())?;
        let mut args = vec![
            "--format=custom".into(),
            "--file=-".into(),
            "--use-list".into(),
            list.into_os_string(),
        ];
        args.extend(self.loader.roles.owner.as_ref().map(|_| "--no-owner".into()));
        let pg_restore = running.insert(ChildProcess::start(&ChildSpec {
            program: self.loader.clients.program("pg_restore"),
            args,
            env: Vec::new(),
            stdin: StdinUse::Piped,
            name: "pg_restore",
        })?);
        let (Some(archive), Some(text)) = (pg_restore.take_stdin(), pg_restore.take_stdout())
        else {
            return Err(Failure::new(Reason::Internal, "pg_restore has no pipes"));
        };
        let preamble = Preamble::new(&self.loader.target.settings, self.prologue.of(phase));
        let (taken, passed, restored) = tokio::join!(
            self.join_archive(phase, archive),
            pass_on(text, statements, preamble, self.loader.guard.activity()),
            pg_restore.wait(),
        );
        let (taken, restored) = (taken?, restored?);
        if !passed? {
            return Ok(false);
        }
        if !restored.is_success() {
            return Err(failure_of_restore(&restored));
        }
        if !taken {
            let message = "pg_restore ended before it had taken everything";
            return Err(Failure::new(Reason::ClientFailed, message));
        }
        Ok(true)
    }

    /// Reads the table of contents, and compares it with the layout.
    async fn read_order(&self) -> Result<RestoreOrder, Failure> {
        let mut order = RestoreOrderReader::default();
        self.read_prelude(async |bytes| {
            Ok(order.push(&bytes, |dump_id| self.wanted.takes(dump_id)).map(|()| true)?)
        })
        .await?;
        Ok(order.finish()?)
    }

    /// Joins the streams into the archive that `pg_restore` reads; whether it took
    /// all of it. Every phase needs the table of contents, and only one the data.
    async fn join_archive(
        &self,
        phase: Phase,
        mut archive: impl AsyncWrite + Unpin,
    ) -> Result<bool, Failure> {
        let give = async |bytes: Bytes| Ok(self.give(&mut archive, &bytes, "the schema").await);
        if !self.read_prelude(give).await? {
            return Ok(false);
        }
        if phase == Phase::Data {
            self.loader.meter.moved(self.wanted.layout.prelude.bytes);
            for block in &self.wanted.layout.blocks {
                if !self.join_block(block, &mut archive).await? {
                    return Ok(false);
                }
            }
        }
        self.loader.guard.waiting_for("pg_restore and psql to end");
        // Without this pg_restore would wait for more.
        let _ = archive.shutdown().await;
        Ok(true)
    }

    /// Hands the prelude on as long as it is taken, with the roles of the target in it; whether
    /// all of it was.
    async fn read_prelude(
        &self,
        mut take: impl AsyncFnMut(Bytes) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let Loader { source, guard, roles, .. } = self.loader;
        let mut rewriter = RoleRewriter::new(roles, &self.wanted.document.properties.owner);
        let take = async |bytes: Bytes| take(rewriter.push(&bytes)?).await;
        read_prelude(*source, &self.wanted.layout, guard.activity(), take).await
    }

    /// Gives one block to `archive`; whether all of it was taken.
    async fn join_block(
        &self,
        block: &BlockLayout,
        archive: &mut (impl AsyncWrite + Unpin),
    ) -> Result<bool, Failure> {
        let int_size = self.wanted.layout.int_size;
        let mut joiner = BlockJoiner::new(block, int_size);
        let shown = block.shown();
        self.asking(&block.stream);
        let mut reader = self.loader.source.open(&block.stream).await?;
        if !self.give(archive, &block_header(block, int_size), &shown).await {
            return Ok(false);
        }
        self.asking(&block.stream);
        while let Some(bytes) = reader.next().await? {
            joiner.push(&bytes)?;
            if !self.give(archive, &bytes, &shown).await {
                return Ok(false);
            }
            self.loader.meter.moved(bytes.len() as u64);
            self.asking(&block.stream);
        }
        joiner.finish()?;
        Ok(true)
    }

    fn asking(&self, stream: &str) {
        self.loader.guard.waiting_for(format!("the repository to give {stream}"));
    }

    /// Whether `bytes` were taken; a reader that is gone says itself why.
    async fn give(
        &self,
        archive: &mut (impl AsyncWrite + Unpin),
        bytes: &Bytes,
        shown: &str,
    ) -> bool {
        let guard = self.loader.guard;
        guard.waiting_for(format!("pg_restore and psql to take {shown}"));
        if archive.write_all(bytes).await.is_err() {
            return false;
        }
        guard.activity().moved(bytes.len());
        true
    }
}

/// Passes a script on to `psql`; returns whether all of it was taken.
async fn pass_on(
    mut script: impl AsyncRead + Unpin,
    statements: &mut (impl AsyncWrite + Unpin),
    mut preamble: Preamble<'_>,
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
    Ok(statements.write_all(&preamble.finish()).await.is_ok())
}
