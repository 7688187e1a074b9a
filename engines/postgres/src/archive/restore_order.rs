//! In which order a stored archive is restored: before its data, its data, after it.
//!
//! `pg_restore` restores an archive in the order of its table of contents, with
//! privileges at the end, then event triggers, then the contents of
//! materialised views. Two things make us give it three lists instead
//! (`--use-list`), which together are that order, but for the last step:
//!
//! - An event trigger may forbid, or do anything upon, `REFRESH MATERIALIZED
//!   VIEW`. Event triggers come last, and then nothing is left that fires them.
//! - Rows are checked by functions that may need the `search_path` of the
//!   database, and only while rows are loaded is it safe to have one.

use bytes::Bytes;

use super::ArchiveError;
use super::entries::{EntryReader, Part};
use super::prelude::Entry;

/// `SECTION_PRE_DATA`, `SECTION_DATA`, `SECTION_POST_DATA` of `pg_backup.h`.
const SECTIONS: [(i64, Phase); 3] =
    [(2, Phase::BeforeData), (3, Phase::Data), (4, Phase::AfterData)];

/// A part of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Whatever must be there before rows are.
    BeforeData,
    /// Rows, values of sequences, large objects.
    Data,
    /// Indexes, constraints, triggers, privileges, contents of materialised
    /// views, event triggers.
    AfterData,
}

/// All of them, in order.
pub(crate) const PHASES: [Phase; 3] = [Phase::BeforeData, Phase::Data, Phase::AfterData];

/// Numbers of entries by phase, each list in the order of the restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestoreOrder {
    before: Vec<i64>,
    data: Vec<i64>,
    after: Vec<i64>,
}

impl RestoreOrder {
    /// The list of a phase, as `pg_restore --use-list` reads it.
    pub(crate) fn list(&self, phase: Phase) -> String {
        let numbers = match phase {
            Phase::BeforeData => &self.before,
            Phase::Data => &self.data,
            Phase::AfterData => &self.after,
        };
        numbers.iter().fold(String::new(), |mut list, number| {
            list.push_str(&number.to_string());
            list.push_str(";\n");
            list
        })
    }
}

/// Reads a prelude as it streams, the date in its place.
#[derive(Debug, Default)]
pub(crate) struct RestoreOrderReader {
    reader: EntryReader,
    entries: Vec<Ordered>,
}

/// An entry, as far as the order depends on it.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    dump_id: i64,
    section: i64,
    pass: Pass,
}

/// `RestorePass` of `pg_backup_archiver.h`, and the event triggers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Main,
    Privileges,
    EventTriggers,
}

impl RestoreOrderReader {
    /// Takes the next bytes, of any length; of the entries only those that `is_wanted`.
    pub(crate) fn push(
        &mut self,
        bytes: &Bytes,
        is_wanted: impl Fn(i64) -> bool,
    ) -> Result<(), ArchiveError> {
        self.reader.push(bytes, |part| {
            if let Part::Entry(_, entry) = part
                && is_wanted(entry.dump_id)
            {
                let (dump_id, section) = (entry.dump_id, entry.section);
                self.entries.push(Ordered { dump_id, section, pass: pass_of(entry) });
            }
            Ok(())
        })
    }

    /// The prelude has ended.
    pub(crate) fn finish(self) -> Result<RestoreOrder, ArchiveError> {
        self.reader.finish()?;
        Ok(in_order(&self.entries))
    }
}

fn in_order(entries: &[Ordered]) -> RestoreOrder {
    let mut order = RestoreOrder::default();
    let of = |pass| entries.iter().filter(move |entry| entry.pass == pass);
    // What belongs to no section (comments) stands beside what it belongs to.
    let mut phase = Phase::BeforeData;
    for entry in of(Pass::Main) {
        let own = SECTIONS.iter().find(|(section, _)| *section == entry.section);
        phase = own.map_or(phase, |(_, phase)| *phase);
        let list = match phase {
            Phase::BeforeData => &mut order.before,
            Phase::Data => &mut order.data,
            Phase::AfterData => &mut order.after,
        };
        list.push(entry.dump_id);
    }
    order.after.extend(of(Pass::Privileges).map(|entry| entry.dump_id));
    order.after.extend(of(Pass::EventTriggers).map(|entry| entry.dump_id));
    order
}

fn pass_of(entry: &Entry<'_>) -> Pass {
    match entry.description.as_str() {
        "ACL" | "ACL LANGUAGE" | "DEFAULT ACL" => Pass::Privileges,
        "EVENT TRIGGER" => Pass::EventTriggers,
        "COMMENT" | "SECURITY LABEL" if entry.tag.starts_with(b"EVENT TRIGGER ") => {
            Pass::EventTriggers
        }
        _ => Pass::Main,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_come_after_everything_and_event_triggers_after_these() {
        const NONE: i64 = 1;
        let [before, data, after] = SECTIONS.map(|(section, _)| section);
        let entries = [
            (9, before, Pass::Privileges),
            (1, before, Pass::Main),
            (2, NONE, Pass::Main),
            (8, after, Pass::EventTriggers),
            (7, NONE, Pass::EventTriggers),
            (3, data, Pass::Main),
            (4, NONE, Pass::Main),
            (5, after, Pass::Main),
            (6, NONE, Pass::Main),
        ];
        let entries = entries.map(|(dump_id, section, pass)| Ordered { dump_id, section, pass });
        let order = in_order(&entries);
        let lists = PHASES.map(|phase| order.list(phase));
        assert_eq!(lists, ["1;\n2;\n", "3;\n4;\n", "5;\n6;\n9;\n8;\n7;\n"]);
    }
}
