//! Finding the client programs: the smallest major that is not older than the server.

use std::path::{Path, PathBuf};

use dbbackup_contract::{Failure, Reason};

/// Where Debian and Ubuntu put each major's programs.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// From this major on `pg_dump` says what privileges the schema `public` has,
/// whatever a target would give it; before, it trusted the target to give the
/// same, which one of 15 or later does not.
const OLDEST_DUMPER: u32 = 15;

/// Folders that hold `<major>/bin/pg_dump` and its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFolders(Vec<PathBuf>);

impl Default for ClientFolders {
    fn default() -> Self {
        Self(vec![DEBIAN_FOLDER.into()])
    }
}

impl ClientFolders {
    /// Looks in `folders` only, in this order.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self(folders)
    }

    /// The programs that dump a server of `server_major`.
    ///
    /// # Errors
    /// `ClientMissing` when there is none at all, `VersionUnsupported` when all are too old.
    pub(crate) fn for_server(&self, server_major: u32) -> Result<Clients, Failure> {
        let what = format!("the server is PostgreSQL {server_major}");
        self.not_older_than(server_major.max(OLDEST_DUMPER), &what)
    }

    /// The programs that restore what the `pg_dump` of `writer_major` wrote: an
    /// older `pg_restore` cannot read it. The target's version does not matter
    /// to `pg_restore`, which never connects, and `psql` speaks to all of them.
    ///
    /// # Errors
    /// As [`ClientFolders::for_server`].
    pub(crate) fn for_archive(&self, writer_major: u32) -> Result<Clients, Failure> {
        let what = format!("the backup was written by pg_dump of PostgreSQL {writer_major}");
        self.not_older_than(writer_major, &what)
    }

    /// The smallest major that is not older than `major`.
    fn not_older_than(&self, major: u32, what: &str) -> Result<Clients, Failure> {
        let mut found = self.installed();
        found.sort_by_key(|clients| clients.major);
        let newest = found.last().map(|clients| clients.major);
        match (found.into_iter().find(|clients| clients.major >= major), newest) {
            (Some(clients), _) => Ok(clients),
            (None, Some(newest)) => Err(Failure::new(
                Reason::VersionUnsupported,
                format!("{what}, the newest client here is {newest}"),
            )
            .with_hint(format!(
                "Use an image of the runner with the clients of PostgreSQL {major}, or install them \
                 (Debian: postgresql-client-{major})."
            ))),
            (None, None) => Err(Failure::new(
                Reason::ClientMissing,
                format!("no PostgreSQL client programs in {}", self.shown()),
            )),
        }
    }

    fn installed(&self) -> Vec<Clients> {
        let mut found: Vec<Clients> = Vec::new();
        for folder in &self.0 {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let major = entry.file_name().to_str().and_then(|name| name.parse().ok());
                let Some(major) = major else { continue };
                let clients = Clients { major, bin: entry.path().join("bin") };
                let known = found.iter().any(|other| other.major == major);
                if !known && clients.is_complete() {
                    found.push(clients);
                }
            }
        }
        found
    }

    fn shown(&self) -> String {
        let folders: Vec<_> = self.0.iter().map(|folder| folder.display().to_string()).collect();
        folders.join(", ")
    }
}

/// The client programs of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clients {
    /// Their major version.
    pub(crate) major: u32,
    bin: PathBuf,
}

impl Clients {
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn is_complete(&self) -> bool {
        ["pg_dump", "pg_restore", "psql"].iter().all(|name| Path::is_file(&self.program(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::OlderTarget;
    use crate::versions::KNOWN_MAJORS;

    fn folder_with(majors: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for major in majors {
            let bin = dir.path().join(major).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            for name in ["pg_dump", "pg_restore", "psql"] {
                std::fs::write(bin.join(name), "").unwrap();
            }
        }
        dir
    }

    #[test]
    fn the_smallest_client_that_is_not_older_than_the_server_is_taken() {
        let dir = folder_with(&["13", "15", "17", "18", "notes"]);
        std::fs::create_dir_all(dir.path().join("16/bin")).unwrap();
        let folders = ClientFolders::new(vec![dir.path().into()]);
        assert_eq!(folders.for_server(15).unwrap().major, 15);
        assert_eq!(folders.for_server(16).unwrap().major, 17);
        assert_eq!(folders.for_server(13).unwrap().major, 15, "13's own is too old");
        assert_eq!(folders.for_archive(13).unwrap().major, 13);
        let failure = folders.for_server(19).unwrap_err();
        assert_eq!(failure.reason, Reason::VersionUnsupported);
        assert!(failure.hint.contains("PostgreSQL 19"), "{failure}");
        assert_eq!(folders.for_archive(17).unwrap().major, 17);
        assert_eq!(
            folders.for_archive(19).unwrap_err().message,
            "the backup was written by pg_dump of PostgreSQL 19, the newest client here is 18"
        );
    }

    /// What is done with each pair of versions, as `docs/postgresql.md` tells it.
    fn table() -> String {
        let dir = folder_with(&["15", "17", "18"]);
        let folders = ClientFolders::new(vec![dir.path().into()]);
        let targets: Vec<_> = KNOWN_MAJORS.map(|major| format!("to {major}")).collect();
        let mut table = format!(
            "| server | `pg_dump` | `pg_restore`, `psql` | {} |\n|{}\n",
            targets.join(" | "),
            "---|".repeat(3 + targets.len())
        );
        for server in KNOWN_MAJORS {
            let dumper = folders.for_server(server).unwrap().major;
            let restorer = folders.for_archive(dumper).unwrap().major;
            table.push_str(&format!("| {server} | {dumper} | {restorer} |"));
            for target in KNOWN_MAJORS {
                let older = OlderTarget::of(&server.to_string(), target).is_some();
                let word = match (older, target == server) {
                    (true, _) => "older",
                    (_, true) => "same",
                    _ => "newer",
                };
                table.push_str(&format!(" {word} |"));
            }
            table.push('\n');
        }
        table
    }

    #[test]
    fn the_table_in_the_docs_is_what_is_done() {
        let page = include_str!("../../../docs/postgresql.md");
        assert!(page.contains(&table()), "docs/postgresql.md must have this table:\n{}", table());
    }

    #[test]
    fn no_client_at_all_is_a_missing_client() {
        let dir = folder_with(&[]);
        let folders = ClientFolders::new(vec![dir.path().into()]);
        assert_eq!(folders.for_server(17).unwrap_err().reason, Reason::ClientMissing);
    }
}
