//! Jobs: the task, what is mounted for it, and the Job around both. All of it is pure.

mod access;
mod build;
mod errand;
mod mounts;
mod resources;
mod security;
mod storage;

pub use access::{
    Place, destination_access, hooks_access, postgresql_access, repository_access, source_access,
};
pub use build::{BuildError, JobRequest, RunnerPod, build_job};
pub(crate) use errand::Errand;
pub use mounts::Mounts;
