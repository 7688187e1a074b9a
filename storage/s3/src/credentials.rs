//! Who asks: keys in files, or whoever the environment says that we are.

use std::path::{Path, PathBuf};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use zeroize::Zeroizing;

/// No key or token is longer; session tokens have some thousand bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Where credentials come from. Nobody at all (anonymous) is not among it: a bucket
/// that anybody may write is no place for backups.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Keys in files.
    Files(KeyFiles),
    /// The SDK's usual chain: variables of the environment, profile files, web
    /// identity (IRSA), container credentials (EKS pod identity), instance metadata.
    Ambient,
}

/// Files with keys, read afresh every quarter of an hour: a Secret that is renewed
/// while a long run goes on is taken up by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// File with the access key's id.
    pub access_key_id: PathBuf,
    /// File with the secret access key.
    pub secret_access_key: PathBuf,
    /// File with a session token; it may be missing.
    pub session_token: PathBuf,
}

impl KeyFiles {
    /// The files `accessKeyId`, `secretAccessKey` and `sessionToken` of a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            access_key_id: folder.join("accessKeyId"),
            secret_access_key: folder.join("secretAccessKey"),
            session_token: folder.join("sessionToken"),
        }
    }

    fn read(&self) -> Result<aws_credential_types::Credentials, CredentialsError> {
        let needed = |path: &Path| {
            read(path)?.ok_or_else(|| wrong(format!("{} does not exist", path.display())))
        };
        let id = needed(&self.access_key_id)?;
        let secret = needed(&self.secret_access_key)?;
        let token = read(&self.session_token)?.map(|token| token.to_string());
        Ok(aws_credential_types::Credentials::new(
            id.as_str(),
            secret.as_str(),
            token,
            None,
            "files",
        ))
    }
}

impl ProvideCredentials for KeyFiles {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let files = self.clone();
        future::ProvideCredentials::new(async move {
            match tokio::task::spawn_blocking(move || files.read()).await {
                Ok(read) => read,
                Err(error) => Err(CredentialsError::provider_error(error)),
            }
        })
    }
}

/// The content of a file, without a line break at its end; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, CredentialsError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        wrong(format!("{} cannot be read: {error}", path.display()))
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => return Err(unreadable(&"it is too large")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let content = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| unreadable(&e))?;
    let trimmed = content.trim();
    // It goes into a header of HTTP.
    if trimmed.is_empty() || !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable(&"it is empty, or no key"));
    }
    Ok(Some(Zeroizing::new(trimmed.to_owned())))
}

fn wrong(why: String) -> CredentialsError {
    CredentialsError::invalid_configuration(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_files_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_folder(folder.path());
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        assert!(files.read().is_err());
        write("accessKeyId", "AKIA\n");
        write("secretAccessKey", "hunter2\n");
        let read = files.read().unwrap();
        assert_eq!((read.access_key_id(), read.secret_access_key()), ("AKIA", "hunter2"));
        assert_eq!(read.session_token(), None);
        write("sessionToken", "t0ken");
        let read = files.read().unwrap();
        assert_eq!(read.session_token(), Some("t0ken"));
        let shown = format!("{read:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("t0ken"), "{shown}");
        for nonsense in ["", "two words", "\u{1}"] {
            write("secretAccessKey", nonsense);
            assert!(files.read().is_err(), "{nonsense:?}");
        }
    }
}
