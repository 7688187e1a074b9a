//! Whole backups against stores that fail, are damaged, or are shared.

mod concurrent;
mod crash;
mod damage;
mod deduplication;
mod fixture;
mod golden;
mod keys;
mod keys_at_once;
mod opening;
mod reading;
