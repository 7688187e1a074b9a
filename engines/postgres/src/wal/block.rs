//! Which pages a record changes (`XLogRecordBlockHeader`), and where its own data begins.

use bytes::{Buf, Bytes};

use super::reader::Record;
use crate::base::relation_file::{Fork, RelationId};

/// Highest number of a block within a record (`XLR_MAX_BLOCK_ID`).
const MAX_BLOCK: u8 = 32;
/// Numbers that stand for something else.
const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TOP_XID: u8 = 252;

/// Flags of a block.
const HAS_IMAGE: u8 = 0x10;
const WILL_INIT: u8 = 0x40;
const SAME_RELATION: u8 = 0x80;
/// Flag of an image: the page's empty middle was left out.
const HAS_HOLE: u8 = 0x01;

/// A page that a record changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockChange {
    pub(crate) relation: RelationId,
    /// `None` of a fork that is not known.
    pub(crate) fork: Option<Fork>,
    pub(crate) number: u32,
    /// Whether the record says all of the page: what stood in it before does not matter.
    pub(crate) is_whole: bool,
}

/// What stands at a record's beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) blocks: Vec<BlockChange>,
    /// Length of the record's own data, which is its end.
    pub(super) data_bytes: u32,
}

impl Headers {
    /// `None` where they are not as they must be.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let mut rest = record.body.clone();
        let mut headers = Self::default();
        // Of what follows the headers: data of blocks and the record's own.
        let mut behind = 0_u64;
        let mut relation = None;
        while u64::from(record.body_bytes) - (record.body.len() - rest.len()) as u64 > behind {
            match take_u8(&mut rest)? {
                DATA_SHORT => headers.data_bytes = u32::from(take_u8(&mut rest)?),
                DATA_LONG => headers.data_bytes = take_u32(&mut rest)?,
                ORIGIN => {
                    take_u16(&mut rest)?;
                    continue;
                }
                TOP_XID => {
                    take_u32(&mut rest)?;
                    continue;
                }
                number if number <= MAX_BLOCK => {
                    behind += headers.block(&mut rest, record, &mut relation)?;
                    continue;
                }
                _ => return None,
            }
            // The record's own data comes last of all headers.
            behind += u64::from(headers.data_bytes);
        }
        let left = u64::from(record.body_bytes) - (record.body.len() - rest.len()) as u64;
        (left == behind).then_some(headers)
    }

    /// Reads a block's header. Gives how many bytes of it follow the headers.
    fn block(
        &mut self,
        rest: &mut Bytes,
        record: &Record,
        relation: &mut Option<RelationId>,
    ) -> Option<u64> {
        let flags = take_u8(rest)?;
        let mut behind = u64::from(take_u16(rest)?);
        let mut is_whole = flags & WILL_INIT != 0;
        if flags & HAS_IMAGE != 0 {
            behind += u64::from(take_u16(rest)?);
            let _hole_at = take_u16(rest)?;
            let image = take_u8(rest)?;
            if image & HAS_HOLE != 0 && record.version.is_compressed(image) {
                take_u16(rest)?;
            }
            is_whole |= record.version.is_applied(image);
        }
        if flags & SAME_RELATION == 0 {
            let (tablespace, database, number) =
                (take_u32(rest)?, take_u32(rest)?, take_u32(rest)?);
            *relation = Some(RelationId { tablespace, database, number });
        }
        let fork = match flags & 0x0F {
            0 => Some(Fork::Main),
            1 => Some(Fork::FreeSpace),
            2 => Some(Fork::Visibility),
            3 => Some(Fork::Initial),
            _ => None,
        };
        let number = take_u32(rest)?;
        self.blocks.push(BlockChange { relation: (*relation)?, fork, number, is_whole });
        Some(behind)
    }
}

fn take_u8(bytes: &mut Bytes) -> Option<u8> {
    bytes.try_get_u8().ok()
}

fn take_u16(bytes: &mut Bytes) -> Option<u16> {
    bytes.try_get_u16_le().ok()
}

fn take_u32(bytes: &mut Bytes) -> Option<u32> {
    bytes.try_get_u32_le().ok()
}
