//! dbbackup-contract
