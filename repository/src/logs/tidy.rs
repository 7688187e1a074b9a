//! Tidying a log: what it has twice, and what nobody needs any more, goes (`docs/format.md`, "Logs").
//!
//! Whatever interrupts it, what is left can be read. The oldest go in the order of their numbers. Parts
//! that another one replaces go in any order, since that one stays and says why they are gone; but not
//! one that itself says so of a part which that one does not replace.

use std::time::SystemTime;

use futures::{StreamExt as _, stream};
use memchr::memmem;

use super::{LogPart, LogReader, PartNumbers};
use crate::{Error, Result};

/// Parts that are deleted at once.
const AT_ONCE: usize = 16;
/// Parts that are read at once, of 16 MiB each at most.
const READ_AT_ONCE: usize = 4;

impl LogReader {
    /// Deletes the oldest parts that are `unneeded` (the first ones of [`LogReader::parts`], by
    /// their numbers), and those that others replace, once it was seen that these have their bytes.
    /// What was created at `young` or later stays, as does the newest part: its number is
    /// not used again. What was deleted is counted in `deleted`, also where it fails.
    ///
    /// # Errors
    /// What the store says; `RepositoryDamaged` where a part has not what it replaces: all
    /// else is tidied nevertheless.
    pub async fn tidy(&self, unneeded: &[u32], young: SystemTime, deleted: &mut u64) -> Result<()> {
        self.inner.may_write()?;
        let through = self.end_of(unneeded)?;
        let newest = self.created.keys().next_back().copied();
        let is_old =
            |number: u32| self.created.get(&number).is_some_and(|created| *created < young);
        let oldest = self.created.keys().copied();
        let oldest = oldest.take_while(|number| Some(*number) <= through && is_old(*number));
        for number in oldest.filter(|number| Some(*number) != newest) {
            self.inner.store.delete(&self.log.object(number)).await?;
            *deleted += 1;
        }
        let mut wrong = None;
        for part in self.parts.iter().filter(|part| Some(part.number) > through) {
            let Some(range) = part.replaces.filter(|_| is_old(part.number)) else { continue };
            match self.replace(part, range, through, deleted).await {
                Err(error @ Error::Damaged { .. }) => wrong = wrong.or(Some(error)),
                done => done?,
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// The last of the unneeded parts: all up to it go, those that others replace as well.
    fn end_of(&self, unneeded: &[u32]) -> Result<Option<u32>> {
        let own = self.parts.iter().map(|part| part.number).take(unneeded.len());
        if own.eq(unneeded.iter().copied()) {
            return Ok(unneeded.last().copied());
        }
        Err(Error::Misuse("the parts that are let go are not the first ones of the log".to_owned()))
    }

    /// Deletes what `part` replaces.
    async fn replace(
        &self,
        part: &LogPart,
        range: PartNumbers,
        through: Option<u32>,
        deleted: &mut u64,
    ) -> Result<()> {
        let first = self.replaced.partition_point(|piece| piece.number < range.first);
        let within = self.replaced[first..].iter().take_while(|piece| range.contains(piece.number));
        let is_one = |piece: &&LogPart| {
            Some(piece.number) > through && piece.replaces.is_none_or(|own| own.is_within(range))
        };
        let pieces: Vec<u32> = within.filter(is_one).map(|piece| piece.number).collect();
        if pieces.is_empty() {
            return Ok(());
        }
        self.must_have_all(part, &pieces).await?;
        let mut deleting = stream::iter(pieces)
            .map(|number| async move { self.inner.store.delete(&self.log.object(number)).await })
            .buffer_unordered(AT_ONCE);
        while let Some(done) = deleting.next().await {
            done?;
            *deleted += 1;
        }
        Ok(())
    }

    /// Reads a part back, and sees whether the bytes of these pieces are in it, one behind the other.
    /// Who wrote it may have said what is not so. A piece that cannot be read proves nothing, and
    /// nobody can use it.
    async fn must_have_all(&self, part: &LogPart, pieces: &[u32]) -> Result<()> {
        let content = self.content(part).await?;
        let mut position = 0;
        let mut reading =
            stream::iter(pieces).map(|number| self.readable(*number)).buffered(READ_AT_ONCE);
        while let Some(piece) = reading.next().await {
            let Some(piece) = piece? else { continue };
            let Some(at) = memmem::find(&content[position..], &piece) else {
                let message = "it has not the bytes of the parts that it replaces";
                return Err(Error::damaged(self.log.object(part.number), message));
            };
            position += at + piece.len();
        }
        Ok(())
    }
}
