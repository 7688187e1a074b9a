//! Pieces: recipe segments and pages of tables, and where they stand
//! (`docs/format.md`, "Meta objects").

use crate::wire::{Malformed, Reader, put_bytes, put_varint};

/// Largest plain piece, in bytes.
const MAX_PIECE_BYTES: usize = 4 * 1024 * 1024;
/// Level at which pieces are compressed.
const LEVEL: i32 = 3;
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Where a piece stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Right here.
    Inline(Vec<u8>),
    /// In a frame of a meta object.
    Meta { object: u32, counter: u32, at: u32, stored: u32 },
}

impl Place {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inline(piece) => {
                put_varint(out, 0);
                put_bytes(out, piece);
            }
            Self::Meta { object, counter, at, stored } => {
                put_varint(out, 1);
                for number in [object, counter, at, stored] {
                    put_varint(out, u64::from(*number));
                }
            }
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.varint()? {
            0 => Ok(Self::Inline(reader.bytes(MAX_PIECE_BYTES)?.to_vec())),
            1 => Ok(Self::Meta {
                object: reader.small()?,
                counter: reader.small()?,
                at: reader.small()?,
                stored: reader.small()?,
            }),
            _ => Err(Malformed("a place of an unknown kind")),
        }
    }
}

/// Packs `content` into a piece.
pub(crate) fn encode_piece(content: &[u8]) -> Vec<u8> {
    // Below this a zstd frame's own header costs more than it saves.
    if content.len() >= 64
        && let Ok(compressed) = zstd::bulk::compress(content, LEVEL)
        && compressed.len() < content.len()
    {
        return [&[ZSTD], &compressed[..]].concat();
    }
    [&[RAW], content].concat()
}

/// Unpacks a piece.
pub(crate) fn decode_piece(piece: &[u8]) -> Result<Vec<u8>, Malformed> {
    decode_piece_within(piece, &mut u64::MAX.clone())
}

/// Unpacks one of several pieces that may have `left` plain bytes in all, and takes its
/// own from that. What exceeds it is not unpacked.
pub(crate) fn decode_piece_within(piece: &[u8], left: &mut u64) -> Result<Vec<u8>, Malformed> {
    let (coding, stored) =
        piece.split_first().ok_or(Malformed("a piece is coded in an unknown way"))?;
    let size = match *coding {
        RAW => stored.len(),
        ZSTD => declared_size(stored)?,
        _ => return Err(Malformed("a piece is coded in an unknown way")),
    };
    if size > MAX_PIECE_BYTES {
        return Err(Malformed("a piece is too large"));
    }
    *left = left.checked_sub(size as u64).ok_or(Malformed("a table unfolds to too much"))?;
    if *coding == RAW { Ok(stored.to_vec()) } else { decompress(stored, size) }
}

/// What a zstd frame says of its size, so that nothing larger is allocated than it holds.
fn declared_size(compressed: &[u8]) -> Result<usize, Malformed> {
    zstd::zstd_safe::get_frame_content_size(compressed)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .ok_or(Malformed("a compressed piece does not say its size"))
}

/// One zstd frame of `size` bytes.
fn decompress(compressed: &[u8], size: usize) -> Result<Vec<u8>, Malformed> {
    match zstd::bulk::decompress(compressed, size) {
        Ok(content) if content.len() == size => Ok(content),
        _ => Err(Malformed("a compressed piece does not open")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_several_pieces_unfold_to_is_bounded_before_they_are_unpacked() {
        let mut zeros = encode_piece(&vec![0; MAX_PIECE_BYTES]);
        assert!(zeros.len() < 1000);
        let mut left = 2 * MAX_PIECE_BYTES as u64;
        for piece in [&zeros, &[&[RAW], &[0; MAX_PIECE_BYTES][..]].concat()] {
            assert_eq!(decode_piece_within(piece, &mut left).unwrap().len(), MAX_PIECE_BYTES);
        }
        assert_eq!(left, 0);
        // It would not open, which nobody tries.
        zeros.truncate(100);
        let most = allocation_counter::measure(|| {
            for piece in [&zeros[..], &[RAW, 1]] {
                let error = decode_piece_within(piece, &mut left).unwrap_err();
                assert_eq!(error.0, "a table unfolds to too much");
            }
        });
        assert!(most.bytes_max < 1000);
        let error = decode_piece(&[&[RAW], &[0; MAX_PIECE_BYTES + 1][..]].concat()).unwrap_err();
        assert_eq!(error.0, "a piece is too large");
    }

    proptest! {
        #[test]
        fn pieces_survive(content: Vec<u8>, times in 1..200_usize) {
            let content = content.repeat(times);
            prop_assert_eq!(decode_piece(&encode_piece(&content)).unwrap(), content);
        }

        #[test]
        fn hostile_pieces_are_refused_within_bounds(mut bytes: Vec<u8>) {
            let _ = decode_piece(&bytes);
            bytes.splice(0..0, [ZSTD, 0x28, 0xB5, 0x2F, 0xFD]);
            let _ = decode_piece(&bytes);
        }
    }
}
