//! A repository's snapshot as what engines write to and read from.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::Failure;
use dbbackup_engine::{BackupSink, BackupSource, Shape, StreamReader, StreamWriter};
use dbbackup_repository::{self as repository, Cutting, Snapshot, SnapshotWriter};

/// Bytes of a page of [`Shape::Pages`].
const PAGE_BYTES: u32 = 8192;

/// Takes an engine's streams into a snapshot that is being written.
pub(crate) struct SnapshotSink {
    writer: Arc<SnapshotWriter>,
}

impl SnapshotSink {
    pub(crate) fn new(writer: Arc<SnapshotWriter>) -> Self {
        Self { writer }
    }
}

#[async_trait]
impl BackupSink for SnapshotSink {
    async fn open(&self, name: &str, shape: Shape) -> Result<Box<dyn StreamWriter>, Failure> {
        let cutting = match shape {
            Shape::Bytes => Cutting::default(),
            Shape::Pages => Cutting::fixed(PAGE_BYTES)?,
        };
        let stream = self.writer.stream(name, cutting).await?;
        Ok(Box::new(SinkStream(stream)))
    }

    async fn discard(&self, prefix: &str) -> Result<(), Failure> {
        Ok(self.writer.discard_streams(prefix)?)
    }
}

struct SinkStream(repository::StreamWriter);

#[async_trait]
impl StreamWriter for SinkStream {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        Ok(self.0.write(bytes).await?)
    }

    async fn finish(self: Box<Self>) -> Result<(), Failure> {
        self.0.finish().await?;
        Ok(())
    }
}

/// Gives an engine the streams of a snapshot.
pub(crate) struct SnapshotSource {
    snapshot: Arc<Snapshot>,
}

impl SnapshotSource {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot }
    }
}

#[async_trait]
impl BackupSource for SnapshotSource {
    async fn open(&self, name: &str) -> Result<Box<dyn StreamReader>, Failure> {
        Ok(Box::new(SourceStream(self.snapshot.stream(name).await?)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Failure> {
        let streams = self.snapshot.streams(prefix).await?;
        Ok(streams.into_iter().map(|stream| (stream.name, stream.length)).collect())
    }
}

struct SourceStream(repository::StreamReader);

#[async_trait]
impl StreamReader for SourceStream {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        Ok(self.0.next().await?)
    }
}
