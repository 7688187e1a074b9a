//! The hooks of a backup: in which order, when, and what is told of them. What a server has to
//! do with it is only that it carries SQL out.

use std::time::{Duration, Instant};

use dbbackup_contract::{
    ErrorClass, Failure, Hook, HookOnError, HookOutcome, HookReport, HookStage, HookWhen, Hooks,
    Outcome, PostgresqlAccess, Reason, Source,
};
use dbbackup_engine::StatementError;
use dbbackup_postgres::{self as postgres, ServerConnection};
use tokio_util::sync::CancellationToken;

use super::{Order, server_connection};

/// How long the hooks after a backup may take in all once the run is told to stop. With the
/// engines' own cleaning up (10 s before, 2 s after) and the report (5 s) it stays below the
/// 30 s that Kubernetes gives a pod.
const GRACE: Duration = Duration::from_secs(8);

/// The hooks of one attempt of a run.
pub(super) struct HookRun<'a> {
    server: HookServer<'a>,
    /// Whether those before have begun, in this attempt or in an earlier one.
    has_begun: bool,
    /// What became of those before.
    before: Vec<HookReport>,
}

impl<'a> HookRun<'a> {
    /// None of them has begun.
    pub(super) fn new(order: &'a Order<'a>, source: &'a Source, hooks: &'a Hooks) -> Self {
        let skipped = |name: &String| HookReport::of(name, HookStage::Before, HookOutcome::Skipped);
        let before = hooks.before.iter().map(|before| skipped(&before.hook.name)).collect();
        Self { server: HookServer { order, source, hooks }, has_begun: false, before }
    }

    /// An earlier attempt has committed. Nobody knows what it has done since.
    pub(super) fn begun_earlier(&mut self) {
        self.has_begun = true;
    }

    /// What became of those before.
    pub(super) fn told(&self) -> Vec<HookReport> {
        self.before.clone()
    }

    /// Carries out those before.
    ///
    /// # Errors
    /// The first one has failed without which no backup is made, or the run is told to stop.
    pub(super) async fn before(&mut self) -> Result<(), Failure> {
        self.has_begun = true;
        let server = self.server;
        for (before, told) in server.hooks.before.iter().zip(&mut self.before) {
            let (hook, cancel) = (&before.hook, server.order.cancel);
            *told = carry_out(hook, HookStage::Before, server.execute(hook, cancel)).await;
            let Some(failure) = &mut told.error else { continue };
            if before.on_error == HookOnError::Fail || cancel.is_cancelled() {
                return Err(failure.clone());
            }
            failure.class = ErrorClass::Warning;
        }
        Ok(())
    }

    /// Carries out those after a backup that ended so, if those before have begun. One that
    /// fails keeps no other back.
    pub(super) async fn after(&self, outcome: Outcome) -> Vec<HookReport> {
        let stop = CancellationToken::new();
        let stopping = async {
            self.server.order.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
            stop.cancel();
            std::future::pending().await
        };
        tokio::select! {
            told = self.all_after(outcome, &stop) => told,
            never = stopping => match never {},
        }
    }

    async fn all_after(&self, outcome: Outcome, stop: &CancellationToken) -> Vec<HookReport> {
        let mut all = Vec::new();
        for after in &self.server.hooks.after {
            let hook = &after.hook;
            if !self.has_begun || !is_its_turn(after.when, outcome) {
                all.push(HookReport::of(&hook.name, HookStage::After, HookOutcome::Skipped));
                continue;
            }
            let work = self.server.execute(hook, stop);
            let mut told = carry_out(hook, HookStage::After, work).await;
            if let Some(failure) = &mut told.error {
                failure.class = ErrorClass::Warning;
            }
            all.push(told);
        }
        all
    }
}

/// Looks whether the databases of hooks can be opened. Gives the hooks of those that cannot,
/// and the first failure of these without which no backup is made.
///
/// # Errors
/// The run is told to stop.
pub(super) async fn look(
    order: &Order<'_>,
    source: &Source,
    hooks: &Hooks,
) -> Result<(Vec<HookReport>, Option<Failure>), Failure> {
    let needed = hooks.before.iter().map(|it| (&it.hook, HookStage::Before, it.on_error));
    let others = hooks.after.iter().map(|it| (&it.hook, HookStage::After, HookOnError::Continue));
    let server = HookServer { order, source, hooks };
    let (mut told, mut first) = (Vec::new(), None);
    let mut known: Vec<(&str, Result<(), Failure>)> = Vec::new();
    for (hook, stage, on_error) in needed.chain(others) {
        let database = hook.database.as_str();
        let opened = match known.iter().find(|(name, _)| *name == database) {
            Some((_, opened)) => opened.clone(),
            None => {
                let opened = server.open(database).await;
                known.push((database, opened.clone()));
                opened
            }
        };
        let Err(failure) = opened else { continue };
        if order.cancel.is_cancelled() {
            return Err(failure);
        }
        let mut failure = named(hook, failure);
        if on_error == HookOnError::Fail {
            first.get_or_insert_with(|| failure.clone());
        } else {
            failure.class = ErrorClass::Warning;
        }
        let report = HookReport::of(&hook.name, stage, HookOutcome::Failed);
        told.push(HookReport { error: Some(failure), ..report });
    }
    Ok((told, first))
}

fn is_its_turn(when: HookWhen, outcome: Outcome) -> bool {
    match when {
        HookWhen::Always => true,
        HookWhen::OnSuccess => outcome == Outcome::Succeeded,
        HookWhen::OnFailure => outcome != Outcome::Succeeded,
    }
}

/// Waits for a hook's end. Its name is told, and never what it does.
async fn carry_out(
    hook: &Hook,
    stage: HookStage,
    work: impl Future<Output = Result<(), StatementError>>,
) -> HookReport {
    let started = Instant::now();
    tracing::info!(hook = hook.name, database = hook.database, ?stage, "hook begins");
    let ended = work.await;
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let outcome = if ended.is_ok() { HookOutcome::Succeeded } else { HookOutcome::Failed };
    let error = ended.err().map(|error| why(hook, error));
    match &error {
        None => tracing::info!(hook = hook.name, "hook succeeded"),
        Some(failure) => tracing::info!(hook = hook.name, %failure, "hook failed"),
    }
    let report = HookReport::of(&hook.name, stage, outcome);
    HookReport { duration_milliseconds: took, error, ..report }
}

/// What the server is at fault for keeps its reason. What a hook does has one of its own,
/// whatever the server says of it: it is the hook that is to be corrected.
fn why(hook: &Hook, error: StatementError) -> Failure {
    match error {
        StatementError::Server(failure) => named(hook, failure),
        StatementError::Statement(said) => {
            let failure = Failure::new(Reason::HookFailed, said.message);
            let failure = match said.reason {
                Reason::StatementFailed if said.hint == Reason::StatementFailed.hint() => failure,
                _ => failure.with_hint(said.hint),
            };
            named(hook, Failure { class: said.class, ..failure })
        }
    }
}

fn named(hook: &Hook, failure: Failure) -> Failure {
    let message = format!("hook {}: {}", hook.name, failure.message);
    let failure = Failure { message, ..failure };
    match failure.reason {
        Reason::DatabaseNotFound => failure.with_hint("Correct the hook's database."),
        _ => failure,
    }
}

/// Where hooks are carried out.
#[derive(Clone, Copy)]
struct HookServer<'a> {
    order: &'a Order<'a>,
    source: &'a Source,
    hooks: &'a Hooks,
}

/// What an engine has to do with it.
impl HookServer<'_> {
    async fn execute(self, hook: &Hook, cancel: &CancellationToken) -> Result<(), StatementError> {
        let limit = Duration::from_secs(hook.timeout_seconds);
        match self.source {
            Source::Postgresql { access, .. } => {
                let server = self.postgresql(access);
                postgres::execute(&server, &hook.database, &hook.sql, limit, cancel).await
            }
        }
    }

    async fn open(self, database: &str) -> Result<(), Failure> {
        match self.source {
            Source::Postgresql { access, .. } => {
                let server = self.postgresql(access);
                postgres::open_database(&server, database, self.order.cancel).await
            }
        }
    }

    fn postgresql(self, access: &PostgresqlAccess) -> ServerConnection {
        let mut server = server_connection(self.order, access);
        if let Some(own) = &self.hooks.credentials {
            server.access.credentials.clone_from(own);
        }
        server
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
