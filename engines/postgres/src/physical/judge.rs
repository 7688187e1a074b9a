//! Which of the pages with wrong checksums are damaged.
//!
//! A page that is written while it is read may arrive half old, half new. Since the checkpoint
//! with which the base began, the first change of each page has put the whole of it into the
//! log, and recovery lays that over whatever stands there. So a page is damaged if the log does not
//! hold it whole, or if it claims to be of a time behind the base's end.

use std::collections::BTreeMap;

use dbbackup_contract::{DatabaseOutcome, DatabaseReport, Failure, Reason};

use crate::base::page_watch::Suspect;
use crate::base::relation_file::{Fork, RelationFile};
use crate::base::whole_pages::WholePages;
use crate::lsn::Lsn;

/// Files that a message names.
const NAMED: usize = 5;

/// Leaves the damaged ones. The free space map is none: what of it is torn the server builds anew.
pub(super) fn damaged(suspects: Vec<Suspect>, log: &WholePages, end: Lsn) -> Vec<Suspect> {
    let is_whole =
        |page: &Suspect| page.lsn <= end && log.contains(page.relation, page.fork, page.page);
    let is_damage = |page: &Suspect| page.fork != Fork::FreeSpace && !is_whole(page);
    suspects.into_iter().filter(is_damage).collect()
}

/// One report for each database, with its bytes; `damaged` fails those that it concerns. What
/// all databases share concerns each of them.
pub(super) fn reports<'a>(
    databases: &BTreeMap<u32, String>,
    files: impl Iterator<Item = (&'a String, u64)>,
    damaged: &[Suspect],
) -> Vec<DatabaseReport> {
    let mut bytes = BTreeMap::<u32, u64>::new();
    for (path, length) in files {
        if let Some(file) = RelationFile::of_path(path) {
            *bytes.entry(file.relation.database).or_default() += length;
        }
    }
    let reports = databases.iter().map(|(oid, name)| {
        let own = damaged.iter().filter(|page| [0, *oid].contains(&page.relation.database));
        let own: Vec<_> = own.collect();
        let outcome =
            if own.is_empty() { DatabaseOutcome::Succeeded } else { DatabaseOutcome::Failed };
        let mut report = DatabaseReport::new(name, outcome);
        report.bytes = bytes.get(oid).copied().unwrap_or(0);
        report.error = (!own.is_empty()).then(|| failure(&own));
        report
    });
    reports.collect()
}

fn failure(damaged: &[&Suspect]) -> Failure {
    let mut by_file = BTreeMap::<&str, Vec<u32>>::new();
    for page in damaged {
        by_file.entry(&page.path).or_default().push(page.page);
    }
    let mut named: Vec<_> = by_file
        .iter()
        .take(NAMED)
        .map(|(path, pages)| match pages[..] {
            [page] => format!("page {page} of {path}"),
            _ => format!("{} pages of {path}, the first one {}", pages.len(), pages[0]),
        })
        .collect();
    if by_file.len() > NAMED {
        named.push(format!("and {} more files", by_file.len() - NAMED));
    }
    let message = format!("damaged on the server, and so in this backup: {}", named.join("; "));
    Failure::new(Reason::DataCorrupted, message).with_hint(
        "SELECT pg_filenode_relation(0, NUMBER) in that database names the table or index: an index can be built anew \
         (REINDEX), rows have to come from an older backup. Do not delete older backups.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::relation_file::RelationId;

    fn page(database: u32, fork: Fork, number: u32, lsn: u64) -> Suspect {
        let relation = RelationId { tablespace: 1663, database, number: 20_000 };
        let path = format!("base/{database}/20000");
        Suspect { path, relation, fork, page: number, lsn: Lsn(lsn) }
    }

    #[test]
    fn a_page_that_the_log_holds_whole_is_no_damage_unless_it_is_of_the_future() {
        let mut log = WholePages::default();
        for number in [1, 2] {
            log.insert(page(5, Fork::Main, number, 0).relation, Fork::Main, number);
        }
        let suspects = vec![
            page(5, Fork::Main, 1, 100),
            page(5, Fork::Main, 2, 101),
            page(5, Fork::Main, 3, 100),
            page(5, Fork::Visibility, 1, 100),
            page(5, Fork::FreeSpace, 1, 100),
        ];
        let left = damaged(suspects, &log, Lsn(100));
        let left: Vec<_> = left.iter().map(|page| (page.fork, page.page)).collect();
        assert_eq!(left, [(Fork::Main, 2), (Fork::Main, 3), (Fork::Visibility, 1)]);
    }

    #[test]
    fn damage_fails_the_database_that_it_is_in_and_what_is_shared_fails_all() {
        let databases = BTreeMap::from([(5, "shop".to_owned()), (6, "crm".to_owned())]);
        let files = [("base/5/20000".to_owned(), 8192), ("base/5/1259".to_owned(), 100)];
        let files = || files.iter().map(|(path, bytes)| (path, *bytes));
        let own = [page(5, Fork::Main, 7, 1), page(5, Fork::Main, 9, 1)];
        let told = reports(&databases, files(), &own);
        assert_eq!((told[0].bytes, told[0].outcome), (8292, DatabaseOutcome::Failed));
        let error = told[0].error.as_ref().unwrap();
        assert!(error.message.ends_with("2 pages of base/5/20000, the first one 7"), "{error}");
        assert_eq!(told[1].outcome, DatabaseOutcome::Succeeded);
        let told = reports(&databases, files(), &[page(0, Fork::Main, 1, 1)]);
        assert!(told.iter().all(|report| report.outcome == DatabaseOutcome::Failed));
    }
}
