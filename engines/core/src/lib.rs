//! What every engine shares: the streams it writes and reads, and its child
//! processes.
//!
//! An engine knows its server and nothing of chunks, keys or storage. It gives
//! named byte streams to a [`BackupSink`] and takes them back from a
//! [`BackupSource`]; the runner puts a repository behind both.

mod streams;

pub use streams::{BackupSink, BackupSource, ProgressSink, StreamReader, StreamWriter};
