//! Whole backups against stores that fail, are damaged, or are shared.

mod check;
mod concurrent;
mod crash;
mod damage;
mod deduplication;
mod fixture;
mod golden;
mod hostile;
mod independent;
mod opening;
mod reading;
