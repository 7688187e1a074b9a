//! Versions of servers and clients: how they are read, and which are known.

use std::ops::RangeInclusive;

use dbbackup_contract::{Failure, Reason};

/// Majors of servers that this release knows. Nothing is tried with another:
/// what an older one lacks, and what a newer one changed, would be found out
/// in the middle of a backup or a restore.
pub(crate) const KNOWN_MAJORS: RangeInclusive<u32> = 13..=18;

/// The major in what a server or a client calls itself: `17.5 (Debian 17.5-1)`, `18beta1`.
#[must_use]
pub fn major_of(version: &str) -> Option<u32> {
    let version = version.trim_start();
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

/// The major of a server that calls itself `version`.
///
/// # Errors
/// `VersionUnsupported` where it is not one of [`KNOWN_MAJORS`].
pub(crate) fn known_server(version: &str) -> Result<u32, Failure> {
    let (oldest, newest) = (KNOWN_MAJORS.start(), KNOWN_MAJORS.end());
    let refused = |message: String, hint: String| {
        Err(Failure::new(Reason::VersionUnsupported, message).with_hint(hint))
    };
    match major_of(version) {
        Some(major) if KNOWN_MAJORS.contains(&major) => Ok(major),
        Some(major) if major < *oldest => refused(
            format!("the server is PostgreSQL {version}, older than {oldest}"),
            format!(
                "Servers from PostgreSQL {oldest} on are supported. Dump this one by its own \
                 pg_dump, and upgrade it."
            ),
        ),
        Some(major) => refused(
            format!(
                "the server is PostgreSQL {version}, newer than the clients: they go up to {newest}"
            ),
            format!("Use a release of dbbackup that knows PostgreSQL {major}."),
        ),
        None => refused(
            format!("the server calls its version {version:?}, which is none of PostgreSQL's"),
            "Give the address of a PostgreSQL server.".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_versions_have_a_major() {
        let table = [
            ("17.5", Some(17)),
            ("17.5 (Debian 17.5-1.pgdg120+1)", Some(17)),
            ("18beta1", Some(18)),
            ("18beta1 (Debian 18~beta1-1)", Some(18)),
            ("18rc1", Some(18)),
            ("19devel", Some(19)),
            ("15.4 - Some Vendor 3.2", Some(15)),
            ("9.6.24", Some(9)),
            ("16", Some(16)),
            ("", None),
            ("devel", None),
            ("99999999999999.1", None),
        ];
        for (version, major) in table {
            assert_eq!(major_of(version), major, "{version}");
        }
    }

    #[test]
    fn what_is_too_old_too_new_or_no_version_is_refused_in_its_own_words() {
        for major in KNOWN_MAJORS {
            assert_eq!(known_server(&format!("{major}.1")).unwrap(), major);
        }
        let table = [
            ("12.22", "the server is PostgreSQL 12.22, older than 13"),
            ("9.6.24", "the server is PostgreSQL 9.6.24, older than 13"),
            (
                "19beta2",
                "the server is PostgreSQL 19beta2, newer than the clients: they go up to 18",
            ),
            ("x", "the server calls its version \"x\", which is none of PostgreSQL's"),
        ];
        for (version, message) in table {
            let failure = known_server(version).unwrap_err();
            assert_eq!(failure.reason, Reason::VersionUnsupported);
            assert_eq!(failure.message, message);
            assert_ne!(failure.hint, Reason::VersionUnsupported.hint(), "{version}");
        }
    }
}
