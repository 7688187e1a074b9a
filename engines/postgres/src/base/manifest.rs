//! `backup_manifest`: which files a base backup has, as the server says it
//! (<https://www.postgresql.org/docs/current/backup-manifest-format.html>). It is asked for with
//! CRC32C, and compared with what arrived.

use std::collections::HashMap;

use crc_fast::CrcAlgorithm;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::lsn::Lsn;

/// Longest manifest that is read: some three million files.
pub(crate) const MAX_MANIFEST_BYTES: usize = 512 * 1024 * 1024;

/// What a server says of a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The files by their paths.
    pub(crate) files: HashMap<String, FileSum>,
    /// The log that is needed to make the files consistent.
    pub(crate) ranges: Vec<WalRange>,
    /// The server's, from version 17 on.
    pub(crate) system_identifier: Option<u64>,
}

/// What is known of a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSum {
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Its CRC32C.
    pub(crate) crc: u32,
}

/// A part of one timeline's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalRange {
    pub(crate) timeline: u32,
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
}

/// Why a manifest cannot be used, or does not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// It is no JSON of this form.
    #[error("the manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of a version that is not known.
    #[error("the manifest has version {0}")]
    Version(u32),
    /// Its own checksum is wrong or missing.
    #[error("the manifest's own checksum is wrong")]
    Checksum,
    /// A value of it is none.
    #[error("the manifest has {0:?} where {1} must stand")]
    Value(String, &'static str),
    /// Something else arrived than it names.
    #[error("{0}")]
    Differs(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    files: Vec<DocumentFile>,
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<DocumentRange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DocumentFile {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct DocumentRange {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

/// Begins the last line, which is not a part of what the checksum covers.
const CHECKSUM_LINE: &[u8] = b"\"Manifest-Checksum\":";

impl Manifest {
    /// Reads one, and compares its own checksum.
    ///
    /// # Errors
    /// When it is damaged or of an unknown form.
    pub(crate) fn read(text: &[u8]) -> Result<Self, ManifestError> {
        check_own_sum(text)?;
        let document: Document = serde_json::from_slice(text)?;
        if !matches!(document.version, 1 | 2) {
            return Err(ManifestError::Version(document.version));
        }
        let mut files = HashMap::with_capacity(document.files.len());
        for file in document.files {
            let (path, sum) = read_file(file)?;
            if files.insert(path.clone(), sum).is_some() {
                return Err(ManifestError::Value(path, "a path that no other file has"));
            }
        }
        let ranges = document.wal_ranges.into_iter().map(read_range);
        Ok(Self {
            files,
            ranges: ranges.collect::<Result<_, _>>()?,
            system_identifier: document.system_identifier,
        })
    }

    /// Compares it with the files that arrived: each of either must be the other's.
    ///
    /// # Errors
    /// Names the first file that differs.
    pub(crate) fn compare(&self, arrived: &HashMap<String, FileSum>) -> Result<(), ManifestError> {
        let differs = |text: String| Err(ManifestError::Differs(text));
        let mut paths: Vec<&String> = self.files.keys().collect();
        paths.sort_unstable();
        for path in paths {
            match (arrived.get(path), self.files[path]) {
                (None, _) => return differs(format!("the server did not send {path}")),
                (Some(own), told) if own.bytes != told.bytes => {
                    let (own, told) = (own.bytes, told.bytes);
                    return differs(format!("{path} arrived with {own} bytes, not {told}"));
                }
                (Some(own), told) if own.crc != told.crc => {
                    return differs(format!("{path} arrived with another checksum"));
                }
                _ => {}
            }
        }
        match arrived.keys().filter(|path| !self.files.contains_key(*path)).min() {
            Some(path) => differs(format!("the server sent {path}, which its manifest lacks")),
            None => Ok(()),
        }
    }
}

/// A CRC32C as bytes come in.
pub(crate) fn crc() -> crc_fast::Digest {
    crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)
}

fn check_own_sum(text: &[u8]) -> Result<(), ManifestError> {
    let at = memchr::memmem::rfind(text, CHECKSUM_LINE).ok_or(ManifestError::Checksum)?;
    let mut quoted = text[at + CHECKSUM_LINE.len()..].split(|byte| *byte == b'"');
    let told = quoted.nth(1).ok_or(ManifestError::Checksum)?;
    let own = HEXLOWER.encode(&Sha256::digest(&text[..at]));
    match told.eq_ignore_ascii_case(own.as_bytes()) {
        true => Ok(()),
        false => Err(ManifestError::Checksum),
    }
}

fn read_file(file: DocumentFile) -> Result<(String, FileSum), ManifestError> {
    let path = match (file.path, file.encoded_path) {
        (Some(path), None) => path,
        (None, Some(hex)) => HEXLOWER_PERMISSIVE
            .decode(hex.as_bytes())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or(ManifestError::Value(hex, "a path in UTF-8"))?,
        _ => return Err(ManifestError::Value("two paths or none".into(), "one")),
    };
    let told = file.checksum.unwrap_or_default();
    if file.algorithm.as_deref() != Some("CRC32C") {
        return Err(ManifestError::Value(told, "a checksum by CRC32C"));
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(told.as_bytes()).ok();
    // The server prints the bytes as they lie in its memory.
    let crc = bytes.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let crc = crc.ok_or(ManifestError::Value(told, "a checksum by CRC32C"))?;
    Ok((path, FileSum { bytes: file.size, crc }))
}

fn read_range(range: DocumentRange) -> Result<WalRange, ManifestError> {
    let lsn = |text: String| text.parse().map_err(|_| ManifestError::Value(text, "an LSN"));
    Ok(WalRange { timeline: range.timeline, start: lsn(range.start)?, end: lsn(range.end)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &str = r#"{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7440000000000000001,
"Files": [
{ "Path": "backup_label", "Size": 3, "Last-Modified": "2026-11-30 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "b73f4b36" },
{ "Encoded-Path": "62617365", "Size": 0, "Last-Modified": "2026-11-30 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "16/B374D848" }
],
"#;

    fn sealed(text: &str) -> Vec<u8> {
        let sum = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        format!("{text}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
    }

    fn sum(contents: &[u8]) -> FileSum {
        let mut crc = crc();
        crc.update(contents);
        FileSum { bytes: contents.len() as u64, crc: u32::try_from(crc.finalize()).unwrap() }
    }

    #[test]
    fn a_manifest_is_read_and_compared() {
        let manifest = Manifest::read(&sealed(FILES)).unwrap();
        assert_eq!(manifest.system_identifier, Some(7_440_000_000_000_000_001));
        let range = WalRange { timeline: 1, start: Lsn(0x0200_0028), end: Lsn(0x16_B374_D848) };
        assert_eq!(manifest.ranges, [range]);
        let mut arrived = HashMap::from([
            ("backup_label".to_owned(), sum(b"abc")),
            ("base".to_owned(), sum(b"")),
        ]);
        manifest.compare(&arrived).unwrap();
        let differs =
            |arrived: &HashMap<String, FileSum>| manifest.compare(arrived).unwrap_err().to_string();
        arrived.insert("backup_label".to_owned(), sum(b"abd"));
        assert_eq!(differs(&arrived), "backup_label arrived with another checksum");
        arrived.insert("backup_label".to_owned(), sum(b"ab"));
        assert_eq!(differs(&arrived), "backup_label arrived with 2 bytes, not 3");
        arrived.remove("backup_label");
        assert_eq!(differs(&arrived), "the server did not send backup_label");
        arrived.insert("backup_label".to_owned(), sum(b"abc"));
        arrived.insert("base/1".to_owned(), sum(b""));
        assert_eq!(differs(&arrived), "the server sent base/1, which its manifest lacks");
    }

    #[test]
    fn what_was_changed_is_refused() {
        let whole = sealed(FILES);
        let changed =
            String::from_utf8(whole.clone()).unwrap().replace("\"Size\": 3", "\"Size\": 4");
        assert!(matches!(Manifest::read(changed.as_bytes()), Err(ManifestError::Checksum)));
        assert!(matches!(Manifest::read(FILES.as_bytes()), Err(ManifestError::Checksum)));
        for (from, to) in [
            ("Version\": 2", "Version\": 3"),
            ("CRC32C", "SHA256"),
            ("b73f4b36", "b73f4b"),
            ("0/2000028", "2000028"),
            ("62617365", "ff"),
            ("\"Encoded-Path\": \"62617365\"", "\"Path\": \"backup_label\""),
        ] {
            let text = sealed(&FILES.replace(from, to));
            assert!(Manifest::read(&text).is_err(), "{to}");
        }
    }
}
