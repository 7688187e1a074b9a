//! What every engine shares: the streams it writes and reads, and its child
//! processes.
//!
//! An engine knows its server and nothing of chunks, keys or storage. It gives
//! named byte streams to a [`BackupSink`] and takes them back from a
//! [`BackupSource`]; the runner puts a repository behind both.

mod child;
mod last_words;
mod oom;
mod secret_file;
mod shared_files;
mod stall;
mod statement;
mod streams;

pub use child::{ChildExit, ChildProcess, ChildSpec, Ended, StdinUse};
pub use last_words::LastWords;
/// For engines: read secrets by this, at each connection, and by nothing else.
pub use secret_file::read_secret;
pub use shared_files::{create_anew, open_plain};
pub use stall::{Activity, stalled};
pub use statement::StatementError;
pub use streams::{BackupSink, BackupSource, ProgressSink, Shape, StreamReader, StreamWriter};
