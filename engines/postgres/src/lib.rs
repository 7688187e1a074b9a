//! dbbackup-postgres
