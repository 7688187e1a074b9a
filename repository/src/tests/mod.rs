//! Whole backups against stores that fail, are damaged, or are shared.

mod concurrent;
mod crash;
mod damage;
mod deduplication;
mod fixture;
mod golden;
mod opening;
mod partial_nights;
mod reading;
