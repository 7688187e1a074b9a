//! A part of a log, as bytes.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LogId;
use crate::envelope::{HEADER_BYTES, Kind, ObjectSeal, TAG_BYTES};
use crate::repository::Inner;
use crate::{Error, Result};

/// Most bytes of a log in one part.
pub const MAX_PART_BYTES: usize = 16 * 1024 * 1024;
/// Longest first frame, with its tag.
const MAX_ABOUT_FRAME: usize = 64 * 1024;
/// Bytes before the first frame: the header, and the frame's length.
const BEFORE_ABOUT: usize = HEADER_BYTES + 4;
/// zstd's level: a log comes as fast as its server writes.
const LEVEL: i32 = 1;

/// Parts that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartNumbers {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl PartNumbers {
    /// Whether a number is one of them.
    #[must_use]
    pub const fn contains(self, number: u32) -> bool {
        self.first <= number && number <= self.last
    }

    /// Whether all of them are among others.
    pub(super) const fn is_within(self, others: Self) -> bool {
        others.first <= self.first && self.last <= others.last
    }

    /// Whether a part of this number may have their bytes again: all of them came before it. Else
    /// one could be deleted while something that it replaces is missing.
    const fn are_before(self, number: u32) -> bool {
        self.first <= self.last && self.last < number
    }
}

/// What a part of a log is, without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPart {
    /// Its number.
    pub number: u32,
    /// When it was written.
    pub time: Timestamp,
    /// Earlier parts whose bytes it has, too: they may be deleted.
    pub replaces: Option<PartNumbers>,
    /// How many bytes of the log it has.
    pub bytes: u64,
    /// What whoever wrote it says of it.
    pub about: serde_json::Value,
    /// The tag of the first frame of the part before it.
    pub(super) previous: Option<String>,
    /// That of its own.
    pub(super) tag: String,
    /// Where the second frame begins.
    pub(super) content_at: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<PartNumbers>,
    bytes: u64,
    about: serde_json::Value,
}

/// A part to write.
pub(super) struct Draft<'a> {
    pub(super) number: u32,
    pub(super) previous: Option<String>,
    pub(super) replaces: Option<PartNumbers>,
    pub(super) about: serde_json::Value,
    pub(super) content: &'a [u8],
}

impl Draft<'_> {
    /// The object, and what it is.
    pub(super) fn seal(self, inner: &Inner, log: &LogId) -> Result<(LogPart, Bytes)> {
        if self.content.len() > MAX_PART_BYTES {
            let message = format!("{} bytes are more than a part of a log has", self.content.len());
            return Err(Error::Misuse(message));
        }
        if self.replaces.is_some_and(|replaced| !replaced.are_before(self.number)) {
            let message = "a part of a log replaces earlier ones alone".to_owned();
            return Err(Error::Misuse(message));
        }
        let about = About {
            time: inner.environment.now(),
            previous: self.previous,
            replaces: self.replaces,
            bytes: self.content.len() as u64,
            about: self.about,
        };
        let json = serde_json::to_vec(&about).map_err(|error| Error::Misuse(error.to_string()))?;
        let length = json.len() + TAG_BYTES;
        let told = u32::try_from(length).ok().filter(|_| length <= MAX_ABOUT_FRAME);
        let Some(told) = told else {
            return Err(Error::Misuse(format!(
                "{length} bytes are too many about a part of a log"
            )));
        };
        let content = match self.content {
            [] => Vec::new(),
            bytes => zstd::bulk::compress(bytes, LEVEL)
                .map_err(|error| Error::System(format!("zstd: {error}")))?,
        };
        let name = log.object(self.number);
        let seal = ObjectSeal::fresh(&inner.keys, &*inner.environment, Kind::Log, name)?;
        let mut object = Vec::with_capacity(BEFORE_ABOUT + length + content.len() + TAG_BYTES);
        object.extend_from_slice(&seal.header());
        object.extend_from_slice(&told.to_le_bytes());
        object.extend_from_slice(&json);
        let tag = seal.seal(0, false, &mut object, BEFORE_ABOUT)?;
        let content_at = object.len();
        object.extend_from_slice(&content);
        seal.seal(1, true, &mut object, content_at)?;
        let tag = data_encoding::HEXLOWER.encode(&tag);
        Ok((about.part(self.number, tag, content_at), object.into()))
    }
}

impl About {
    fn part(self, number: u32, tag: String, content_at: usize) -> LogPart {
        LogPart {
            number,
            time: self.time,
            replaces: self.replaces,
            bytes: self.bytes,
            about: self.about,
            previous: self.previous,
            tag,
            content_at,
        }
    }
}

/// How many bytes of an object are asked for first: enough for most.
pub(super) const FIRST_BYTES: u64 = 4096;

/// What the first bytes of an object say.
pub(super) enum Opened {
    Part(Box<LogPart>),
    /// So many bytes are needed.
    Longer(u64),
}

/// Reads what a part is from its first bytes.
pub(super) fn open_about(inner: &Inner, log: &LogId, number: u32, start: &[u8]) -> Result<Opened> {
    let name = log.object(number);
    let cut = || Error::damaged(&name, "it is cut");
    let told = start.get(HEADER_BYTES..BEFORE_ABOUT).and_then(|told| told.first_chunk());
    let length = u32::from_le_bytes(*told.ok_or_else(cut)?) as usize;
    if !(TAG_BYTES..=MAX_ABOUT_FRAME).contains(&length) {
        return Err(Error::damaged(name, "its first frame has an impossible length"));
    }
    let content_at = BEFORE_ABOUT + length;
    let Some(frame) = start.get(BEFORE_ABOUT..content_at) else {
        return Ok(Opened::Longer(content_at as u64));
    };
    let seal = ObjectSeal::of_header(&inner.keys, start, Kind::Log, name.clone())?;
    let mut frame = frame.to_vec();
    let tag = data_encoding::HEXLOWER.encode(&frame[length - TAG_BYTES..]);
    seal.open(0, false, &mut frame)?;
    let about: About =
        serde_json::from_slice(&frame).map_err(|error| Error::damaged(&name, error.to_string()))?;
    if about.bytes > MAX_PART_BYTES as u64 {
        return Err(Error::damaged(name, "it has more bytes than a part of a log"));
    }
    if about.replaces.is_some_and(|replaced| !replaced.are_before(number)) {
        return Err(Error::damaged(name, "it replaces parts that did not come before it"));
    }
    Ok(Opened::Part(Box::new(about.part(number, tag, content_at))))
}

/// Reads the bytes of a part from its whole object.
pub(super) fn open_content(
    inner: &Inner,
    log: &LogId,
    part: &LogPart,
    object: &[u8],
) -> Result<Bytes> {
    let name = log.object(part.number);
    let damaged = |why: &str| Error::damaged(&name, why);
    let frame = object.get(part.content_at..).ok_or_else(|| damaged("it is cut"))?;
    let seal = ObjectSeal::of_header(&inner.keys, object, Kind::Log, name.clone())?;
    let mut content = frame.to_vec();
    seal.open(1, true, &mut content)?;
    // The length was sealed, too: nothing larger is made room for.
    let bytes = usize::try_from(part.bytes).map_err(|_| damaged("it is too large"))?;
    if bytes == 0 && content.is_empty() {
        return Ok(Bytes::new());
    }
    let plain =
        zstd::bulk::decompress(&content, bytes).map_err(|error| damaged(&error.to_string()))?;
    if plain.len() == bytes { Ok(plain.into()) } else { Err(damaged("it has another length")) }
}
