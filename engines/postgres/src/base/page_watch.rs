//! Looks at the pages of a file as its bytes pass.

use bytes::Bytes;

use super::page_checksum::{PageState, look_at};
use super::relation_file::{Fork, PAGE_BYTES, RelationFile, RelationId};
use crate::lsn::Lsn;

/// A page whose checksum is wrong: damaged, or just being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) path: String,
    pub(crate) relation: RelationId,
    pub(crate) fork: Fork,
    /// Counted over all segments.
    pub(crate) page: u32,
    /// Where in the log it says that it was changed at last.
    pub(crate) lsn: Lsn,
}

/// The pages of one file.
#[derive(Debug)]
pub(crate) struct PageWatch {
    path: String,
    file: RelationFile,
    next: u32,
    /// A page that came in pieces.
    partial: Vec<u8>,
}

impl PageWatch {
    /// Of a file that holds pages; `None` of all others.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let file = RelationFile::of_path(path)?;
        let next = file.first_page()?;
        Some(Self { path: path.to_owned(), file, next, partial: Vec::new() })
    }

    /// Takes the next bytes of the file; appends the pages that are not right.
    pub(crate) fn push(&mut self, bytes: &Bytes, suspects: &mut Vec<Suspect>) {
        let mut rest = &bytes[..];
        if !self.partial.is_empty() {
            let wanted = (PAGE_BYTES - self.partial.len()).min(rest.len());
            let (now, behind) = rest.split_at(wanted);
            self.partial.extend_from_slice(now);
            rest = behind;
            if self.partial.len() == PAGE_BYTES {
                let page = std::mem::take(&mut self.partial);
                if let Some(page) = page.first_chunk() {
                    self.look(page, suspects);
                }
            }
        }
        let (pages, rest) = rest.as_chunks::<PAGE_BYTES>();
        for page in pages {
            self.look(page, suspects);
        }
        self.partial.extend_from_slice(rest);
    }

    fn look(&mut self, page: &[u8; PAGE_BYTES], suspects: &mut Vec<Suspect>) {
        if let PageState::Bad { lsn } = look_at(page, self.next) {
            suspects.push(Suspect {
                path: self.path.clone(),
                relation: self.file.relation,
                fork: self.file.fork,
                page: self.next,
                lsn: Lsn(lsn),
            });
        }
        self.next = self.next.saturating_add(1);
    }
}
