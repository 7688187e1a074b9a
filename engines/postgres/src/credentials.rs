//! User name and password, read again at each connection.

use dbbackup_contract::{CredentialFiles, Failure, Reason, SecretFile, SecretString, UserName};
use dbbackup_engine::read_secret;

/// Who connects.
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
}

impl Credentials {
    /// Reads them as they stand now: a rotated secret counts at once.
    pub(crate) fn read(files: &CredentialFiles) -> Result<Self, Failure> {
        let user = match &files.username {
            UserName::Literal(name) => name.clone(),
            UserName::File(file) => read_line(file)?.expose().to_owned(),
        };
        let password = files.password.as_ref().map(read_line).transpose()?;
        Ok(Self { user, password })
    }
}

/// A value without the one newline that editors leave at the end.
fn read_line(file: &SecretFile) -> Result<SecretString, Failure> {
    let bytes = read_secret(file)?;
    let invalid = |what| Failure::new(Reason::InvalidSpec, format!("{} {what}", file.described()));
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    // A password file of libpq has one password a line, and the protocol ends at a zero.
    if text.contains(['\n', '\0']) {
        return Err(invalid("has more than one line"));
    }
    Ok(SecretString::new(text.to_owned()))
}
