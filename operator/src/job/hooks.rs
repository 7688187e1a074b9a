//! The hooks of a backup, from the API's words to the task's.

use std::time::Duration;

use dbbackup_contract::{
    AfterHook, BeforeHook, DurationText, Failure, Hook, Hooks, Reason, SqlText,
};
use dbbackup_crds::HooksSpec;

use super::access::{Place, credentials};
use super::mounts::Mounts;

/// Longest timeout of a hook.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What the runner carries out. `place` is the spec that has the hooks.
///
/// # Errors
/// `InvalidSpec` where a timeout is none, or longer than a day.
pub fn hooks_access(
    spec: Option<&HooksSpec>,
    place: &Place,
    mounts: &mut Mounts,
) -> Result<Hooks, Failure> {
    let Some(spec) = spec else { return Ok(Hooks::default()) };
    let before = spec.before.iter().map(|it| {
        let field = || place.field(&format!("hooks.before[{}].timeout", it.name));
        let hook = hook(&it.name, &it.database, &it.sql, seconds(&it.timeout, field)?);
        Ok(BeforeHook { hook, on_error: it.on_error })
    });
    let after = spec.after.iter().map(|it| {
        let field = || place.field(&format!("hooks.after[{}].timeout", it.name));
        let hook = hook(&it.name, &it.database, &it.sql, seconds(&it.timeout, field)?);
        Ok(AfterHook { hook, when: it.when })
    });
    let named_by = || place.field("hooks.credentialsSecretRef");
    let own = spec.credentials_secret_ref.as_ref();
    Ok(Hooks {
        before: before.collect::<Result<_, Failure>>()?,
        after: after.collect::<Result<_, Failure>>()?,
        credentials: own.map(|own| credentials(own, named_by, mounts)),
    })
}

fn hook(name: &str, database: &str, sql: &SqlText, timeout_seconds: u64) -> Hook {
    let (name, database) = (name.to_owned(), database.to_owned());
    Hook { name, database, sql: sql.clone(), timeout_seconds }
}

fn seconds(timeout: &DurationText, field: impl Fn() -> String) -> Result<u64, Failure> {
    let invalid = |why: &str| Failure::new(Reason::InvalidSpec, format!("{}: {why}", field()));
    let timeout = timeout.parse().map_err(|error| invalid(&error.to_string()))?;
    if timeout > LONGEST {
        return Err(invalid("it is longer than a day: write 24h at most"));
    }
    Ok(timeout.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hooks_have_a_secret_of_their_own_and_no_more_than_a_day() {
        let spec = |timeout: &str| -> HooksSpec {
            let hook = json!({"name": "off", "database": "shop", "sql": "select off()",
                "timeout": timeout});
            let json = json!({"credentialsSecretRef": {"name": "writer"}, "before": [hook]});
            serde_json::from_value(json).unwrap()
        };
        let (place, mut mounts) = (Place::new("", "BackupSchedule", "nightly"), Mounts::default());
        let hooks = hooks_access(Some(&spec("24h")), &place, &mut mounts).unwrap();
        assert_eq!(hooks.before[0].hook.timeout_seconds, 86_400);
        let password = hooks.credentials.unwrap().password.unwrap();
        assert_eq!(password.object, "the Secret writer");
        assert_eq!(password.named_by, "hooks.credentialsSecretRef of the BackupSchedule nightly");
        for wrong in ["25h", "soon"] {
            let failure = hooks_access(Some(&spec(wrong)), &place, &mut mounts).unwrap_err();
            let field = "hooks.before[off].timeout of the BackupSchedule nightly: ";
            assert!(failure.message.starts_with(field), "{failure}");
            assert_eq!(failure.reason, Reason::InvalidSpec);
        }
    }
}
