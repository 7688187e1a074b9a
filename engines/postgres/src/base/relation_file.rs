//! Which files of a data folder hold pages of relations, by their names
//! (`src/common/relpath.c`, and `sendDir` of `src/backend/backup/basebackup.c`).

/// Bytes of a page. Other sizes need a server that was built for them.
pub(crate) const PAGE_BYTES: usize = 8192;
/// Pages of a segment: a gigabyte.
pub(crate) const SEGMENT_PAGES: u32 = 131_072;

/// What a relation's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fork {
    /// Rows, or an index.
    Main,
    /// The free space map: what of it is torn is built anew.
    FreeSpace,
    /// The visibility map.
    Visibility,
    /// What an unlogged relation begins with after a crash.
    Initial,
}

/// A relation, as the log and the file system name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RelationId {
    /// Of its tablespace: 1663 of `base`, 1664 of `global`.
    pub(crate) tablespace: u32,
    /// Of its database; 0 of what all share.
    pub(crate) database: u32,
    /// Its file's number.
    pub(crate) number: u32,
}

/// A segment of a fork of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelationFile {
    pub(crate) relation: RelationId,
    pub(crate) fork: Fork,
    /// From 0 on.
    pub(crate) segment: u32,
}

/// OID of the tablespace `pg_default`.
const DEFAULT_TABLESPACE: u32 = 1663;
/// OID of the tablespace `pg_global`.
const GLOBAL_TABLESPACE: u32 = 1664;

impl RelationFile {
    /// Reads `base/16384/1259_vm.1`, `global/1260`, or `pg_tblspc/16400/PG_17_202406281/16384/1259`.
    /// `None` of all other files, such as `base/1/pg_filenode.map` and temporary ones.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (tablespace, database) = match parts.next()? {
            "base" => (DEFAULT_TABLESPACE, oid(parts.next()?)?),
            "global" => (GLOBAL_TABLESPACE, 0),
            "pg_tblspc" => {
                let tablespace = oid(parts.next()?)?;
                parts.next().filter(|version| version.starts_with("PG_"))?;
                (tablespace, oid(parts.next()?)?)
            }
            _ => return None,
        };
        let name = parts.next()?;
        if parts.next().is_some() {
            return None;
        }
        let (name, segment) = match name.split_once('.') {
            // The first has none.
            Some((name, segment)) => (name, oid(segment)?),
            None => (name, 0),
        };
        let (number, fork) = match name.split_once('_') {
            Some((number, "fsm")) => (number, Fork::FreeSpace),
            Some((number, "vm")) => (number, Fork::Visibility),
            Some((number, "init")) => (number, Fork::Initial),
            Some(_) => return None,
            None => (name, Fork::Main),
        };
        let relation = RelationId { tablespace, database, number: oid(number)? };
        Some(Self { relation, fork, segment })
    }

    /// The number of the file's first page within its fork. `None` where the file's number
    /// is none that a fork can have.
    pub(crate) fn first_page(self) -> Option<u32> {
        self.segment.checked_mul(SEGMENT_PAGES)
    }
}

/// A positive number without leading zeros, as OIDs and segments are written.
fn oid(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tablespace: u32, database: u32, number: u32, fork: Fork, segment: u32) -> RelationFile {
        RelationFile { relation: RelationId { tablespace, database, number }, fork, segment }
    }

    #[test]
    fn relations_are_known_by_their_names_alone() {
        for (path, expected) in [
            ("base/5/1259", Some(file(1663, 5, 1259, Fork::Main, 0))),
            ("base/5/1259_fsm", Some(file(1663, 5, 1259, Fork::FreeSpace, 0))),
            ("base/16384/16385_vm.1", Some(file(1663, 16384, 16385, Fork::Visibility, 1))),
            ("base/16384/16385_init", Some(file(1663, 16384, 16385, Fork::Initial, 0))),
            ("base/16384/16385.12", Some(file(1663, 16384, 16385, Fork::Main, 12))),
            ("global/1260", Some(file(1664, 0, 1260, Fork::Main, 0))),
            (
                "pg_tblspc/16400/PG_17_202406281/16384/16385_vm",
                Some(file(16400, 16384, 16385, Fork::Visibility, 0)),
            ),
            ("global/pg_control", None),
            ("base/5/PG_VERSION", None),
            ("base/5/pg_filenode.map", None),
            ("base/5/t3_16385", None),
            ("base/5/16385_other", None),
            ("base/5/16385.x", None),
            ("base/5/16385.0", None),
            ("base/5/016385", None),
            ("base/5/-1", None),
            ("base/5", None),
            ("base/5/16385/1", None),
            ("base/pgsql_tmp/1", None),
            ("pg_tblspc/16400/16384/16385", None),
            ("pg_xact/0000", None),
        ] {
            assert_eq!(RelationFile::of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn pages_are_counted_over_all_segments() {
        let first = |path| RelationFile::of_path(path).and_then(RelationFile::first_page);
        assert_eq!(first("base/5/16385"), Some(0));
        assert_eq!(first("base/5/16385.2"), Some(262_144));
        assert_eq!(first("base/5/16385.40000"), None);
    }
}
