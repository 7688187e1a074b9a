//! What each stage of a backup and of a restore costs alone, on one core, and what the
//! whole pipeline makes of them: the CPU seconds that are not a stage's are overhead, and
//! the seconds beyond all stages on all cores are time lost.
//!
//! `stages FILE FOLDER`: reads FILE (best one that stays in the page cache), and works in
//! FOLDER, which must not exist.

#![allow(clippy::print_stdout, reason = "a program for measurements")]

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use dbbackup_contract::Initialize;
use dbbackup_repository::{
    Begun, CommitInfo, Cutting, DEFAULT_COMPRESSION_LEVEL, Encryption, KeySource, Repository,
    SessionOptions, Snapshot,
};
use dbbackup_storage::{VolumeOptions, VolumeStore};
use fastcdc::v2020::{Normalization, cut, select_masks};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BLOCK_BYTES: usize = 128 * 1024;
const PIECE_BYTES: usize = 256 * 1024;
const PACK_BYTES: usize = 16 * 1024 * 1024;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, folder] = &arguments[..] else {
        return Err("usage: stages FILE FOLDER".into());
    };
    let cores = std::thread::available_parallelism()?.get();
    let bytes = std::fs::read(file)?;
    println!("{} MB, {cores} cores", bytes.len() / 1_000_000);
    std::fs::create_dir(folder)?;

    let mut made = Made::default();
    println!("\n| stage, on one core | CPU s | MB/s |\n|---|---|---|");
    let writing = forwards(file, Path::new(folder), &bytes, &mut made)?;
    let compressing = compressing_on(cores, &bytes, &made.blocks)?;
    let (first, snapshot) = whole(|| first(file, folder)).await?;
    summary("first backup", &writing, &first, cores);
    println!(
        "Compressing alone, on all cores at once, takes {compressing:.2} s: {:.0} % of the whole.",
        100.0 * compressing / first.wall
    );
    println!("\n| stage, on one core | CPU s | MB/s |\n|---|---|---|");
    let reading = backwards(Path::new(folder), &bytes, &made)?;
    drop((bytes, made));
    let (restore, ()) = whole(|| restore(&snapshot)).await?;
    summary("restore", &reading, &restore, cores);
    Ok(())
}

/// What stages hand to each other.
#[derive(Default)]
struct Made {
    chunks: Vec<usize>,
    blocks: Vec<usize>,
    compressed: Vec<Vec<u8>>,
}

/// A stage's cost in seconds.
struct Cost {
    name: &'static str,
    seconds: f64,
}

fn forwards(file: &str, folder: &Path, bytes: &[u8], made: &mut Made) -> Result<Vec<Cost>> {
    let total = bytes.len();
    let mut costs = Vec::new();
    let mut stage = |name, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        costs.push(Cost { name, seconds: alone(name, total, work)? });
        Ok(())
    };
    stage("read", &mut || {
        let (mut input, mut piece) = (File::open(file)?, vec![0; PIECE_BYTES]);
        while input.read(&mut piece)? > 0 {}
        Ok(())
    })?;
    stage("digest (BLAKE3)", &mut || {
        let mut hasher = blake3::Hasher::new_keyed(&[1; 32]);
        for piece in bytes.chunks(PIECE_BYTES) {
            hasher.update(piece);
        }
        std::hint::black_box(hasher.finalize());
        Ok(())
    })?;
    stage("cut (FastCDC)", &mut || {
        made.chunks = cuts(bytes);
        Ok(())
    })?;
    stage("identify (BLAKE3)", &mut || {
        let mut rest = bytes;
        for length in &made.chunks {
            let (chunk, behind) = rest.split_at(*length);
            std::hint::black_box(blake3::keyed_hash(&[2; 32], chunk));
            rest = behind;
        }
        Ok(())
    })?;
    made.blocks = blocks(&made.chunks);
    stage("compress (zstd 2)", &mut || {
        let (mut zstd, mut rest) = (zstd::bulk::Compressor::new(DEFAULT_COMPRESSION_LEVEL)?, bytes);
        let mut output = Vec::with_capacity(zstd::zstd_safe::compress_bound(2 * BLOCK_BYTES));
        for length in &made.blocks {
            let (block, behind) = rest.split_at(*length);
            output.clear();
            std::hint::black_box(zstd.compress_to_buffer(block, &mut output)?);
            rest = behind;
        }
        Ok(())
    })?;
    made.compressed = compressed(bytes, &made.blocks)?;
    stage("seal (AES-256-GCM)", &mut || {
        let (key, mut pack) = (key()?, Vec::with_capacity(PACK_BYTES));
        for (number, block) in made.compressed.iter().enumerate() {
            if pack.len() + BLOCK_BYTES > PACK_BYTES {
                pack.clear();
            }
            seal(&key, number, block, &mut pack)?;
        }
        Ok(())
    })?;
    let packs = packs(&made.compressed)?;
    stage("write and sync", &mut || {
        for (n, pack) in packs.iter().enumerate() {
            let mut output = File::create(folder.join(format!("pack-{n}")))?;
            output.write_all(pack)?;
            output.sync_all()?;
        }
        Ok(())
    })?;
    Ok(costs)
}

fn backwards(folder: &Path, bytes: &[u8], made: &Made) -> Result<Vec<Cost>> {
    let total = bytes.len();
    let mut costs = Vec::new();
    let mut stage = |name, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        costs.push(Cost { name, seconds: alone(name, total, work)? });
        Ok(())
    };
    let mut packs = Vec::new();
    stage("read packs", &mut || {
        packs.clear();
        for n in 0.. {
            match std::fs::read(folder.join(format!("pack-{n}"))) {
                Ok(pack) => packs.push(pack),
                Err(_) => break,
            }
        }
        Ok(())
    })?;
    stage("open (AES-256-GCM)", &mut || open(&packs, &made.compressed))?;
    stage("decompress (zstd)", &mut || {
        let (mut zstd, mut block) = (zstd::bulk::Decompressor::new()?, vec![0; 4 * BLOCK_BYTES]);
        for compressed in &made.compressed {
            std::hint::black_box(zstd.decompress_to_buffer(compressed, &mut block[..])?);
        }
        Ok(())
    })?;
    stage("digest (BLAKE3)", &mut || {
        let mut hasher = blake3::Hasher::new_keyed(&[1; 32]);
        for piece in bytes.chunks(BLOCK_BYTES) {
            hasher.update(piece);
        }
        std::hint::black_box(hasher.finalize());
        Ok(())
    })?;
    Ok(costs)
}

fn cuts(bytes: &[u8]) -> Vec<usize> {
    let (mask_s, mask_l) = select_masks(8192, Normalization::Level1);
    let (mut lengths, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (_, length) = cut(rest, 2048, 8192, 32_768, mask_s, mask_l, mask_s << 1, mask_l << 1);
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

/// Chunks behind each other, as many as fit into a block.
fn blocks(chunks: &[usize]) -> Vec<usize> {
    let mut blocks = Vec::new();
    let mut open = 0;
    for length in chunks {
        if open > 0 && open + length > BLOCK_BYTES {
            blocks.push(std::mem::take(&mut open));
        }
        open += length;
    }
    blocks.push(open);
    blocks
}

fn key() -> Result<LessSafeKey> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[3; 32]).map_err(|_| "no key")?))
}

fn nonce(number: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn compressed(bytes: &[u8], blocks: &[usize]) -> Result<Vec<Vec<u8>>> {
    let (mut zstd, mut rest) = (zstd::bulk::Compressor::new(DEFAULT_COMPRESSION_LEVEL)?, bytes);
    let mut all = Vec::with_capacity(blocks.len());
    for length in blocks {
        let (block, behind) = rest.split_at(*length);
        all.push(zstd.compress(block)?);
        rest = behind;
    }
    Ok(all)
}

/// Seconds until so many threads have compressed all blocks, each its share: cores slow
/// each other down where they share caches, memory and clock.
fn compressing_on(cores: usize, bytes: &[u8], blocks: &[usize]) -> Result<f64> {
    let share = |thread: usize| -> std::io::Result<()> {
        let (mut zstd, mut rest) = (zstd::bulk::Compressor::new(DEFAULT_COMPRESSION_LEVEL)?, bytes);
        for (number, length) in blocks.iter().enumerate() {
            let (block, behind) = rest.split_at(*length);
            if number % cores == thread {
                std::hint::black_box(zstd.compress(block)?);
            }
            rest = behind;
        }
        Ok(())
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|n| scope.spawn(move || share(n))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "it panicked")?.map_err(Box::<dyn Error>::from)
        })
    })?;
    Ok(started.elapsed().as_secs_f64())
}

fn packs(blocks: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let (key, mut packs, mut pack) = (key()?, Vec::new(), Vec::new());
    for (number, block) in blocks.iter().enumerate() {
        seal(&key, number, block, &mut pack)?;
        if pack.len() + 2 * BLOCK_BYTES > PACK_BYTES {
            packs.push(std::mem::take(&mut pack));
        }
    }
    packs.push(pack);
    Ok(packs)
}

/// Appends a block, sealed, as a frame.
fn seal(key: &LessSafeKey, number: usize, block: &[u8], pack: &mut Vec<u8>) -> Result<()> {
    let at = pack.len();
    pack.extend_from_slice(block);
    let tag = key
        .seal_in_place_separate_tag(nonce(number), Aad::from([0; 60]), &mut pack[at..])
        .map_err(|_| "not sealed")?;
    pack.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens every frame, as a reader must: in a copy of it.
fn open(packs: &[Vec<u8>], blocks: &[Vec<u8>]) -> Result<()> {
    let (key, mut number, mut content) = (key()?, 0, Vec::with_capacity(2 * BLOCK_BYTES));
    for pack in packs {
        let mut rest = &pack[..];
        while !rest.is_empty() {
            let (frame, behind) = rest.split_at(blocks[number].len() + 16);
            content.clear();
            content.extend_from_slice(frame);
            key.open_in_place(nonce(number), Aad::from([0; 60]), &mut content)
                .map_err(|_| "not opened")?;
            (rest, number) = (behind, number + 1);
        }
    }
    Ok(())
}

/// Runs a stage three times and prints the median of its CPU seconds: others that use the
/// machine meanwhile count little.
fn alone(name: &str, total: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let before = thread_cpu_seconds()?;
        work()?;
        seconds.push(thread_cpu_seconds()? - before);
    }
    seconds.sort_by(f64::total_cmp);
    println!("| {name} | {:.2} | {:.0} |", seconds[1], total as f64 / 1e6 / seconds[1]);
    Ok(seconds[1])
}

/// What the whole took.
struct Whole {
    wall: f64,
    cpu: f64,
}

async fn whole<T, F: Future<Output = Result<T>>>(work: impl Fn() -> F) -> Result<(Whole, T)> {
    let (started, before) = (Instant::now(), process_cpu_seconds()?);
    let done = work().await?;
    let wall = started.elapsed().as_secs_f64();
    Ok((Whole { wall, cpu: process_cpu_seconds()? - before }, done))
}

fn summary(what: &str, stages: &[Cost], whole: &Whole, cores: usize) {
    let sum: f64 = stages.iter().map(|stage| stage.seconds).sum();
    let Some(slowest) = stages.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)) else {
        return;
    };
    let allowed = sum / cores as f64;
    println!(
        "\n{what}: {:.2} s and {:.2} CPU s.\nThe slowest stage alone, {}, takes {:.2} s on all cores; all stages together {:.2} CPU s, {allowed:.2} s on all cores.\nOf that speed the whole reaches {:.0} %; its CPU seconds are {:.0} % of the stages'.",
        whole.wall,
        whole.cpu,
        slowest.name,
        slowest.seconds / cores as f64,
        sum,
        100.0 * allowed / whole.wall,
        100.0 * whole.cpu / sum,
    );
}

async fn first(file: &str, folder: &str) -> Result<Snapshot> {
    let encryption = Encryption::Keys(vec![KeySource::raw("main", &[7; 32])?]);
    let place = Path::new(folder).join("repository");
    let store = Arc::new(VolumeStore::open(place, VolumeOptions::default()).await?);
    let opened = Repository::create_or_open(store, &encryption, Initialize::IfEmpty).await?;
    let options = SessionOptions::new("stages", "first", "2026-11-01T02:15:00Z".parse()?);
    let Begun::Started(writer) = opened.repository.begin(options).await? else {
        return Err("it is stored already".into());
    };
    let mut stream = writer.stream("stream", Cutting::default()).await?;
    let (sender, mut pieces) = tokio::sync::mpsc::channel(3);
    let mut input = File::open(file)?;
    let reader = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read =
                std::io::Read::take(&mut input, PIECE_BYTES as u64).read_to_end(&mut piece)?;
            if read == 0 || sender.blocking_send(Bytes::from(piece)).is_err() {
                return Ok(());
            }
        }
    });
    while let Some(piece) = pieces.recv().await {
        stream.write(piece).await?;
    }
    reader.await??;
    stream.finish().await?;
    Ok(writer.commit(CommitInfo::new("Stages", Default::default(), Default::default())).await?)
}

async fn restore(snapshot: &Snapshot) -> Result<()> {
    let mut stream = snapshot.stream("stream").await?;
    while let Some(bytes) = stream.next().await? {
        std::hint::black_box(&bytes);
    }
    Ok(())
}

/// Nanoseconds on a processor, the first number of the kernel's `schedstat`.
fn thread_cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

/// Of all threads, living and ended: fields 14 and 15 of `stat`, in hundredths.
fn process_cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').ok_or("no stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse().unwrap_or(0_u64)).sum();
    Ok(ticks as f64 / 100.0)
}
