//! `BASE_BACKUP`: a server's files as it sends them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use dbbackup_contract::{Failure, Reason};

use super::session::{ReplicationSession, broken, odd};
use super::wire::{Message, Row, ServerError, WireError, row, text, wide};
use crate::lsn::Lsn;

/// What a base backup is asked for. Checksums of pages are looked at by us: of one bad page
/// the server would end all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseBackupOptions {
    /// Its name in `backup_label`.
    pub(crate) label: String,
    /// Whether the checkpoint that begins it is made at once, or spread over minutes.
    pub(crate) fast_checkpoint: bool,
    /// Most kilobytes a second, from 32 to 1,048,576.
    pub(crate) max_rate: Option<u32>,
}

/// A tablespace that a base backup brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tablespace {
    /// `None` of the data folder.
    pub(crate) oid: Option<u32>,
    /// Where it is on the server; empty of the data folder.
    pub(crate) location: String,
    /// Its size by the server's estimate, in bytes.
    pub(crate) bytes: u64,
}

/// A base backup on its way.
pub(crate) struct BaseBackup<'a> {
    session: &'a mut ReplicationSession,
    /// Where its log begins.
    pub(crate) start: Lsn,
    /// The timeline of that.
    pub(crate) timeline: u32,
    /// What it brings, the data folder last.
    pub(crate) tablespaces: Vec<Tablespace>,
    /// Until 14: the archives that are yet to come, each a copy of its own.
    copies: VecDeque<Option<u32>>,
    state: State,
    end: Option<(Lsn, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Outside of an archive.
    Between,
    Archive,
    Manifest,
}

/// What comes next of a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BaseBackupPart {
    /// The archive of a tablespace begins, of the data folder where it is `None`.
    Archive(Option<u32>),
    /// The manifest begins.
    Manifest,
    /// Bytes of the archive or manifest that began last.
    Data(Bytes),
    /// The server is alive: so many bytes of archives it has sent.
    Progress(u64),
    /// The server warns.
    Warning(String),
    /// All is there: where the log ends that is needed, and its timeline.
    End(Lsn, u32),
}

const DOING: &str = "reading the server's files";

impl BaseBackupOptions {
    fn command(&self, major: u32) -> String {
        let label = self.label.replace('\'', "''");
        if major < 15 {
            let fast = if self.fast_checkpoint { " FAST" } else { "" };
            let rate = self.max_rate.map(|rate| format!(" MAX_RATE {rate}")).unwrap_or_default();
            return format!(
                "BASE_BACKUP LABEL '{label}' PROGRESS{fast} NOWAIT{rate} \
                 NOVERIFY_CHECKSUMS MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
            );
        }
        let checkpoint = if self.fast_checkpoint { "fast" } else { "spread" };
        let rate = self.max_rate.map(|rate| format!(", MAX_RATE {rate}")).unwrap_or_default();
        format!(
            "BASE_BACKUP (LABEL '{label}', PROGRESS, CHECKPOINT '{checkpoint}', WAIT false{rate}, \
             VERIFY_CHECKSUMS false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"
        )
    }
}

impl ReplicationSession {
    /// Begins a base backup, once the server has made its checkpoint: that may take minutes,
    /// in which nothing comes.
    ///
    /// # Errors
    /// What the server says: no right to replicate, or as many senders as it may have.
    pub(crate) async fn base_backup(
        &mut self,
        options: &BaseBackupOptions,
    ) -> Result<BaseBackup<'_>, Failure> {
        self.command(&options.command(self.major), DOING).await?;
        let begun = self.result(DOING).await?;
        let (start, timeline) = begun.first().and_then(place).ok_or_else(|| odd(DOING))?;
        let tablespaces: Option<Vec<_>> =
            self.result(DOING).await?.into_iter().map(tablespace).collect();
        let tablespaces = tablespaces.ok_or_else(|| odd(DOING))?;
        let copies = tablespaces.iter().map(|tablespace| tablespace.oid).collect();
        let (state, end) = (State::Between, None);
        Ok(BaseBackup { session: self, start, timeline, tablespaces, copies, state, end })
    }

    /// The rows of one result; others follow it.
    async fn result(&mut self, doing: &str) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        loop {
            let message = self.next(doing).await?;
            match message.tag {
                b'D' => rows.push(row(message.body).map_err(|error| broken(&error, doing))?),
                b'C' => return Ok(rows),
                b'E' => return Err(self.refused(message, doing)?),
                b'T' | b'N' | b'S' => {}
                _ => return Err(odd(doing)),
            }
        }
    }
}

/// `recptr` and `tli`.
fn place(row: &Row) -> Option<(Lsn, u32)> {
    let value = |index: usize| row.get(index)?.as_deref();
    Some((value(0)?.parse().ok()?, value(1)?.parse().ok()?))
}

/// `spcoid`, `spclocation`, `size` in kilobytes.
fn tablespace(row: Row) -> Option<Tablespace> {
    let [oid, location, size] = <[Option<String>; 3]>::try_from(row).ok()?;
    let oid = oid.map(|oid| oid.parse()).transpose().ok()?;
    let kilobytes: u64 = size.unwrap_or_default().parse().unwrap_or(0);
    let location = location.unwrap_or_default();
    Some(Tablespace { oid, location, bytes: kilobytes.saturating_mul(1024) })
}

impl BaseBackup<'_> {
    /// What comes next. Behind [`BaseBackupPart::End`] there is nothing.
    ///
    /// # Errors
    /// What the server says; nothing that came counts then.
    pub(crate) async fn next(&mut self) -> Result<BaseBackupPart, Failure> {
        loop {
            let message = self.session.next(DOING).await?;
            match message.tag {
                b'E' => return Err(self.session.refused(message, DOING)?),
                b'N' => {
                    let notice = ServerError::of(message.body).map_err(lost)?;
                    return Ok(BaseBackupPart::Warning(notice.text));
                }
                b'H' if self.session.major < 15 => return self.next_copy(),
                b'd' => {
                    if let Some(part) = self.data(message)? {
                        return Ok(part);
                    }
                }
                b'c' => self.state = State::Between,
                b'D' => {
                    let row = row(message.body).map_err(lost)?;
                    self.end = Some(place(&row).ok_or_else(|| odd(DOING))?);
                }
                b'Z' => {
                    // Only this is success: a late error comes behind the row of the end.
                    let (end, timeline) = self.end.ok_or_else(|| odd(DOING))?;
                    return Ok(BaseBackupPart::End(end, timeline));
                }
                _ => {}
            }
        }
    }

    /// Until 14 each archive is a copy of its own, and the manifest is the last.
    fn next_copy(&mut self) -> Result<BaseBackupPart, Failure> {
        let part = match (self.copies.pop_front(), self.state) {
            (_, State::Archive | State::Manifest) => return Err(odd(DOING)),
            (Some(oid), State::Between) => {
                self.state = State::Archive;
                BaseBackupPart::Archive(oid)
            }
            (None, State::Between) => {
                self.state = State::Manifest;
                BaseBackupPart::Manifest
            }
        };
        Ok(part)
    }

    fn data(&mut self, message: Message) -> Result<Option<BaseBackupPart>, Failure> {
        let mut body = message.body;
        if self.session.major < 15 {
            return match self.state {
                State::Between => Err(odd(DOING)),
                _ => Ok((!body.is_empty()).then_some(BaseBackupPart::Data(body))),
            };
        }
        let kind = body.try_get_u8().map_err(|_| odd(DOING))?;
        let part = match (kind, self.state) {
            (b'n', _) => {
                let name = text(&mut body).map_err(lost)?;
                self.state = State::Archive;
                let oid = match name.strip_suffix(".tar") {
                    Some("base") => None,
                    Some(oid) => Some(oid.parse().map_err(|_| odd(DOING))?),
                    None => return Err(odd(DOING)),
                };
                BaseBackupPart::Archive(oid)
            }
            (b'm', _) => {
                self.state = State::Manifest;
                BaseBackupPart::Manifest
            }
            (b'd', State::Archive | State::Manifest) if body.is_empty() => return Ok(None),
            (b'd', State::Archive | State::Manifest) => BaseBackupPart::Data(body),
            (b'p', _) => BaseBackupPart::Progress(wide(&mut body).map_err(lost)?),
            _ => return Err(odd(DOING)),
        };
        Ok(Some(part))
    }
}

fn lost(error: WireError) -> Failure {
    match error {
        WireError::Malformed(_) => Failure::new(Reason::Internal, format!("{DOING}: {error}")),
        _ => broken(&error, DOING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_in_its_own_words() {
        let options = BaseBackupOptions {
            label: "it's ours".into(),
            fast_checkpoint: true,
            max_rate: Some(1024),
        };
        let old = options.command(14);
        assert!(
            old.starts_with("BASE_BACKUP LABEL 'it''s ours' PROGRESS FAST NOWAIT MAX_RATE 1024 ")
        );
        assert!(!old.contains('('));
        let new = BaseBackupOptions { fast_checkpoint: false, max_rate: None, ..options };
        let new = new.command(15);
        assert!(new.contains("CHECKPOINT 'spread', WAIT false, VERIFY_CHECKSUMS false"), "{new}");
    }
}
