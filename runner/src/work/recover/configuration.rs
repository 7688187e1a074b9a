//! The configuration of a server that kept its own outside of the data folder (Debian: in `/etc`),
//! so that it is in no backup: small files in its place, by which a server starts on the folder.

use std::fmt::Write as _;
use std::path::Path;

use dbbackup_contract::{Failure, Reason};

use super::volume::write_new;

const SETTINGS_HEAD: &str = "\
# Written by dbbackup: this server's own postgresql.conf was not in its data folder, and so not in
# the backup. These are the settings without which it does not start on these files, or not alike.
# Everything else is PostgreSQL's default: put your own file here, with at least these values.
";
const HBA: &str = "\
# Written by dbbackup: this server's own pg_hba.conf was not in its data folder, and so not in the
# backup. Until you put your own here, each user of this machine connects as the role of that name.
local all all peer
";
const IDENT: &str = "\
# Written by dbbackup: this server's own pg_ident.conf was not in its data folder.
";

/// Writes what is missing. The names of the files that were written.
///
/// # Errors
/// `LocalFileError`, `VolumeTooSmall`; `ArchiveDamaged` for settings that are none.
pub(super) fn complete(
    data_dir: &Path,
    settings: &[(String, String)],
) -> Result<Vec<&'static str>, Failure> {
    let mut written = Vec::new();
    let settings = settings_file(settings)?;
    for (name, text) in
        [("postgresql.conf", settings.as_str()), ("pg_hba.conf", HBA), ("pg_ident.conf", IDENT)]
    {
        let path = data_dir.join(name);
        // A link that leads nowhere here would be followed on writing.
        if path.is_symlink() || path.exists() {
            continue;
        }
        write_new(&path, text.as_bytes())?;
        written.push(name);
    }
    Ok(written)
}

fn settings_file(settings: &[(String, String)]) -> Result<String, Failure> {
    let mut text = SETTINGS_HEAD.to_owned();
    for (name, value) in settings {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        if name.is_empty() || !name.bytes().all(is_name) || value.contains(['\n', '\r', '\0']) {
            let message = format!("the base names the setting {name:?}, which is none");
            return Err(Failure::new(Reason::ArchiveDamaged, message));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_written_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pg_hba.conf"), "mine").unwrap();
        let settings = [
            ("max_connections".to_owned(), "200".to_owned()),
            ("shared_preload_libraries".to_owned(), "a'b\\c".to_owned()),
        ];
        let written = complete(folder.path(), &settings).unwrap();
        assert_eq!(written, ["postgresql.conf", "pg_ident.conf"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("pg_hba.conf")).unwrap(), "mine");
        let text = std::fs::read_to_string(folder.path().join("postgresql.conf")).unwrap();
        assert!(text.contains("\nmax_connections = '200'\n"));
        assert!(text.ends_with("shared_preload_libraries = 'a''b\\\\c'\n"));
    }

    #[test]
    fn a_setting_that_would_be_two_lines_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in [("a b", "1"), ("", "1"), ("a", "1\nssl = on")] {
            let failure = complete(folder.path(), &[(name.to_owned(), value.to_owned())]);
            assert_eq!(failure.unwrap_err().reason, Reason::ArchiveDamaged);
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
