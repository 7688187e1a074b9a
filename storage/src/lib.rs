//! dbbackup-storage
