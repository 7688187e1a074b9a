//! Which base leads to a point, and which record of the log that is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use dbbackup_contract::{
    BackupReport, Failure, LogGap, MAX_LISTED_GAPS, Outcome, Reason, RecoverAction, RecoverReport,
    RecoveryBase, RecoveryPoint, RecoveryTimeline, RecoveryWindow,
};
use dbbackup_engine::BackupSource as _;
use dbbackup_postgres::{
    ArchivedLog, PlanError, RecoveryAction, RecoveryPlan, RecoveryRequest, RecoveryTarget,
    TimelineChoice, plan_recovery,
};
use dbbackup_repository::{About, Repository, Snapshot};
use jiff::Timestamp;

use super::super::Order;
use super::super::archive::KeptLog;
use super::super::backup::BASE_KIND;
use super::volume::Needed;
use crate::streams::SnapshotSource;

/// Gaps that a message names.
const GAPS_SHOWN: usize = 3;
const BASES_HINT: &str = "Bases are the backups of a BackupSchedule with method: Physical; see what \
    there is with: kubectl get backups --output wide (column SNAPSHOT).";

/// A base, and the way from it to the point.
pub(super) struct Chosen<'a> {
    pub(super) plan: RecoveryPlan,
    pub(super) source: SnapshotSource,
    pub(super) log: KeptLog<'a>,
    pub(super) needed: Needed,
}

/// A snapshot with the files of a server.
struct Base {
    snapshot: Snapshot,
    report: BackupReport,
}

/// The bases of a series, newest first, and the logs of their servers by who these are: there are
/// several where a series has gone on with another server.
struct Series<'a> {
    repository: &'a Repository,
    name: &'a str,
    bases: Vec<Base>,
    logs: BTreeMap<String, ArchivedLog>,
}

/// Chooses the newest base that leads to the point. What is known of it, and of what else could
/// have been asked for, is in the report, also where it fails.
///
/// # Errors
/// `SnapshotNotFound` where there is no base, `TargetUnreachable` with the window, and what the
/// repository says.
pub(super) async fn choose<'a>(
    order: &Order<'_>,
    repository: &'a Repository,
    action: &'a RecoverAction,
    report: &mut RecoverReport,
) -> Result<Chosen<'a>, Failure> {
    let asked = order.step(asked(order, repository, action)).await?;
    let mut series = order.step(Series::of(repository, &action.series)).await?;
    order.step(series.read_logs(&action.point)).await?;
    report.recovery_window = series.window();
    let candidates = match &asked {
        Some(base) => std::slice::from_ref(base),
        None if series.bases.is_empty() => return Err(series.has_none()),
        None => series.bases.as_slice(),
    };
    let (base, plan) = order.step(series.plan(candidates, action)).await?;
    series.chosen(base, plan, report).await
}

/// The base that was asked for by its name.
async fn asked(
    order: &Order<'_>,
    repository: &Repository,
    action: &RecoverAction,
) -> Result<Option<Base>, Failure> {
    let Some(id) = &action.snapshot else { return Ok(None) };
    let snapshot = repository.find(id).await?;
    let About { kind, series, .. } = snapshot.about();
    if kind != BASE_KIND || *series != action.series {
        let message =
            format!("snapshot {id} ({kind}, of {series}) is no base of {}", action.series);
        return Err(Failure::new(Reason::SnapshotNotFound, message).with_hint(BASES_HINT));
    }
    if !order.even_if_written_off {
        snapshot.must_not_be_written_off()?;
    }
    Base::of(snapshot).map(Some)
}

impl Base {
    fn of(snapshot: Snapshot) -> Result<Self, Failure> {
        let report = serde_json::from_value::<BackupReport>(snapshot.report().clone());
        let report = report.map_err(|error| {
            let message = format!("the report of snapshot {}: {error}", snapshot.id());
            Failure::new(Reason::RepositoryDamaged, message)
        })?;
        Ok(Self { snapshot, report })
    }

    /// Who its server is.
    fn server(&self) -> &str {
        self.report.server.as_ref().map_or("", |server| server.identity.as_str())
    }

    /// Whether it is too new for a time, without a look at its files.
    fn is_behind(&self, point: &RecoveryPoint) -> bool {
        match point {
            RecoveryPoint::Time { time, .. } => self.report.consistent_time > Some(*time),
            _ => false,
        }
    }
}

impl<'a> Series<'a> {
    async fn of(repository: &'a Repository, name: &'a str) -> Result<Self, Failure> {
        let list = repository.snapshots(Some(name)).await?;
        for (id, error) in &list.unreadable {
            tracing::warn!(%id, %error, "a snapshot cannot be read");
        }
        let found = list.snapshots.into_iter().rev();
        let usable = found.filter(|it| it.about().kind == BASE_KIND && it.written_off().is_none());
        let readable = |base: Result<Base, Failure>| {
            base.inspect_err(|failure| tracing::warn!(%failure, "a base is passed over")).ok()
        };
        let bases = usable.map(Base::of).filter_map(readable).collect();
        Ok(Self { repository, name, bases, logs: BTreeMap::new() })
    }

    /// What the logs have, without their bytes. A base alone is there though its log is damaged.
    async fn read_logs(&mut self, point: &RecoveryPoint) -> Result<(), Failure> {
        let servers: BTreeSet<_> = self.bases.iter().map(|base| base.server().to_owned()).collect();
        for server in servers {
            match self.kept(&server).archived().await {
                Ok(log) => {
                    self.logs.insert(server, log);
                }
                Err(failure) if *point == (RecoveryPoint::Immediate {}) => {
                    tracing::warn!(%failure, "the log cannot be read; the base does without");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn has_none(&self) -> Failure {
        let message = format!("{} has no base", self.name);
        Failure::new(Reason::SnapshotNotFound, message).with_hint(BASES_HINT)
    }

    /// Between which moments the newest base's server can be recovered to.
    fn window(&self) -> Option<RecoveryWindow> {
        let newest = self.bases.first()?;
        let log = self.logs.get(newest.server())?;
        let of_server = self.bases.iter().filter(|base| base.server() == newest.server());
        let gaps = log.gaps();
        Some(RecoveryWindow {
            earliest: of_server.filter_map(|base| base.report.consistent_time).min(),
            // A base without any log can be recovered to the moment at which it is consistent.
            latest: log.kept_time().max(newest.report.consistent_time),
            gap_count: u32::try_from(gaps.len()).unwrap_or(u32::MAX),
            gaps: gaps.into_iter().rev().take(MAX_LISTED_GAPS).collect(),
        })
    }

    /// The first of the bases that leads to the point.
    async fn plan<'b>(
        &self,
        bases: &'b [Base],
        action: &RecoverAction,
    ) -> Result<(&'b Base, RecoveryPlan), Failure> {
        let request = request_of(action);
        let empty = ArchivedLog::read(Vec::new())?;
        let mut newest = None;
        for base in bases.iter().filter(|base| !base.is_behind(&action.point)) {
            let source = SnapshotSource::new(Arc::new(base.snapshot.clone()));
            let kept = self.kept(base.server());
            let log = self.logs.get(base.server()).unwrap_or(&empty);
            match plan_recovery(&request, &source, &kept, log).await {
                Ok(plan) => return Ok((base, plan)),
                Err(PlanError::TooEarly(failure)) => newest = newest.or(Some(failure)),
                Err(PlanError::Other(failure)) => return Err(self.with_window(failure)),
            }
        }
        let failure = newest.unwrap_or_else(|| {
            let message = "the point is before the moment at which the oldest base is consistent";
            Failure::new(Reason::TargetUnreachable, message)
        });
        Err(self.with_window(failure))
    }

    fn kept(&self, server: &str) -> KeptLog<'a> {
        KeptLog { repository: self.repository, log: self.repository.log_id(self.name, server) }
    }

    /// What the report says of the base, and what it needs.
    async fn chosen(
        &self,
        base: &Base,
        plan: RecoveryPlan,
        report: &mut RecoverReport,
    ) -> Result<Chosen<'a>, Failure> {
        let source = SnapshotSource::new(Arc::new(base.snapshot.clone()));
        let streams = source.list("").await?;
        let files = streams.iter().map(|(_, bytes)| bytes).sum();
        let needed = Needed { files, log: plan.log_bytes() };
        let time = base.report.consistent_time;
        report.base = Some(RecoveryBase { snapshot_id: base.snapshot.id().to_string(), time });
        report.resolved_target = Some(plan.resolved());
        report.server.clone_from(&base.report.server);
        report.needed_bytes = needed.bytes();
        if base.report.outcome != Outcome::Succeeded {
            report.warn("the base has damaged pages: see the report of its backup");
        }
        // Each of them has a fork that says how it is when it is empty.
        if streams.iter().any(|(name, _)| name.ends_with("_init")) {
            report.warn("unlogged tables are empty: a backup has nothing of their rows");
        }
        Ok(Chosen { plan, source, log: self.kept(base.server()), needed })
    }

    /// Says what could have been asked for.
    fn with_window(&self, failure: Failure) -> Failure {
        let Some(window) = self.window().filter(|_| failure.reason == Reason::TargetUnreachable)
        else {
            return failure;
        };
        let Failure { message, .. } = &failure;
        Failure { message: format!("{message}; {}", Shown(&window)), ..failure }
    }
}

/// A window, as the end of a sentence.
struct Shown<'a>(&'a RecoveryWindow);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecoveryWindow { earliest, latest, gaps, gap_count } = self.0;
        let at = |time: &Option<Timestamp>| {
            time.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
        };
        write!(f, "bases and log reach from {} to {}", at(earliest), at(latest))?;
        let shown: Vec<_> = gaps.iter().take(GAPS_SHOWN).map(shown_gap).collect();
        if shown.is_empty() {
            return Ok(());
        }
        write!(f, ", without the log {}", shown.join(", "))?;
        match (*gap_count as usize).saturating_sub(shown.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} gaps more"),
        }
    }
}

fn shown_gap(gap: &LogGap) -> String {
    let after = gap.after.map_or_else(String::new, |time| format!(", behind {time}"));
    format!("from {} to {}{after}", gap.start, gap.end)
}

fn request_of(action: &RecoverAction) -> RecoveryRequest {
    let target = match action.point.clone() {
        RecoveryPoint::Time { time, inclusive } => RecoveryTarget::Time { time, inclusive },
        RecoveryPoint::Lsn { lsn, inclusive } => RecoveryTarget::Position { lsn, inclusive },
        RecoveryPoint::Xid { xid, inclusive } => RecoveryTarget::Transaction { xid, inclusive },
        RecoveryPoint::Name(name) => RecoveryTarget::Name(name),
        RecoveryPoint::Immediate {} => RecoveryTarget::Immediate,
        RecoveryPoint::Latest {} => RecoveryTarget::Latest,
    };
    let timeline = match action.timeline {
        RecoveryTimeline::Latest => TimelineChoice::Latest,
        RecoveryTimeline::Current => TimelineChoice::Current,
        RecoveryTimeline::Number(number) => TimelineChoice::Number(number),
    };
    RecoveryRequest { target, timeline, action: RecoveryAction::Promote }
}
