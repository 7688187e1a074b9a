//! dbbackup-operator
