//! The claim of a recovered server: whether it can be used, and the one that is made.

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{ClaimAccessMode, PitrRestore, ReclaimPolicy, RecoveryClaimTemplate};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::gather::Gathered;
use crate::context::{Identity, claim_of};
use crate::display;
use crate::labels;

/// How the claim stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ClaimState {
    /// It is there.
    Ready,
    /// It is to be made.
    Missing(Box<PersistentVolumeClaim>),
    /// Others must do something.
    Awaited(Failure),
    /// It is not one for a recovered server.
    Refused(Failure),
}

/// The name of the claim: the one that the spec says, or the object's own.
pub(super) fn claim_name(seen: &Gathered) -> &str {
    let claim = &seen.request.spec.to.volume_claim;
    claim.name.as_deref().unwrap_or(&seen.identity.name)
}

/// What is to be said of the claim, once it is known what is needed.
pub(super) fn claim_state(seen: &Gathered) -> ClaimState {
    let name = claim_name(seen);
    let repository = seen.repository.as_ref().and_then(|it| claim_of(&it.spec));
    if repository.as_deref() == Some(name) {
        return ClaimState::Refused(taken(format!(
            "the PersistentVolumeClaim {name} is the one of the repository"
        )));
    }
    match (&seen.request.spec.to.volume_claim.template, &seen.claim) {
        (None, None) => ClaimState::Awaited(absent(name, "does not exist")),
        (None, Some(claim)) => usable(name, claim),
        (Some(_), Some(claim)) if !is_made_for(claim, &seen.identity) => {
            ClaimState::Refused(taken(format!(
                "the PersistentVolumeClaim {name} exists already, and was not made for this \
                 PitrRestore"
            )))
        }
        (Some(_), Some(claim)) => usable(name, claim),
        (Some(template), None) => too_small(seen, template).map_or_else(
            || ClaimState::Missing(Box::new(build_claim(&seen.request, &seen.identity, template))),
            ClaimState::Refused,
        ),
    }
}

fn taken(message: String) -> Failure {
    Failure::new(Reason::VolumeNotEmpty, message).with_hint(
        "Nothing on it was touched. Create another PitrRestore, of another name, or with an empty \
         claim in to.volumeClaim.name.",
    )
}

fn absent(name: &str, what: &str) -> Failure {
    let message = format!("the PersistentVolumeClaim {name}, which to.volumeClaim names, {what}");
    Failure::new(Reason::ClaimNotFound, message).with_hint("Create it: the recovery goes on then.")
}

fn usable(name: &str, claim: &PersistentVolumeClaim) -> ClaimState {
    if claim.metadata.deletion_timestamp.is_some() {
        return ClaimState::Awaited(absent(name, "is being deleted"));
    }
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    if mode == Some("Block") {
        let message = format!("the PersistentVolumeClaim {name} is a block device (volumeMode)");
        return ClaimState::Refused(
            Failure::new(Reason::InvalidSpec, message)
                .with_hint("Name a claim with volumeMode Filesystem."),
        );
    }
    ClaimState::Ready
}

/// Whether the claim was made for this very object, and not for one that had its name before.
fn is_made_for(claim: &PersistentVolumeClaim, identity: &Identity) -> bool {
    claim.annotations().get(labels::RECOVERY) == Some(&identity.uid)
}

/// A claim that is too small is not made at all.
fn too_small(seen: &Gathered, template: &RecoveryClaimTemplate) -> Option<Failure> {
    let needed = seen.status.needed_bytes?;
    let size = match template.size.units() {
        Ok(size) if size >= needed => return None,
        Ok(size) => size,
        Err(error) => {
            let message = format!("spec.to.volumeClaim.template.size: {error}");
            return Some(Failure::new(Reason::InvalidSpec, message));
        }
    };
    let message = format!(
        "to.volumeClaim.template.size is {}, and files and log need {} ({needed} bytes, \
         {} too few)",
        template.size.0,
        display::bytes(needed),
        needed - size,
    );
    Some(Failure::new(Reason::VolumeTooSmall, message))
}

/// The claim of a request.
fn build_claim(
    request: &PitrRestore,
    identity: &Identity,
    template: &RecoveryClaimTemplate,
) -> PersistentVolumeClaim {
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let goes_along = request.spec.to.volume_claim.reclaim_policy == ReclaimPolicy::Delete;
    let modes = template.access_modes.iter().copied().map(ClaimAccessMode::as_str);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
            labels: Some(
                [
                    text(labels::MANAGED_BY, labels::MANAGER),
                    text(labels::KIND, &PitrRestore::kind(&())),
                ]
                .into(),
            ),
            annotations: Some([text(labels::RECOVERY, &identity.uid)].into()),
            owner_references: goes_along
                .then(|| request.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes.map(str::to_owned).collect()),
            storage_class_name: template.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(template.size.0.clone()))].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
