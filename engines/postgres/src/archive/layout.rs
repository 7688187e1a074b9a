//! What is written down beside the streams of an archive, so that they can be
//! joined again and compared.

use serde::{Deserialize, Serialize};

/// Version of the document.
pub(crate) const LAYOUT_VERSION: u32 = 1;

/// How an archive is put together from its streams: `layout.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layout {
    /// [`LAYOUT_VERSION`] of the writer.
    pub(crate) version: u32,
    /// Format of the archive: `1.16.0`.
    pub(crate) archive_format: String,
    /// Bytes of its numbers.
    pub(crate) int_size: usize,
    /// The server that was dumped.
    pub(crate) server_version: String,
    /// The `pg_dump` that dumped it.
    pub(crate) client_version: String,
    /// Header and table of contents.
    pub(crate) prelude: PreludeLayout,
    /// Blocks of data, in the order of the archive.
    pub(crate) blocks: Vec<BlockLayout>,
    /// What a target must have.
    pub(crate) needs: Needs,
}

/// Header and table of contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreludeLayout {
    /// Its stream.
    pub(crate) stream: String,
    /// Length of that stream.
    pub(crate) bytes: u64,
    /// SHA-256 of that stream.
    pub(crate) sha256: String,
    /// Where in that stream the date is missing.
    pub(crate) date_at: u64,
    /// The missing bytes, in hex.
    pub(crate) date: String,
}

/// What a block of data holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlockKind {
    /// Rows of a table, as `COPY … TO STDOUT` gives them.
    Table,
    /// Large objects.
    LargeObjects,
}

/// One block of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockLayout {
    /// Its stream.
    pub(crate) stream: String,
    /// What it holds.
    pub(crate) kind: BlockKind,
    /// Schema of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<String>,
    /// Name of the table; `pg_dump`'s own tag of large objects.
    pub(crate) name: String,
    /// Its number in the table of contents.
    pub(crate) dump_id: i64,
    /// Length of its stream, frames included.
    pub(crate) bytes: u64,
    /// Length of the data without frames.
    pub(crate) data_bytes: u64,
    /// Rows of the table; large objects where it holds those.
    pub(crate) rows: u64,
    /// SHA-256 of the data without frames; of a table, of what `COPY … TO STDOUT` gives.
    pub(crate) sha256: String,
}

impl BlockLayout {
    /// The table's name for messages, `schema.table`.
    pub(crate) fn shown(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => format!("large objects {}", self.name),
        }
    }
}

/// What a target must have before the archive can be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Needs {
    /// Roles that own objects.
    pub(crate) owners: Vec<String>,
    /// Tablespaces that hold objects, beside the database's own.
    pub(crate) tablespaces: Vec<String>,
    /// Extensions.
    pub(crate) extensions: Vec<String>,
    /// Subscriptions: a restore makes them, and does not enable them.
    #[serde(default)]
    pub(crate) subscriptions: Vec<String>,
    /// Objects in all, those of the database itself left out.
    pub(crate) objects: u64,
}

impl Layout {
    /// Tables with rows of their own.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &BlockLayout> {
        self.blocks.iter().filter(|block| block.kind == BlockKind::Table)
    }

    /// Rows of these tables.
    pub(crate) fn rows(&self) -> u64 {
        self.tables().map(|table| table.rows).sum()
    }

    /// Bytes of the archive, but for block headers and the date.
    pub(crate) fn bytes(&self) -> u64 {
        self.prelude.bytes + self.blocks.iter().map(|block| block.bytes).sum::<u64>()
    }
}
