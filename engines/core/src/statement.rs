//! SQL of somebody else, and whose fault it is that it was not carried out.

use dbbackup_contract::Failure;

/// Why SQL of somebody else was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementError {
    /// The server was not reached, or was lost: whatever was asked of it would have failed.
    Server(Failure),
    /// The server was reached, and did not do it, or not in time.
    Statement(Failure),
}
