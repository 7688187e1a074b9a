//! dbbackup-kind-tests
