//! The reconcilers, each a pipeline: gather → plan → apply → status.

pub mod backup;
pub mod repository;
pub mod restore;
pub mod schedule;

#[cfg(test)]
mod fixtures;
