//! From the API's words to the task's: what is mounted, and where the runner finds it.

use dbbackup_contract::{
    Bandwidth, CredentialFiles, DESTINATION_DIR, DatabaseSelection, EncryptionAccess, KeyAccess,
    KeyKind, PostgresqlAccess, REPOSITORY_DIR, RepositoryAccess, SecretFile, Source, TlsAccess,
    UserName,
};
use dbbackup_crds::{
    BackupRepositorySpec, BandwidthSpec, CaKind, CaRef, CredentialsRef, EncryptionKey,
    PostgresqlTarget, Quantity, SourceSpec, TlsSpec,
};

use super::Mounts;
use super::storage::storage_access;

/// Where a part of a spec stands, for messages about what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: String,
    owner: String,
}

impl Place {
    /// `source.postgresql` of `the BackupSchedule nightly`.
    #[must_use]
    pub fn new(path: &str, kind: &str, name: &str) -> Self {
        Self { path: path.to_owned(), owner: format!("the {kind} {name}") }
    }

    /// A field below the part; below the spec itself where the path is empty.
    pub(super) fn field(&self, field: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{field} of {}", self.path, self.owner)
    }
}

/// How the runner opens the repository `name`. `None` where the spec names no
/// place or no encryption, which the CRD refuses.
pub fn repository_access(
    name: &str,
    spec: &BackupRepositorySpec,
    expected_id: Option<&str>,
    mounts: &mut Mounts,
) -> Option<RepositoryAccess> {
    access_below(REPOSITORY_DIR, name, spec, expected_id, mounts)
}

/// The same of the repository that a copy goes to, beside the first one.
pub fn destination_access(
    name: &str,
    spec: &BackupRepositorySpec,
    expected_id: Option<&str>,
    mounts: &mut Mounts,
) -> Option<RepositoryAccess> {
    access_below(DESTINATION_DIR, name, spec, expected_id, mounts)
}

fn access_below(
    dir: &str,
    name: &str,
    spec: &BackupRepositorySpec,
    expected_id: Option<&str>,
    mounts: &mut Mounts,
) -> Option<RepositoryAccess> {
    let storage = storage_access(dir, name, &spec.storage, mounts)?;
    let encryption = match (&spec.encryption.keys, &spec.encryption.none) {
        (Some(keys), None) => EncryptionAccess::Keys(
            keys.iter().map(|key| key_access(name, key, mounts)).collect::<Option<_>>()?,
        ),
        (None, Some(_)) => EncryptionAccess::None {},
        _ => return None,
    };
    Some(RepositoryAccess {
        name: name.to_owned(),
        storage,
        encryption,
        expected_id: expected_id.map(str::to_owned),
        mode: spec.access,
        bandwidth: bandwidth(spec.bandwidth.as_ref()),
    })
}

/// The CRD refuses what is no quantity.
fn bandwidth(spec: Option<&BandwidthSpec>) -> Bandwidth {
    let limit = |quantity: &Option<Quantity>| quantity.as_ref()?.units().ok();
    Bandwidth {
        upload: spec.and_then(|spec| limit(&spec.upload)),
        download: spec.and_then(|spec| limit(&spec.download)),
    }
}

fn key_access(repository: &str, key: &EncryptionKey, mounts: &mut Mounts) -> Option<KeyAccess> {
    let path = format!("encryption.keys[{}]", key.name);
    let place = Place::new(&path, "BackupRepository", repository);
    let (kind, file) = match (&key.key_secret_ref, &key.passphrase_secret_ref) {
        (Some(raw), None) => {
            (KeyKind::Key, mounts.secret(&raw.name, &raw.key, place.field("keySecretRef")))
        }
        (None, Some(pass)) => {
            let named_by = place.field("passphraseSecretRef");
            (KeyKind::Passphrase, mounts.secret(&pass.name, &pass.key, named_by))
        }
        _ => return None,
    };
    Some(KeyAccess { name: key.name.clone(), kind, file })
}

/// What the runner reads. `None` where the spec names no engine, which the CRD refuses.
pub fn source_access(source: &SourceSpec, place: &Place, mounts: &mut Mounts) -> Option<Source> {
    let postgresql = source.postgresql.as_ref()?;
    let databases = postgresql.databases.clone().unwrap_or_default();
    Some(Source::Postgresql {
        access: postgresql_access(&postgresql.as_target(), place, mounts),
        databases: DatabaseSelection { include: databases.include, exclude: databases.exclude },
    })
}

/// The files of a secret with user name and password.
pub(super) fn credentials(
    secret: &CredentialsRef,
    named_by: impl Fn() -> String,
    mounts: &mut Mounts,
) -> CredentialFiles {
    let mut credential = |key: &str| mounts.secret(&secret.name, key, named_by());
    CredentialFiles {
        username: UserName::File(credential(&secret.keys.username)),
        password: Some(credential(&secret.keys.password)),
    }
}

/// How the runner reaches a PostgreSQL server; `place` is where the spec names it.
pub fn postgresql_access(
    target: &PostgresqlTarget,
    place: &Place,
    mounts: &mut Mounts,
) -> PostgresqlAccess {
    let named_by = || place.field("credentialsSecretRef");
    PostgresqlAccess {
        host: target.host.clone(),
        port: target.port,
        credentials: credentials(&target.credentials_secret_ref, named_by, mounts),
        tls: tls_access(&target.tls, place, mounts),
    }
}

/// The file of a CA's certificates; `named_by` says which field of which object names it.
pub(super) fn ca_file(ca: &CaRef, named_by: String, mounts: &mut Mounts) -> SecretFile {
    match ca.kind {
        CaKind::Secret => mounts.secret(&ca.name, &ca.key, named_by),
        CaKind::ConfigMap => mounts.config_map(&ca.name, &ca.key, named_by),
    }
}

fn tls_access(tls: &TlsSpec, place: &Place, mounts: &mut Mounts) -> TlsAccess {
    let ca = tls.ca_ref.as_ref().map(|ca| ca_file(ca, place.field("tls.caRef"), mounts));
    // The keys of the type kubernetes.io/tls.
    let mut client = |key: &str| {
        let secret = tls.client_cert_secret_ref.as_ref()?;
        Some(mounts.secret(&secret.name, key, place.field("tls.clientCertSecretRef")))
    };
    TlsAccess {
        mode: tls.mode,
        ca,
        client_certificate: client("tls.crt"),
        client_key: client("tls.key"),
    }
}
