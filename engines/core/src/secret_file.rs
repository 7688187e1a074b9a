//! Secrets as Kubernetes mounts them.

use std::io::ErrorKind;
use std::path::Path;

use dbbackup_contract::{Failure, Reason, SecretFile};
use zeroize::Zeroizing;

/// Most bytes of one value: Kubernetes' own limit for a whole secret.
const MAX_SECRET_BYTES: u64 = 1024 * 1024;

/// Reads one value of a mounted secret or config map, as it stands.
///
/// # Errors
/// `SecretNotFound` when the folder is empty or absent (an optional volume of
/// an object that does not exist), `SecretKeyNotFound` when only other keys are
/// there, `LocalFileError` when the file cannot be read, or is one of somebody's
/// own and absent.
pub fn read_secret(file: &SecretFile) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let path = file.path();
    let unreadable = |why: String| {
        let what = file.described();
        Failure::new(Reason::LocalFileError, format!("{what} cannot be read: {why}"))
    };
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_SECRET_BYTES => {
            Err(unreadable(format!("it has {} bytes", metadata.len())))
        }
        Ok(_) => {
            std::fs::read(&path).map(Zeroizing::new).map_err(|error| unreadable(error.to_string()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing(file)),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn missing(file: &SecretFile) -> Failure {
    let (key, object, place) = (&file.key, &file.object, file.place());
    if !file.is_mounted() {
        let path = file.path();
        return Failure::new(Reason::LocalFileError, format!("{} does not exist", path.display()));
    }
    if is_empty(Path::new(&file.dir)) {
        let message = format!("{object} does not exist{place}");
        return Failure::new(Reason::SecretNotFound, message);
    }
    Failure::new(Reason::SecretKeyNotFound, format!("{object} has no key {key}{place}"))
}

/// Whether nothing is mounted there; Kubernetes' own `..data` does not count.
fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| {
        !entries.any(|entry| {
            entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with(".."))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, key: &str) -> SecretFile {
        SecretFile {
            dir: dir.to_str().unwrap().to_owned(),
            key: key.to_owned(),
            object: "the Secret shop-db".to_owned(),
            named_by: "source.postgresql.credentialsSecretRef of the BackupSchedule nightly".into(),
        }
    }

    #[test]
    fn an_absent_secret_an_absent_key_and_a_present_one_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("..data")).unwrap();
        let absent = read_secret(&file(dir.path(), "password")).unwrap_err();
        assert_eq!(absent.reason, Reason::SecretNotFound);
        let nowhere = read_secret(&file(&dir.path().join("x"), "password")).unwrap_err();
        assert_eq!(nowhere.reason, Reason::SecretNotFound);

        let own = SecretFile::local(dir.path().to_str().unwrap().into(), "password".into());
        assert_eq!(read_secret(&own).unwrap_err().reason, Reason::LocalFileError);

        std::fs::write(dir.path().join("username"), "me").unwrap();
        let other = read_secret(&file(dir.path(), "password")).unwrap_err();
        assert_eq!(other.reason, Reason::SecretKeyNotFound);
        assert_eq!(
            other.message,
            "the Secret shop-db has no key password \
             (source.postgresql.credentialsSecretRef of the BackupSchedule nightly)"
        );

        std::fs::write(dir.path().join("password"), "hunter2\n").unwrap();
        assert_eq!(&**read_secret(&file(dir.path(), "password")).unwrap(), b"hunter2\n");
    }
}
