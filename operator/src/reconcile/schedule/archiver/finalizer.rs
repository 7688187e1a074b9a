//! The finalizer of a schedule whose server has a replication slot of ours: it is there before
//! the first archiver is, and goes with the slot.

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::BackupSchedule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{is_not_found, rejection};
use crate::context::{Context, Identity, ReconcileError};
use crate::labels::{MANAGER, SLOT_FINALIZER};

/// What became of it.
pub(super) enum Held {
    /// It stands there as it should; the object as it is since, where it was written now.
    Yes(Option<Box<BackupSchedule>>),
    /// The API server does not take it.
    Refused(Failure),
    /// The object is gone, or going.
    Gone,
}

/// Sets it, or takes it away.
///
/// # Errors
/// The API server cannot be reached, or somebody else wrote at the same time.
pub(super) async fn hold(
    identity: &Identity,
    holds: bool,
    context: &Context,
) -> Result<Held, ReconcileError> {
    let name = &identity.name;
    let api: Api<BackupSchedule> = Api::namespaced(context.client.clone(), &identity.namespace);
    // The watch has forgotten what other finalizers there are.
    let found = api
        .get_opt(name)
        .await
        .map_err(|error| ReconcileError::Read("the BackupSchedule", Box::new(error)))?;
    let found = found.filter(|found| found.metadata.uid.as_deref() == Some(&identity.uid));
    let Some(found) = found else { return Ok(Held::Gone) };
    if holds && found.metadata.deletion_timestamp.is_some() {
        return Ok(Held::Gone);
    }
    let Some(operations) = operations(&found.metadata, holds) else { return Ok(Held::Yes(None)) };
    let patch = serde_json::from_value(operations)
        .map_err(|error| ReconcileError::Status(Box::new(kube::Error::SerdeError(error))))?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::Json::<()>(patch)).await {
        Ok(written) => Ok(Held::Yes(Some(Box::new(written)))),
        Err(error) if is_not_found(&error) => Ok(Held::Gone),
        Err(error) => match rejection(&error) {
            Some(why) => Ok(Held::Refused(refused(why))),
            None => Err(ReconcileError::Status(Box::new(error))),
        },
    }
}

fn refused(why: &str) -> Failure {
    let message = format!("the finalizer {SLOT_FINALIZER} could not be set: {why}");
    Failure::new(Reason::PermissionDenied, message).with_hint(
        "The operator needs the right to patch backupschedules: upgrade the chart with its roles.",
    )
}

/// The patch, for this version of the object alone; `None` where nothing is to be done.
fn operations(found: &ObjectMeta, holds: bool) -> Option<Value> {
    let all = found.finalizers.as_deref().unwrap_or_default();
    let ours = all.iter().position(|it| it == SLOT_FINALIZER);
    let change = match (ours, holds) {
        (Some(_), true) | (None, false) => return None,
        (Some(index), false) => {
            json!({"op": "remove", "path": format!("/metadata/finalizers/{index}")})
        }
        (None, true) if all.is_empty() => {
            json!({"op": "add", "path": "/metadata/finalizers", "value": [SLOT_FINALIZER]})
        }
        (None, true) => {
            json!({"op": "add", "path": "/metadata/finalizers/-", "value": SLOT_FINALIZER})
        }
    };
    let version = json!({"op": "replace", "path": "/metadata/resourceVersion",
        "value": found.resource_version});
    Some(json!([version, change]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizers_of_others_stay_and_ours_is_there_once() {
        let meta = |all: &[&str]| ObjectMeta {
            finalizers: Some(all.iter().map(|it| (*it).to_owned()).collect()),
            resource_version: Some("7".to_owned()),
            ..ObjectMeta::default()
        };
        let change = |all: &[&str], holds| {
            let operations = operations(&meta(all), holds)?;
            assert_eq!(operations[0]["value"], "7", "of this version alone");
            Some(operations[1].clone())
        };
        let add =
            |path: &str, value: Value| Some(json!({"op": "add", "path": path, "value": value}));
        assert_eq!(change(&[], true), add("/metadata/finalizers", json!([SLOT_FINALIZER])));
        assert_eq!(change(&["a/b"], true), add("/metadata/finalizers/-", json!(SLOT_FINALIZER)));
        assert_eq!(change(&[SLOT_FINALIZER], true), None);
        assert_eq!(change(&["a/b"], false), None);
        let removed = change(&["a/b", SLOT_FINALIZER], false).unwrap();
        assert_eq!(removed, json!({"op": "remove", "path": "/metadata/finalizers/1"}));
    }
}
