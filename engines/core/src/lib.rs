//! dbbackup-engine
