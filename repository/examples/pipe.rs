//! Stores standard input as one stream, or fetches it: what `store` and `fetch`
//! cost without a command line around them. Used by measurements.
//!
//! `pipe store FOLDER DAY [WORKERS] < FILE`, `pipe fetch FOLDER DAY > FILE`.

#![allow(clippy::print_stdout, reason = "a program for measurements")]

use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dbbackup_contract::Initialize;
use dbbackup_repository::{
    Begun, CommitInfo, Cutting, Encryption, KeySource, Repository, SessionOptions,
};
use dbbackup_storage::{VolumeOptions, VolumeStore};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, action, folder, day, rest @ ..] = &arguments[..] else {
        return Err("pipe store|fetch FOLDER DAY [WORKERS]".into());
    };
    let encryption = Encryption::Keys(vec![KeySource::raw("main", &[7; 32])?]);
    let store = Arc::new(VolumeStore::open(folder, VolumeOptions::default()).await?);
    let opened = Repository::create_or_open(store, &encryption, Initialize::IfEmpty).await?;
    let repository = opened.repository;
    let start = Instant::now();
    let slot = format!("2026-11-{:02}T02:15:00Z", day.parse::<u32>()?).parse()?;
    if action == "fetch" {
        let RunSnapshot(snapshot) = find(&repository, day, slot).await?;
        let mut stream = snapshot.stream("stream").await?;
        let mut out = std::io::stdout().lock();
        while let Some(bytes) = stream.next().await? {
            out.write_all(&bytes)?;
        }
        return Ok(());
    }
    let mut options = SessionOptions::new("pipe", day.clone(), slot);
    if let Some(workers) = rest.first() {
        options.workers = workers.parse()?;
    }
    let Begun::Started(writer) = repository.begin(options).await? else {
        return Err("this day is stored already".into());
    };
    let mut stream = writer.stream("stream", Cutting::default()).await?;
    loop {
        let mut buffer = vec![0; 256 * 1024];
        let read = std::io::stdin().lock().read(&mut buffer)?;
        if read == 0 {
            break;
        }
        buffer.truncate(read);
        stream.write(Bytes::from(buffer)).await?;
    }
    let summary = stream.finish().await?;
    let snapshot =
        writer.commit(CommitInfo::new("Pipe", Default::default(), Default::default())).await?;
    let bytes = &snapshot.about().bytes;
    println!(
        "{} read, {} new, {} stored in {:.2} s",
        bytes.read,
        summary.new,
        bytes.stored,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

struct RunSnapshot(dbbackup_repository::Snapshot);

async fn find(
    repository: &Repository,
    day: &str,
    slot: jiff::Timestamp,
) -> Result<RunSnapshot, Box<dyn Error>> {
    match repository.resolve_run("pipe", day, slot, None).await? {
        dbbackup_repository::RunState::Committed(snapshot) => Ok(RunSnapshot(snapshot)),
        _ => Err("this day is not stored".into()),
    }
}
