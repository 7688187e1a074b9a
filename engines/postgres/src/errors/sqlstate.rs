//! The table of SQLSTATEs. PostgreSQL's documentation, appendix A.

use dbbackup_contract::{ErrorClass, Failure, Reason};

/// The failure that `code` is; `text` is the server's message alone, `message` what is shown.
pub(crate) fn failure_of_code(code: &str, text: &str, message: String) -> Failure {
    let reason = reason_of(code, text);
    let mut failure = Failure::new(reason, message);
    match code {
        // Serialization failure, deadlock: the server itself says try again.
        "40001" | "40P01" => failure.class = ErrorClass::Retryable,
        // Object in use: somebody is connected to it, for now.
        "55006" => {
            failure.class = ErrorClass::Retryable;
            failure.hint = "Somebody is connected to it; it is tried again.".to_owned();
        }
        // Out of memory, of the server's own.
        "53200" if reason == Reason::StatementFailed => failure.class = ErrorClass::Retryable,
        _ => {}
    }
    failure
}

fn reason_of(code: &str, text: &str) -> Reason {
    match code {
        "28P01" => Reason::WrongPassword,
        // The file's name is the same in every language of the server.
        "28000" if text.contains("pg_hba.conf") => Reason::NoPgHbaEntry,
        "28000" => Reason::WrongPassword,
        "53300" => Reason::TooManyConnections,
        "57P03" => Reason::ServerNotReady,
        "57P01" | "57P02" | "57P05" | "25P03" | "25P04" => Reason::ServerGoneAway,
        "3D000" => Reason::DatabaseNotFound,
        "42P04" => Reason::DatabaseExists,
        "42501" => Reason::PermissionDenied,
        "55P03" => Reason::LockTimeout,
        "53100" => Reason::DiskFull,
        "53200" if text.contains("shared memory") => Reason::OutOfSharedMemory,
        "58030" if text.contains("No space left") => Reason::DiskFull,
        "XX001" | "XX002" => Reason::DataCorrupted,
        "42704" if text.starts_with("role ") => Reason::RoleNotFound,
        "42704" if text.starts_with("tablespace ") => Reason::TablespaceNotFound,
        "0A000" | "58P01" if text.contains("extension ") => Reason::ExtensionNotAvailable,
        "42704" | "42809" | "22023" if text.contains("locale") => Reason::LocaleNotAvailable,
        // A pooler speaks of the protocol where a server would not.
        "08P01" if text.contains("startup parameter") => Reason::PoolerRefused,
        _ if code.starts_with("08") => Reason::ServerGoneAway,
        _ => Reason::StatementFailed,
    }
}

/// Whether nothing more can be done on a session after this failure: it is lost, or
/// still at what it was asked for.
pub(crate) fn is_session_lost(failure: &Failure) -> bool {
    is_server_lost(failure.reason) || failure.reason == Reason::Stalled
}

/// Whether the server as a whole is out of reach: what follows would fail too.
pub(crate) fn is_server_lost(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ServerGoneAway
            | Reason::ServerUnreachable
            | Reason::ServerNotReady
            | Reason::HostNotFound
            | Reason::TooManyConnections
            | Reason::WrongPassword
            | Reason::SecretNotFound
            | Reason::SecretKeyNotFound
            | Reason::Interrupted
            | Reason::OutOfMemory
            | Reason::ClientMissing
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_states() {
        let table = [
            ("28P01", "x", Reason::WrongPassword),
            ("28000", "no pg_hba.conf entry for host …", Reason::NoPgHbaEntry),
            ("28000", "kein pg_hba.conf-Eintrag für Host …", Reason::NoPgHbaEntry),
            ("42501", "permission denied for table x", Reason::PermissionDenied),
            ("42704", "role \"a\" does not exist", Reason::RoleNotFound),
            ("42704", "type \"a\" does not exist", Reason::StatementFailed),
            ("0A000", "extension \"x\" is not available", Reason::ExtensionNotAvailable),
            ("53200", "out of shared memory", Reason::OutOfSharedMemory),
            ("53100", "could not extend file", Reason::DiskFull),
            ("XX001", "invalid page in block 3", Reason::DataCorrupted),
            ("08006", "x", Reason::ServerGoneAway),
            ("42601", "syntax error", Reason::StatementFailed),
        ];
        for (code, text, reason) in table {
            let failure = failure_of_code(code, text, text.to_owned());
            assert_eq!(failure.reason, reason, "{code} {text}");
        }
        assert!(failure_of_code("40P01", "deadlock detected", String::new()).is_retryable());
    }
}
