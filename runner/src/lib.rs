//! dbbackup-runner
