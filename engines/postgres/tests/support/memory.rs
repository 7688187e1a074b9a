//! A backup that is kept in memory, and can be damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::{Failure, Progress, Reason};
use dbbackup_engine::{BackupSink, BackupSource, ProgressSink, Shape, StreamReader, StreamWriter};

/// Hears nothing.
pub struct Silent;

impl ProgressSink for Silent {
    fn update(&self, _: Progress) {}
}

/// Keeps the last progress that it heard.
#[derive(Default)]
pub struct LastProgress(pub Mutex<Vec<Progress>>);

impl ProgressSink for LastProgress {
    fn update(&self, progress: Progress) {
        self.0.lock().unwrap().push(progress);
    }
}

#[derive(Clone, Default)]
pub struct MemoryBackup {
    pub streams: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    open: Arc<Mutex<BTreeSet<String>>>,
    /// Writing fails once so many bytes have been taken.
    pub full_at: Arc<Mutex<Option<usize>>>,
    /// Reading waits for ever before a stream whose name ends so.
    pub hangs_at: Arc<Mutex<Option<String>>>,
    /// What happens when a stream whose name ends so is opened, once.
    pub at_stream: Arc<Mutex<Option<(String, Hook)>>>,
    /// Names of streams that were opened for reading.
    pub read: Arc<Mutex<Vec<String>>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl MemoryBackup {
    pub fn names(&self) -> Vec<String> {
        self.streams.lock().unwrap().keys().cloned().collect()
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        let streams = self.streams.lock().unwrap();
        streams.get(name).unwrap_or_else(|| panic!("no stream {name}")).clone()
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.get(name)).unwrap()
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.streams.lock().unwrap().get_mut(name).unwrap());
    }

    pub fn at(&self, stream: &str, hook: impl FnOnce() + Send + 'static) {
        *self.at_stream.lock().unwrap() = Some((stream.to_owned(), Box::new(hook)));
    }

    fn happen(&self, name: &str) {
        let mut at = self.at_stream.lock().unwrap();
        if at.as_ref().is_some_and(|(stream, _)| name.ends_with(stream)) {
            let (_, hook) = at.take().unwrap();
            hook();
        }
    }

    /// A copy that can be damaged on its own.
    pub fn copy(&self) -> Self {
        let streams = self.streams.lock().unwrap().clone();
        Self { streams: Arc::new(Mutex::new(streams)), ..Self::default() }
    }
}

struct Writer {
    backup: MemoryBackup,
    name: String,
    bytes: Vec<u8>,
}

#[async_trait]
impl BackupSink for MemoryBackup {
    async fn open(&self, name: &str, _: Shape) -> Result<Box<dyn StreamWriter>, Failure> {
        assert!(name.len() <= 1024);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.%/".contains(c);
        assert!(name.chars().all(plain), "{name}");
        assert!(!self.streams.lock().unwrap().contains_key(name), "{name} twice");
        assert!(self.open.lock().unwrap().insert(name.to_owned()), "{name} is open");
        self.happen(name);
        Ok(Box::new(Writer { backup: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    async fn discard(&self, prefix: &str) -> Result<(), Failure> {
        let open = self.open.lock().unwrap();
        assert!(!open.iter().any(|name| name.starts_with(prefix)), "{open:?}");
        self.streams.lock().unwrap().retain(|name, _| !name.starts_with(prefix));
        Ok(())
    }
}

#[async_trait]
impl StreamWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.bytes.extend_from_slice(&bytes);
        if let Some(room) = &mut *self.backup.full_at.lock().unwrap() {
            *room = room.saturating_sub(bytes.len());
            if *room == 0 {
                return Err(Failure::new(Reason::StorageFull, "the volume is full"));
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        let bytes = std::mem::take(&mut self.bytes);
        self.backup.streams.lock().unwrap().insert(self.name.clone(), bytes);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.backup.open.lock().unwrap().remove(&self.name);
    }
}

struct Reader {
    bytes: Bytes,
}

#[async_trait]
impl BackupSource for MemoryBackup {
    async fn open(&self, name: &str) -> Result<Box<dyn StreamReader>, Failure> {
        self.read.lock().unwrap().push(name.to_owned());
        self.happen(name);
        let hangs = self.hangs_at.lock().unwrap().clone();
        if hangs.is_some_and(|stream| name.ends_with(&stream)) {
            std::future::pending::<()>().await;
        }
        let streams = self.streams.lock().unwrap();
        match streams.get(name) {
            Some(bytes) => Ok(Box::new(Reader { bytes: bytes.clone().into() })),
            None => Err(Failure::new(Reason::StreamNotFound, format!("no stream {name}"))),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Failure> {
        let streams = self.streams.lock().unwrap();
        let found = streams.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }
}

#[async_trait]
impl StreamReader for Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        // An odd size: borders of pieces mean nothing.
        let size = self.bytes.len().min(10_007);
        Ok(Some(self.bytes.split_to(size)))
    }
}
