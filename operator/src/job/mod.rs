//! Jobs: the task, what is mounted for it, and the Job around both. All of it is pure.

mod access;
mod build;
mod channel;
mod errand;
mod hooks;
mod mounts;
mod resources;
mod security;
mod server;
mod storage;

pub use access::{Place, destination_access, postgresql_access, repository_access, source_access};
pub use build::{BuildError, JobRequest, RunnerPod, build_job};
pub(crate) use channel::notification_channel;
pub(crate) use errand::Errand;
pub use hooks::hooks_access;
pub use mounts::Mounts;
pub(crate) use server::{RECOVERED, SERVER, ServerBeside, ServerVolume, add_server};
