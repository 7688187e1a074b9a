//! What differs in the log of major versions.

/// A major version whose log is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WalVersion(u32);

impl WalVersion {
    /// By the number that begins each page (`XLOG_PAGE_MAGIC`).
    pub(super) fn of_magic(magic: u16) -> Option<Self> {
        Some(Self(match magic {
            0xD106 => 13,
            0xD10D => 14,
            0xD110 => 15,
            0xD113 => 16,
            0xD116 => 17,
            0xD118 => 18,
            _ => return None,
        }))
    }

    /// The major version.
    pub(crate) fn major(self) -> u32 {
        self.0
    }

    /// Whether an image of a page with these flags is compressed (`BKPIMAGE_…`).
    pub(super) fn is_compressed(self, flags: u8) -> bool {
        // Until 14 one flag, from 15 on one for each method.
        let methods = if self.0 < 15 { 0x02 } else { 0x1C };
        flags & methods != 0
    }

    /// Whether an image of a page with these flags is put in the page's place.
    pub(super) fn is_applied(self, flags: u8) -> bool {
        let apply = if self.0 < 15 { 0x04 } else { 0x02 };
        flags & apply != 0
    }
}
