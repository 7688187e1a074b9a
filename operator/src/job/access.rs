//! From the API's words to the task's: what is mounted, and where the runner finds it.

use dbbackup_contract::{
    CredentialFiles, DatabaseSelection, EncryptionAccess, KeyAccess, KeyKind, PostgresqlAccess,
    REPOSITORY_DIR, RepositoryAccess, Source, StorageAccess, TlsAccess, UserName,
};
use dbbackup_crds::{
    BackupRepositorySpec, CaKind, EncryptionKey, PostgresqlTarget, SourceSpec, TlsSpec,
};

use super::Mounts;

/// How the runner opens the repository `name`. `None` where the spec names no
/// place or no encryption, which the CRD refuses.
pub fn repository_access(
    name: &str,
    spec: &BackupRepositorySpec,
    expected_id: Option<&str>,
    mounts: &mut Mounts,
) -> Option<RepositoryAccess> {
    let volume = spec.storage.volume.as_ref()?;
    let path = match &volume.path {
        Some(path) => format!("{REPOSITORY_DIR}/{path}"),
        None => REPOSITORY_DIR.to_owned(),
    };
    let encryption = match (&spec.encryption.keys, &spec.encryption.none) {
        (Some(keys), None) => EncryptionAccess::Keys(
            keys.iter().map(|key| key_access(key, mounts)).collect::<Option<_>>()?,
        ),
        (None, Some(_)) => EncryptionAccess::None {},
        _ => return None,
    };
    Some(RepositoryAccess {
        name: name.to_owned(),
        storage: StorageAccess::Volume { path },
        encryption,
        expected_id: expected_id.map(str::to_owned),
    })
}

fn key_access(key: &EncryptionKey, mounts: &mut Mounts) -> Option<KeyAccess> {
    let (kind, file) = match (&key.key_secret_ref, &key.passphrase_secret_ref) {
        (Some(raw), None) => (KeyKind::Key, mounts.secret(&raw.name, &raw.key)),
        (None, Some(passphrase)) => {
            (KeyKind::Passphrase, mounts.secret(&passphrase.name, &passphrase.key))
        }
        _ => return None,
    };
    Some(KeyAccess { name: key.name.clone(), kind, file })
}

/// What the runner reads. `None` where the spec names no engine, which the CRD refuses.
pub fn source_access(source: &SourceSpec, mounts: &mut Mounts) -> Option<Source> {
    let postgresql = source.postgresql.as_ref()?;
    let databases = postgresql.databases.clone().unwrap_or_default();
    Some(Source::Postgresql {
        access: postgresql_access(&postgresql.as_target(), mounts),
        databases: DatabaseSelection { include: databases.include, exclude: databases.exclude },
    })
}

/// How the runner reaches a PostgreSQL server.
pub fn postgresql_access(target: &PostgresqlTarget, mounts: &mut Mounts) -> PostgresqlAccess {
    let credentials = &target.credentials_secret_ref;
    PostgresqlAccess {
        host: target.host.clone(),
        port: target.port,
        credentials: CredentialFiles {
            username: UserName::File(mounts.secret(&credentials.name, &credentials.keys.username)),
            password: Some(mounts.secret(&credentials.name, &credentials.keys.password)),
        },
        tls: tls_access(&target.tls, mounts),
    }
}

fn tls_access(tls: &TlsSpec, mounts: &mut Mounts) -> TlsAccess {
    let ca = tls.ca_ref.as_ref().map(|ca| match ca.kind {
        CaKind::Secret => mounts.secret(&ca.name, &ca.key),
        CaKind::ConfigMap => mounts.config_map(&ca.name, &ca.key),
    });
    // The keys of the type kubernetes.io/tls.
    let mut client =
        |key: &str| tls.client_cert_secret_ref.as_ref().map(|name| mounts.secret(&name.name, key));
    TlsAccess {
        mode: tls.mode,
        ca,
        client_certificate: client("tls.crt"),
        client_key: client("tls.key"),
    }
}
