//! Where a repository was looked for, in words for whoever named the wrong place.

use dbbackup_contract::{Failure, Reason, RepositoryAccess, StorageAccess};
use dbbackup_repository::Instead;

use crate::uri::RepositoryUri;

/// That no repository is at the place of `access`, and what to do about it.
pub(super) fn no_repository(
    reason: Reason,
    instead: &Instead,
    access: &RepositoryAccess,
) -> Failure {
    let message = format!("there is no repository {}{instead}", shown(&access.storage));
    let failure = Failure::new(reason, message);
    match (&access.expected_id, instead) {
        (Some(id), _) => failure.with_hint(format!(
            "It had been there, with the id {id}: put the right volume or bucket back."
        )),
        (None, Instead::Below(folder)) => failure.with_hint(name_it(&access.storage, folder)),
        (None, Instead::Nothing | Instead::Others(_)) => failure,
    }
}

/// The place, as the end of a sentence.
fn shown(storage: &StorageAccess) -> String {
    match storage {
        StorageAccess::Volume { path, claim: None } => format!("in the folder {path}"),
        StorageAccess::Volume { claim: Some(claim), .. } if claim.path.is_empty() => {
            format!("at the root of the claim {}", claim.name)
        }
        StorageAccess::Volume { claim: Some(claim), .. } => {
            format!("in the folder {} of the claim {}", claim.path, claim.name)
        }
        StorageAccess::S3(_) | StorageAccess::AzureBlob(_) | StorageAccess::Gcs(_) => {
            format!("at {}", address(storage))
        }
    }
}

/// The address that the command line takes.
fn address(storage: &StorageAccess) -> String {
    let uri = match storage {
        StorageAccess::Volume { path, .. } => RepositoryUri::File(path.into()),
        StorageAccess::S3(s3) => {
            RepositoryUri::S3 { bucket: s3.bucket.clone(), prefix: s3.prefix.clone() }
        }
        StorageAccess::AzureBlob(azure) => RepositoryUri::Azure {
            account: azure.account.clone(),
            container: azure.container.clone(),
            prefix: azure.prefix.clone(),
        },
        StorageAccess::Gcs(gcs) => {
            RepositoryUri::Gcs { bucket: gcs.bucket.clone(), prefix: gcs.prefix.clone() }
        }
    };
    uri.to_string()
}

/// How to name the `folder` below.
fn name_it(storage: &StorageAccess, folder: &str) -> String {
    let on_the_command_line = format!("give the address {}", joined(&address(storage), folder));
    let (field, path) = match storage {
        StorageAccess::Volume { claim: None, .. } => {
            return format!("To use it, {on_the_command_line}.");
        }
        StorageAccess::Volume { claim: Some(claim), .. } => ("storage.volume.path", &claim.path),
        StorageAccess::S3(s3) => ("storage.s3.prefix", &s3.prefix),
        StorageAccess::AzureBlob(azure) => ("storage.azureBlob.prefix", &azure.prefix),
        StorageAccess::Gcs(gcs) => ("storage.gcs.prefix", &gcs.prefix),
    };
    let anew = format!(
        "To use it, delete this BackupRepository, which deletes no backup, and create it anew \
         with {field}: {} (storage cannot be changed)",
        joined(path, folder)
    );
    match storage {
        StorageAccess::Volume { .. } => format!("{anew}."),
        _ => format!("{anew}; on the command line, {on_the_command_line}."),
    }
}

fn joined(place: &str, below: &str) -> String {
    let slash = if place.is_empty() || below.is_empty() { "" } else { "/" };
    format!("{place}{slash}{below}")
}

#[cfg(test)]
mod tests {
    use dbbackup_contract::{EncryptionAccess, RepositoryAccess};
    use serde_json::{Value, json};

    use super::*;

    fn access(storage: Value) -> RepositoryAccess {
        RepositoryAccess {
            name: "main".to_owned(),
            storage: serde_json::from_value(storage).unwrap(),
            encryption: EncryptionAccess::None {},
            expected_id: None,
            mode: dbbackup_contract::AccessMode::ReadOnly,
            bandwidth: dbbackup_contract::Bandwidth::default(),
        }
    }

    fn told(storage: Value, instead: &Instead) -> Failure {
        no_repository(Reason::RepositoryNotFound, instead, &access(storage))
    }

    #[test]
    fn a_claim_is_named_with_its_folder_and_what_to_write() {
        let claim = |path: &str| json!({"volume": {"path": "/repository", "claim": {"name": "shared", "path": path}}});
        let below = Instead::Below("dbbackup".to_owned());
        let root = told(claim(""), &below);
        assert_eq!(
            root.message,
            "there is no repository at the root of the claim shared; one seems to be in the \
             folder dbbackup below it"
        );
        assert_eq!(
            root.hint,
            "To use it, delete this BackupRepository, which deletes no backup, and create it anew \
             with storage.volume.path: dbbackup (storage cannot be changed)."
        );
        assert!(told(claim("a"), &below).hint.contains("path: a/dbbackup "));
        let misspelt = told(claim("dbbackpu"), &Instead::Nothing);
        let message = "there is no repository in the folder dbbackpu of the claim shared";
        assert_eq!(misspelt.message, message);
        assert_eq!(misspelt.hint, Reason::RepositoryNotFound.hint());
        for word in ["IfEmpty", "empty", "init"] {
            assert!(!misspelt.hint.contains(word), "{}", misspelt.hint);
        }
    }

    #[test]
    fn a_bucket_and_a_folder_are_named_by_their_address() {
        let gcs = told(json!({"gcs": {"bucket": "b", "prefix": "p"}}), &Instead::Below("q".into()));
        assert!(gcs.message.starts_with("there is no repository at gs://b/p; "), "{gcs}");
        assert!(gcs.hint.contains("storage.gcs.prefix: p/q "), "{}", gcs.hint);
        assert!(gcs.hint.ends_with("give the address gs://b/p/q."), "{}", gcs.hint);
        let folder = told(json!({"volume": {"path": "/mnt"}}), &Instead::Below("q".into()));
        assert_eq!(folder.hint, "To use it, give the address file:///mnt/q.");
    }

    #[test]
    fn what_was_there_before_is_to_be_put_back() {
        let expected_id = Some("4f1c".to_owned());
        let access = RepositoryAccess { expected_id, ..access(json!({"volume": {"path": "/r"}})) };
        let gone = no_repository(Reason::RepositoryNotFound, &Instead::Nothing, &access);
        assert!(gone.hint.contains("put the right volume or bucket back"), "{}", gone.hint);
    }
}
