//! What a restore has to know of a base, besides its files: `base.json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of the document.
pub(super) const BASE_DOCUMENT_VERSION: u32 = 1;
/// The stream of the document.
pub(super) const BASE_STREAM: &str = "base.json";
/// The stream of the server's own list of files.
pub(super) const MANIFEST_STREAM: &str = "backup_manifest";
/// Begins the streams of files, by their paths below the data folder.
pub(super) const FILES: &str = "files/";
/// Begins the streams of the log that makes the files consistent.
pub(super) const LOG: &str = "wal/";

/// A base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BaseDocument {
    pub(crate) version: u32,
    /// `17.11`.
    pub(crate) server_version: String,
    pub(crate) system_identifier: String,
    pub(crate) timeline: u32,
    /// Where recovery begins, and where the files are consistent.
    pub(crate) start: String,
    /// Where the record begins that ends at `end`.
    pub(crate) last_record: String,
    pub(crate) end: String,
    /// The server's clock then, or a moment later.
    pub(crate) consistent_time: Option<Timestamp>,
    /// Bytes of a file of the log.
    pub(crate) segment_bytes: u64,
    /// Whether its pages have checksums.
    pub(crate) has_checksums: bool,
    /// Folders by their paths below the data folder, with their modes.
    pub(crate) folders: BTreeMap<String, u32>,
    /// Where tablespaces were, by their OIDs.
    pub(crate) tablespaces: BTreeMap<u32, String>,
    /// Mode of the files.
    pub(crate) file_mode: u32,
    /// Settings without which the server does not begin, or not alike.
    pub(crate) settings: BTreeMap<String, String>,
    /// Databases by their OIDs.
    pub(crate) databases: BTreeMap<u32, String>,
    /// Roles that may log in: the one of the backup, then superusers. Bases of earlier releases
    /// name none.
    #[serde(default)]
    pub(crate) login_roles: Vec<String>,
}
