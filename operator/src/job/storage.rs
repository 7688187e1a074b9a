//! Where a repository is, from the API's words to the task's.

use std::time::Duration;

use dbbackup_contract::{
    Action, AzureAccess, AzureCredentialFiles, GcsAccess, ObjectLock, S3Access, S3CredentialFiles,
    SecretFile, StorageAccess, Task, VolumeClaim,
};
use dbbackup_crds::{
    AzureBlobStorage, CaRef, GcsStorage, LocalRef, ObjectLockSpec, S3Storage, StorageSpec,
    VolumeStorage,
};

use super::Mounts;
use super::access::{Place, ca_file};

/// The keys of the secrets that `credentialsSecretRef` names.
const ACCESS_KEY_ID: &str = "accessKeyId";
const SECRET_ACCESS_KEY: &str = "secretAccessKey";
const SESSION_TOKEN: &str = "sessionToken";
const SAS_TOKEN: &str = "sasToken";
const ACCOUNT_KEY: &str = "accountKey";
const KEY_JSON: &str = "key.json";

/// Where the runner finds the repository `name`, whose volume is mounted at `dir`. `None`
/// where the spec names no place, or more than one, which the CRD refuses.
pub(super) fn storage_access(
    dir: &str,
    name: &str,
    spec: &StorageSpec,
    mounts: &mut Mounts,
) -> Option<StorageAccess> {
    let place = |path: &str| Place::new(path, "BackupRepository", name);
    match (&spec.volume, &spec.s3, &spec.azure_blob, &spec.gcs) {
        (Some(volume), None, None, None) => Some(in_volume(dir, volume)),
        (None, Some(s3), None, None) => Some(in_s3(s3, &place("storage.s3"), mounts)),
        (None, None, Some(azure), None) => {
            Some(in_azure(azure, &place("storage.azureBlob"), mounts))
        }
        (None, None, None, Some(gcs)) => Some(in_gcs(gcs, &place("storage.gcs"), mounts)),
        _ => None,
    }
}

/// Whether a pod needs the workload identity of Azure: its webhook looks for a label.
pub(super) fn wants_azure_identity(task: &Task) -> bool {
    let destination = match &task.action {
        Action::Copy(copy) => Some(&copy.destination),
        _ => None,
    };
    task.repository.iter().chain(destination).any(|access| {
        matches!(&access.storage, StorageAccess::AzureBlob(azure) if azure.credentials.is_none())
    })
}

fn in_volume(dir: &str, volume: &VolumeStorage) -> StorageAccess {
    let path = match &volume.path {
        Some(path) => format!("{dir}/{path}"),
        None => dir.to_owned(),
    };
    let on_claim = volume.path.clone().unwrap_or_default();
    let claim = VolumeClaim { name: volume.claim_name.clone(), path: on_claim };
    StorageAccess::Volume { path, claim: Some(claim) }
}

fn in_s3(s3: &S3Storage, place: &Place, mounts: &mut Mounts) -> StorageAccess {
    let credentials = s3.credentials_secret_ref.as_ref().map(|secret| S3CredentialFiles {
        access_key_id: credential(secret, ACCESS_KEY_ID, place, mounts),
        secret_access_key: credential(secret, SECRET_ACCESS_KEY, place, mounts),
        session_token: credential(secret, SESSION_TOKEN, place, mounts),
    });
    StorageAccess::S3(Box::new(S3Access {
        bucket: s3.bucket.clone(),
        prefix: s3.prefix.clone().unwrap_or_default(),
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        force_path_style: s3.force_path_style,
        ca: ca(s3.ca_ref.as_ref(), place, mounts),
        storage_class: s3.storage_class.map(|class| class.as_str().to_owned()),
        object_lock: s3.object_lock.as_ref().and_then(object_lock),
        credentials,
    }))
}

/// `None` where the period is no number of days, which the CRD refuses.
fn object_lock(spec: &ObjectLockSpec) -> Option<ObjectLock> {
    const DAY: Duration = Duration::from_secs(86_400);
    let days = spec.period.parse().ok()?.as_secs() / DAY.as_secs();
    let days = u16::try_from(days).ok().filter(|days| (1..=ObjectLock::MOST_DAYS).contains(days));
    Some(ObjectLock { mode: spec.mode, days: days? })
}

fn in_azure(azure: &AzureBlobStorage, place: &Place, mounts: &mut Mounts) -> StorageAccess {
    let credentials = azure.credentials_secret_ref.as_ref().map(|secret| AzureCredentialFiles {
        sas_token: credential(secret, SAS_TOKEN, place, mounts),
        account_key: credential(secret, ACCOUNT_KEY, place, mounts),
    });
    StorageAccess::AzureBlob(Box::new(AzureAccess {
        account: azure.account.clone(),
        container: azure.container.clone(),
        prefix: azure.prefix.clone().unwrap_or_default(),
        endpoint: azure.endpoint.clone(),
        ca: ca(azure.ca_ref.as_ref(), place, mounts),
        credentials,
    }))
}

fn in_gcs(gcs: &GcsStorage, place: &Place, mounts: &mut Mounts) -> StorageAccess {
    let secret = gcs.credentials_secret_ref.as_ref();
    StorageAccess::Gcs(Box::new(GcsAccess {
        bucket: gcs.bucket.clone(),
        prefix: gcs.prefix.clone().unwrap_or_default(),
        endpoint: gcs.endpoint.clone(),
        ca: ca(gcs.ca_ref.as_ref(), place, mounts),
        credentials: secret.map(|secret| credential(secret, KEY_JSON, place, mounts)),
    }))
}

fn credential(secret: &LocalRef, key: &str, place: &Place, mounts: &mut Mounts) -> SecretFile {
    mounts.secret(&secret.name, key, place.field("credentialsSecretRef"))
}

fn ca(ca: Option<&CaRef>, place: &Place, mounts: &mut Mounts) -> Option<SecretFile> {
    ca.map(|ca| ca_file(ca, place.field("caRef"), mounts))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What the runner is told of a place that the API's words name.
    fn told(spec: Value) -> Option<Value> {
        let spec: StorageSpec = serde_json::from_value(spec).unwrap();
        let access = storage_access("/repository", "main", &spec, &mut Mounts::default())?;
        Some(serde_json::to_value(access).unwrap())
    }

    fn file(dir: u32, object: &str, key: &str, field: &str) -> Value {
        json!({
            "dir": format!("/run/dbbackup/secrets/{dir}"), "key": key, "object": object,
            "namedBy": format!("storage.{field} of the BackupRepository main"),
        })
    }

    #[test]
    fn a_bucket_of_s3() {
        let keys = |key| file(0, "the Secret s3-keys", key, "s3.credentialsSecretRef");
        let whole = json!({"s3": {
            "bucket": "acme-backups", "prefix": "shop", "region": "eu-central-1",
            "endpoint": "https://s3.example.com", "forcePathStyle": true,
            "storageClass": "STANDARD_IA",
            "caRef": {"kind": "ConfigMap", "name": "corporate-ca"},
            "objectLock": {"mode": "Compliance", "period": "14d"},
            "credentialsSecretRef": {"name": "s3-keys"},
        }});
        let expected = json!({"s3": {
            "bucket": "acme-backups", "prefix": "shop", "region": "eu-central-1",
            "endpoint": "https://s3.example.com", "forcePathStyle": true,
            "storageClass": "STANDARD_IA",
            "ca": file(1, "the ConfigMap corporate-ca", "ca.crt", "s3.caRef"),
            "objectLock": {"mode": "Compliance", "days": 14},
            "credentials": {
                "accessKeyId": keys("accessKeyId"), "secretAccessKey": keys("secretAccessKey"),
                "sessionToken": keys("sessionToken"),
            },
        }});
        assert_eq!(told(whole), Some(expected));
        let least = json!({"s3": {"bucket": "acme-backups", "forcePathStyle": false}});
        assert_eq!(told(least.clone()), Some(least));
    }

    #[test]
    fn a_container_of_azure() {
        let keys = |key| file(0, "the Secret account", key, "azureBlob.credentialsSecretRef");
        let place = json!({"account": "acme", "container": "backups"});
        assert_eq!(told(json!({"azureBlob": place})), Some(json!({"azureBlob": place})));
        let whole = json!({"azureBlob": {
            "account": "acme", "container": "backups", "prefix": "shop",
            "endpoint": "https://acme.blob.example.com",
            "credentialsSecretRef": {"name": "account"},
        }});
        let expected = json!({"azureBlob": {
            "account": "acme", "container": "backups", "prefix": "shop",
            "endpoint": "https://acme.blob.example.com",
            "credentials": {"sasToken": keys("sasToken"), "accountKey": keys("accountKey")},
        }});
        assert_eq!(told(whole), Some(expected));
    }

    #[test]
    fn a_bucket_of_google_cloud() {
        let whole = json!({"gcs": {
            "bucket": "acme-backups", "prefix": "shop",
            "credentialsSecretRef": {"name": "robot"},
        }});
        let expected = json!({"gcs": {
            "bucket": "acme-backups", "prefix": "shop",
            "credentials": file(0, "the Secret robot", "key.json", "gcs.credentialsSecretRef"),
        }});
        assert_eq!(told(whole), Some(expected));
        assert_eq!(told(json!({"gcs": {"bucket": "b"}})), Some(json!({"gcs": {"bucket": "b"}})));
    }

    #[test]
    fn a_volume_and_what_the_schema_refuses() {
        let volume = json!({"volume": {"claimName": "backups", "path": "shop"}});
        let claim = json!({"name": "backups", "path": "shop"});
        let expected = json!({"volume": {"path": "/repository/shop", "claim": claim}});
        assert_eq!(told(volume), Some(expected));
        let two = json!({"volume": {"claimName": "backups"}, "gcs": {"bucket": "b"}});
        assert_eq!((told(two), told(json!({}))), (None, None));
    }

    #[test]
    fn a_lock_is_said_in_days() {
        for (period, days) in [("30d", Some(30)), ("36500d", Some(36500)), ("1h", None)] {
            let mode = dbbackup_contract::ObjectLockMode::Governance;
            let spec = ObjectLockSpec { mode, period: dbbackup_crds::DurationText::new(period) };
            assert_eq!(object_lock(&spec).map(|lock| lock.days), days, "{period}");
        }
    }
    #[test]
    fn a_pod_bears_azures_label_where_either_repository_needs_it() {
        let access = |storage: Value| json!({"name": "main", "storage": storage, "encryption": {"none": {}}});
        let volume = json!({"volume": {"path": "/repository"}});
        let azure = json!({"azureBlob": {"account": "acme", "container": "backups"}});
        let keyed = told(json!({"azureBlob": {
            "account": "acme", "container": "backups", "credentialsSecretRef": {"name": "k"},
        }}));
        let copy =
            |to: &Value| json!({"copy": {"snapshot": "s", "destination": access(to.clone())}});
        let find = json!({"find": {"series": "s"}});
        for (repository, action, wants) in [
            (&volume, &find, false),
            (&azure, &find, true),
            (&keyed.unwrap(), &find, false),
            (&volume, &copy(&azure), true),
            (&volume, &copy(&volume), false),
        ] {
            let task = json!({
                "version": 1, "repository": access(repository.clone()), "action": action,
                "subject": {"kind": "Backup", "namespace": "shop", "name": "b", "uid": "u"},
                "stallTimeoutSeconds": 900, "workers": 2,
            });
            let task: Task = serde_json::from_value(task).unwrap();
            assert_eq!(wants_azure_identity(&task), wants, "{task:?}");
        }
    }
}
