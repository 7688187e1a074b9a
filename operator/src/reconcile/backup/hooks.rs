//! What is told of the hooks of a backup that has ended.

use dbbackup_contract::{ErrorClass, Failure, HookOutcome, HookReport, HookStage, Reason};
use dbbackup_crds::BackupStatus;

/// Of the hooks after a run that was begun, and whose report does not name them, nobody knows
/// whether they were carried out: its node was lost, or its runner was killed.
pub(super) fn note_unknown(status: &mut BackupStatus) {
    let hooks = status.resolved.as_ref().and_then(|resolved| resolved.hooks.as_ref());
    if status.attempts.unwrap_or(0) == 0 || status.hooks.iter().any(is_after) {
        return;
    }
    for after in hooks.into_iter().flat_map(|hooks| &hooks.after) {
        let name = &after.name;
        let message = format!("hook {name}: whether it was carried out is not known");
        let failure = Failure { class: ErrorClass::Warning, ..unknown(message) };
        let report = HookReport::of(name, HookStage::After, HookOutcome::Unknown);
        status.hooks.push(HookReport { error: Some(failure), ..report });
    }
}

fn is_after(hook: &HookReport) -> bool {
    hook.stage == HookStage::After
}

fn unknown(message: String) -> Failure {
    Failure::new(Reason::HookFailed, message)
        .with_hint("Look whether what it does is done; else carry out its SQL by hand.")
}

/// What went wrong with hooks, where the backup itself did not fail by it: the first failure,
/// and how many more there are.
pub(crate) fn trouble(hooks: &[HookReport]) -> Option<Failure> {
    let errors = hooks.iter().filter_map(|hook| hook.error.as_ref());
    let mut errors = errors.filter(|error| error.class == ErrorClass::Warning);
    let first = errors.next()?.clone();
    let message = match errors.count() {
        0 => return Some(first),
        1 => format!("{} (and 1 more hook)", first.message),
        more => format!("{} (and {more} more hooks)", first.message),
    };
    Some(Failure { message, ..first })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::fixtures;

    fn status(attempts: u32) -> BackupStatus {
        let mut resolved = fixtures::resolved_backup();
        resolved.hooks = serde_json::from_value(json!({
            "before": [{"name": "pause", "database": "shop", "sql": "select pause()"}],
            "after": [
                {"name": "resume", "database": "shop", "sql": "select resume()"},
                {"name": "note", "database": "shop", "sql": "select note()", "when": "OnSuccess"},
            ],
        }))
        .unwrap();
        let (resolved, attempts) = (Some(Box::new(resolved)), Some(attempts));
        BackupStatus { resolved, attempts, ..BackupStatus::default() }
    }

    #[test]
    fn of_a_run_that_was_killed_nobody_knows_what_was_carried_out() {
        let mut lost = status(1);
        note_unknown(&mut lost);
        let outcomes: Vec<_> = lost.hooks.iter().map(|hook| hook.outcome).collect();
        assert_eq!(outcomes, [HookOutcome::Unknown; 2]);
        let told = trouble(&lost.hooks).unwrap();
        assert_eq!(
            told.message,
            "hook resume: whether it was carried out is not known (and 1 more hook)"
        );
        let mut never_begun = status(0);
        note_unknown(&mut never_begun);
        assert_eq!(never_begun.hooks, []);
        let skipped = HookReport::of("resume", HookStage::After, HookOutcome::Skipped);
        let mut known = BackupStatus { hooks: vec![skipped.clone()], ..status(1) };
        note_unknown(&mut known);
        assert_eq!(known.hooks, [skipped]);
    }

    #[test]
    fn what_has_failed_the_backup_is_told_by_that() {
        let failed = HookReport {
            error: Some(Failure::new(Reason::HookFailed, "hook pause: no")),
            ..HookReport::of("pause", HookStage::Before, HookOutcome::Failed)
        };
        assert_eq!(trouble(&[failed]), None);
    }
}
