//! Whole backups against stores that fail, are damaged, or are shared.

mod collecting;
mod concurrent;
mod crash;
mod damage;
mod deduplication;
mod fixture;
mod golden;
mod opening;
mod reading;
mod simulation;
