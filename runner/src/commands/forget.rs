//! `forget`: lets snapshots go by rules, or one by one.

use dbbackup_contract::{DurationText, ExitCode, Failure, Reason};
use dbbackup_repository::{ForgetReason, Repository, SnapshotId};
use dbbackup_retention::{RetentionPolicy, RetentionSpec};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::{ForgetArgs, RuleArgs};
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::work::{Plan, Policy, RetainChanges, plan_forgetting};

pub(super) async fn forget(
    args: ForgetArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    // What the rules say is looked at before the repository is.
    let policy = if args.snapshots.is_empty() { Some(policy(&args.rules)?) } else { None };
    let board = ProgressBoard::new(None);
    let repository = open(&args.repository, cancel).await?;
    let Some(policy) = policy else {
        let work = forget_these(&repository, &args);
        return unless_stopped(cancel, work).await;
    };
    let chosen = |series: &str| {
        let named = args.series.is_empty() || args.series.iter().any(|name| name == series);
        named.then_some(&policy)
    };
    let as_made = RetainChanges::new();
    let planning = plan_forgetting(&repository, chosen, &as_made, Timestamp::now());
    let plan = unless_stopped(cancel, planning).await?;
    board.clear();
    // Seen, also where it is refused.
    show(&plan, &args)?;
    plan.allowed(args.max_delete_percent, args.approved_plan.as_deref())?;
    if !args.dry_run {
        for gone in plan.dropped() {
            let detail = gone.verdict.to_string();
            let forgetting = repository.forget(&gone.snapshot, ForgetReason::Retention, &detail);
            unless_stopped(cancel, forgetting).await?;
        }
        if plan.dropped().next().is_some() && !args.json {
            print::aside("note: prune frees the space that only they have used");
        }
    }
    Ok(ExitCode::Success)
}

/// Lets go of what was named, whole, so that nobody's typing error matches.
async fn forget_these(repository: &Repository, args: &ForgetArgs) -> Result<ExitCode, Failure> {
    for text in &args.snapshots {
        let id = SnapshotId::parse(text).map_err(|_| {
            Failure::new(Reason::UsageError, format!("{text:?} is no whole id of a snapshot"))
                .with_hint("Copy the id from: dbbackup-runner snapshots REPOSITORY.")
        })?;
        if args.dry_run {
            repository.find(id.as_str()).await?;
            print::line(&format!("{id}  would be let go"));
        } else {
            repository.forget(&id, ForgetReason::Erase, "command line").await?;
            print::line(&format!("{id}  let go"));
        }
    }
    Ok(ExitCode::Success)
}

fn policy(args: &RuleArgs) -> Result<Policy, Failure> {
    let spec = RetentionSpec {
        keep_last: args.keep_last,
        keep_hourly: args.keep_hourly,
        keep_daily: args.keep_daily,
        keep_weekly: args.keep_weekly,
        keep_monthly: args.keep_monthly,
        keep_yearly: args.keep_yearly,
        keep_within: args.keep_within.as_deref().map(DurationText::new),
        minimum: args.minimum,
    };
    let wrong = |message: String| Failure::new(Reason::UsageError, message);
    let rules = RetentionPolicy::of(&spec).map_err(|error| wrong(error.to_string()))?;
    if rules.keeps_everything() {
        let hint = "Say at least one rule, such as --keep-daily 7, or name a --snapshot.";
        return Err(wrong("no rule was given that lets anything go".into()).with_hint(hint));
    }
    let zone = TimeZone::get(&args.time_zone).map_err(|_| {
        wrong(format!("{:?} is no time zone", args.time_zone))
            .with_hint("Write a name such as Europe/Berlin, or UTC.")
    })?;
    Ok(Policy { rules, zone, asked_alone: false })
}

fn show(plan: &Plan, args: &ForgetArgs) -> Result<(), Failure> {
    if args.json {
        let decisions = plan.decisions.iter().map(|decision| {
            json!({
                "id": decision.snapshot.to_string(),
                "series": &*decision.series,
                "slotTime": decision.time,
                "kept": decision.verdict.is_kept(),
                "why": decision.verdict.to_string(),
            })
        });
        return print::json(&json!({
            "plan": plan.digest(),
            "dryRun": args.dry_run,
            "snapshots": plan.snapshots,
            "forgotten": plan.dropped().count(),
            "decisions": decisions.collect::<Vec<_>>(),
        }));
    }
    let mut series = None;
    for decision in &plan.decisions {
        if series != Some(&decision.series) {
            print::line(&decision.series);
            series = Some(&decision.series);
        }
        print::line(&format!(
            "  {}  {}  {}",
            decision.snapshot,
            decision.time.strftime("%Y-%m-%d %H:%M:%SZ"),
            decision.verdict
        ));
    }
    let dropped = plan.dropped().count() as u64;
    let verb = if args.dry_run { "would be let go" } else { "to be let go" };
    print::line(&format!(
        "{} of {} {verb}; the plan is {}",
        dropped,
        print::count(plan.snapshots as u64, "snapshot"),
        plan.digest()
    ));
    Ok(())
}
