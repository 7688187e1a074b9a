//! dbbackup-repository
