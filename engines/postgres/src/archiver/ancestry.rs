//! The history of a timeline: which it came from, and where
//! (`src/backend/access/transam/timeline.c`).

use crate::lsn::Lsn;

/// The timelines that one came from, the oldest first, each with the position at which the next
/// one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ancestry(Vec<(u32, Lsn)>);

impl Ancestry {
    /// Reads a history: lines of a timeline, a position and a reason. What is none is skipped, as
    /// the server does.
    pub(crate) fn read(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Of the history of the timeline `own`: the one that followed `timeline`, and where. `None` where
    /// `own` does not come from it.
    pub(crate) fn after(&self, timeline: u32, own: u32) -> Option<(u32, Lsn)> {
        let index = self.0.iter().position(|(parent, _)| *parent == timeline)?;
        let next = self.0.get(index + 1).map_or(own, |(next, _)| *next);
        Some((next, self.0[index].1))
    }

    /// Where `timeline` was left for the next one; `None` where it is none of them.
    pub(crate) fn end_of(&self, timeline: u32) -> Option<Lsn> {
        self.0.iter().find(|(parent, _)| *parent == timeline).map(|(_, end)| *end)
    }

    /// The first of all.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.0.first().map(|(oldest, _)| *oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_followed_whom_and_where() {
        let text = "1\t0/3000060\tno recovery target specified\n\n# a comment\n3\t0/5000000\tbefore 2026-11-30\n";
        let ancestry = Ancestry::read(text);
        let lsn = |text: &str| text.parse().unwrap();
        assert_eq!(ancestry.after(1, 4), Some((3, lsn("0/3000060"))));
        assert_eq!(ancestry.after(3, 4), Some((4, lsn("0/5000000"))));
        assert_eq!(ancestry.after(2, 4), None);
        assert_eq!(Ancestry::read("").after(1, 2), None);
        assert_eq!(
            [1, 2, 3].map(|timeline| ancestry.end_of(timeline)),
            [Some(lsn("0/3000060")), None, Some(lsn("0/5000000")),]
        );
        assert_eq!([&ancestry, &Ancestry::read("")].map(Ancestry::oldest), [Some(1), None]);
    }
}
