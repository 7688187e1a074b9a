//! Exit codes of the runner.
//!
//! Codes 64–79 are permanent: a Job's `podFailurePolicy` fails the Job on them
//! and does not try again. Code 1 is worth another try. The numbers follow
//! `sysexits.h` where it has a fitting one.

/// How the runner ends. The number is a promise to scripts and to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// All that was asked for is done.
    Success = 0,
    /// It failed in a way that another try may cure.
    Retryable = 1,
    /// The command line or the task is wrong.
    Usage = 64,
    /// Some databases are done, others failed; what is done is kept.
    Partial = 65,
    /// A repository, snapshot, database, role or file that was asked for does not exist.
    NotFound = 66,
    /// A password, role or right is missing or wrong.
    Denied = 67,
    /// A secret that the task names is absent, or lacks the key.
    Secret = 68,
    /// The repository's key does not fit, or the encryption is not what was said.
    Key = 69,
    /// A fault of this program.
    Internal = 70,
    /// What should be created exists already, or somebody else holds it.
    Conflict = 71,
    /// The repository or an archive is damaged.
    Damaged = 72,
    /// Versions, encodings or features do not fit together.
    Incompatible = 73,
    /// The disk, volume or server has no room.
    NoSpace = 74,
    /// The server refused what it was told to do.
    Rejected = 75,
}

impl ExitCode {
    /// All codes, for the documentation.
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::Retryable,
        Self::Usage,
        Self::Partial,
        Self::NotFound,
        Self::Denied,
        Self::Secret,
        Self::Key,
        Self::Internal,
        Self::Conflict,
        Self::Damaged,
        Self::Incompatible,
        Self::NoSpace,
        Self::Rejected,
    ];

    /// What the code means, in words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Retryable => "failed; another try may succeed",
            Self::Usage => "the command line or the task is wrong",
            Self::Partial => "some databases are done, others failed; what is done is kept",
            Self::NotFound => "something that was asked for does not exist",
            Self::Denied => "a password, role or right is missing or wrong",
            Self::Secret => "a secret is absent, or lacks the key",
            Self::Key => "the repository's key does not fit",
            Self::Internal => "a fault of this program",
            Self::Conflict => "what should be created exists, or somebody else holds it",
            Self::Damaged => "repository, dump or data are damaged",
            Self::Incompatible => "versions, encodings or features do not fit together",
            Self::NoSpace => "no room",
            Self::Rejected => "the server refused what it was told to do",
        }
    }

    /// The process's exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of a process's exit status, if it is one of ours.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| i32::from(known.code()) == code)
    }

    /// Whether a Job must not try again: the range that `podFailurePolicy` names.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        let code = self.code();
        code >= Self::FIRST_PERMANENT && code <= Self::LAST_PERMANENT
    }

    /// Lowest permanent exit code.
    pub const FIRST_PERMANENT: u8 = 64;
    /// Highest permanent exit code. SIGTERM exits 143 and SIGKILL 137, never in this range.
    pub const LAST_PERMANENT: u8 = 79;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_and_retryable_lie_outside_the_permanent_range() {
        for code in ExitCode::ALL {
            let outside = matches!(code, ExitCode::Success | ExitCode::Retryable);
            assert_eq!(code.is_permanent(), !outside, "{code:?}");
            assert_eq!(ExitCode::from_code(i32::from(code.code())), Some(code));
        }
        assert_eq!(ExitCode::from_code(143), None);
    }
}
