//! Whole backups against stores that fail, are damaged, or are shared.

mod check;
mod collecting;
mod concurrent;
mod copying;
mod crash;
mod damage;
mod days;
mod deduplication;
mod finding;
mod fixture;
mod flooded;
mod forged;
mod golden;
mod hostile;
mod independent;
mod keys;
mod keys_at_once;
mod large;
mod locks;
mod opening;
mod overlaps;
mod partial_nights;
mod reading;
mod repacking;
mod simulation;
mod unreliable;
