//! What to do about a failure, in the words of the command line: the general
//! hints speak of fields and Secrets, which a person at a terminal does not have.

use dbbackup_contract::{Failure, Reason};

/// The failure with a hint that names flags. One that was made for its case stays.
pub(super) fn by_hand(failure: Failure) -> Failure {
    match in_flags(failure.reason) {
        Some(hint) if failure.hint == failure.reason.hint() => failure.with_hint(hint),
        _ => failure,
    }
}

fn in_flags(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::RepositoryNotFound => {
            "Check the address; only a new repository has to be made first, by dbbackup-runner init."
        }
        Reason::RepositoryNotEmpty => "Choose an empty folder for the repository.",
        Reason::EncryptionMismatch => {
            "Give --key-file or --passphrase-file where the repository is encrypted, \
             --no-encryption where it is not."
        }
        Reason::KeySlotNeeded => {
            "Add another key first with: dbbackup-runner key add. Then remove this slot with that \
             key. Where somebody else removes keys at the same time, try again after that."
        }
        Reason::KeySlotNotFound => {
            "List what there is with: dbbackup-runner key list REPO, and the same key."
        }
        Reason::SnapshotNotFound => {
            "List what there is with: dbbackup-runner snapshots REPO, and the same key."
        }
        Reason::SnapshotAmbiguous => {
            "Give more characters of the id; dbbackup-runner snapshots REPO shows it whole."
        }
        Reason::StoragePermissionDenied => {
            "Run it as a user who may read and write the repository's folder; for a bucket, with \
             keys that have the rights that docs/storage.md lists."
        }
        Reason::HostNotFound => "Check the spelling of the host in the server's address.",
        Reason::ServerUnreachable => {
            "Check host and port of the address, that the server runs, and that no firewall is \
             between."
        }
        Reason::WrongPassword => {
            "Check the user in the server's address, and the file that --password-file names."
        }
        Reason::TlsRefused => {
            "Give the server a certificate, or accept a plain connection with --tls prefer."
        }
        Reason::TlsVerificationFailed => {
            "Name the CA's certificate with --ca-file, or accept less with --tls require."
        }
        Reason::DatabaseNotFound => "Check the names that --database and --exclude give.",
        Reason::HookFailed => {
            "Correct the SQL of the flag that the message names, or give its role what it needs."
        }
        Reason::TableNotFound => {
            "Write the names as in SQL: in lower case, or in quotes as the catalogue has them."
        }
        Reason::DatabaseExists => {
            "Give another name with --as, or let the restored one take its place with --strategy swap."
        }
        Reason::DatabaseInUse => {
            "Stop the applications that use it, or end their sessions with --terminate-sessions."
        }
        Reason::RoleNotFound => "Create the roles, or restore them too with --globals merge.",
        Reason::ClientMissing => {
            "Install the client programs of the server's version (Debian: postgresql-client-17)."
        }
        Reason::Stalled => {
            "Look for locks on the server and for a slow volume or network. --stall-timeout says \
             how long to wait."
        }
        Reason::Interrupted => "Run the command again.",
        Reason::ChildKilled => "Find out who killed it; memory may have been short.",
        Reason::OutOfMemory => "Free memory, or run it where there is more.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_no_field_of_a_spec_where_a_flag_is_meant() {
        let failure = by_hand(Failure::new(Reason::WrongPassword, "x"));
        assert!(failure.hint.contains("--password-file"), "{}", failure.hint);
        let own = Failure::new(Reason::WrongPassword, "x").with_hint("Ask Ann.");
        assert_eq!(by_hand(own).hint, "Ask Ann.");
        let general = Failure::new(Reason::WrongKey, "x");
        assert_eq!(by_hand(general.clone()), general);
    }
}
