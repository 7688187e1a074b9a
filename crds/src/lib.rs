//! dbbackup-crds
