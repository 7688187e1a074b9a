//! The journal of a restore: from what is seen on the server to the next step.
//!
//! The journal is written nowhere but on the server itself: which databases
//! exist, and what their comments say. Each step leaves a state that tells it
//! apart from the one before, so that an attempt that was killed anywhere is
//! taken up by the next one:
//!
//! | seen | next |
//! |---|---|
//! | nothing | create the scratch database, its connection limit a number made from the request |
//! | scratch with that number, no comment | mark it by its comment: `… loading` |
//! | scratch `loading`, created by this attempt | load it, compare it, mark it `… loaded` |
//! | scratch `loading`, left by an earlier attempt | drop it |
//! | scratch that was being dropped when the server stopped | drop it |
//! | scratch `loaded` | give it its properties, rename it |
//! | scratch `loaded`, and a target that it replaces | its properties; then both names in one transaction |
//! | target with the request's mark, and what it has replaced is not to be kept | drop that |
//! | target with the request's mark | done |
//!
//! `CREATE DATABASE` cannot set a comment, and no transaction holds both; the
//! connection limit is what it can set, so a database is never without a mark.
//! The rename carries the comment along: the target is known as ours until the
//! outcome was reported, and only then does its own comment take the mark's
//! place ([`crate::settle`]). Renames and comments, unlike creations and drops, can be
//! done in a transaction: a target that is replaced is there under its name at
//! every moment, as it was or as it is restored.

/// Connection limit of a database whose drop was cut; nothing but another drop
/// is possible with it (`DATCONNLIMIT_INVALID_DB` in the server's `pg_database.h`).
const HALF_DROPPED: i64 = -2;

/// A database, as far as the journal reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) comment: Option<String>,
    pub(super) connection_limit: i64,
}

/// Marks of one database of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// Comment while it is loaded.
    pub(super) loading: String,
    /// Comment once it is loaded and compared.
    pub(super) loaded: String,
    /// Connection limit with which it is created.
    pub(super) connection_limit: i64,
    /// Comment of what it has replaced, where that is not kept.
    pub(super) replaced: String,
    /// Beginning and end of the comment of what the request has put in place, whichever
    /// snapshot it was of: a request that is created anew may take a newer one.
    pub(super) placed: (String, String),
}

impl Marks {
    /// Whether a database under the target's name was put there by the request.
    pub(super) fn is_placed(&self, seen: &Seen) -> bool {
        let (beginning, end) = &self.placed;
        let comment = seen.comment.as_deref().unwrap_or_default();
        comment.starts_with(beginning.as_str()) && comment.ends_with(end.as_str())
    }
}

/// What is seen on the server of one database of a restore.
#[derive(Clone, Debug, Default)]
pub(super) struct Situation {
    /// Under the scratch name.
    pub(super) scratch: Option<Seen>,
    /// Under the target's name.
    pub(super) target: Option<Seen>,
    /// Under the name that what is replaced gets.
    pub(super) replaced: Option<Seen>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Create the scratch database.
    Create,
    /// Mark the scratch database as ours by its comment.
    MarkLoading,
    /// Drop the scratch database that an earlier attempt left.
    DropScratch,
    /// Load the scratch database, compare it, mark it as loaded.
    Load,
    /// Give the scratch database its properties and rename it.
    Place,
    /// Give the scratch database its properties, and rename it and the target at once.
    Replace,
    /// Drop what was replaced.
    DropReplaced,
    /// It is in place.
    Done,
}

/// Why there is no next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The target exists and is not of this request.
    TargetExists,
    /// The scratch database exists and is not of this request.
    ScratchNotOurs,
    /// The name that what is replaced should get is taken.
    KeptNameTaken,
}

/// The next step, from what is seen; `replaces` says whether a database under the target's name
/// gives way, or refuses the restore.
pub(super) fn next_step(
    seen: &Situation,
    replaces: bool,
    marks: &Marks,
    created_by_this_attempt: bool,
) -> Result<Step, Refusal> {
    let (scratch, target) = (seen.scratch.as_ref(), seen.target.as_ref());
    let replaced = seen.replaced.as_ref();
    let commented = |seen: &Seen, mark: &str| seen.comment.as_deref() == Some(mark);
    // A target with the mark came from a rename: it is whole.
    if target.is_some_and(|target| marks.is_placed(target)) {
        return match (scratch, replaced) {
            (Some(scratch), _) if is_ours(scratch, marks) => Ok(Step::DropScratch),
            (_, Some(replaced)) if commented(replaced, &marks.replaced) => Ok(Step::DropReplaced),
            _ => Ok(Step::Done),
        };
    }
    if scratch.is_some_and(|scratch| !is_ours(scratch, marks)) {
        return Err(Refusal::ScratchNotOurs);
    }
    let refusal = if target.is_some() && !replaces {
        Some(Refusal::TargetExists)
    } else {
        // Also where there is nothing to rename: it would be told as what was replaced.
        replaced.map(|_| Refusal::KeptNameTaken)
    };
    match (scratch, refusal) {
        // Nobody will ever rename it; what is ours is cleaned up.
        (Some(_), Some(_)) => Ok(Step::DropScratch),
        (None, Some(refusal)) => Err(refusal),
        (None, None) => Ok(Step::Create),
        (Some(scratch), None) if scratch.connection_limit == HALF_DROPPED => Ok(Step::DropScratch),
        (Some(scratch), None) if commented(scratch, &marks.loaded) => {
            Ok(if target.is_some() { Step::Replace } else { Step::Place })
        }
        (Some(scratch), None) if !commented(scratch, &marks.loading) => Ok(Step::MarkLoading),
        (Some(_), None) if created_by_this_attempt => Ok(Step::Load),
        (Some(_), None) => Ok(Step::DropScratch),
    }
}

/// Whether a database under the scratch name was made by this request.
fn is_ours(seen: &Seen, marks: &Marks) -> bool {
    match &seen.comment {
        Some(comment) => *comment == marks.loading || *comment == marks.loaded,
        None => seen.connection_limit == marks.connection_limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        Marks {
            loading: "u: loading".into(),
            loaded: "u: loaded".into(),
            connection_limit: 1_234,
            replaced: "u: replaced".into(),
            placed: ("u".into(), ": loaded".into()),
        }
    }

    fn seen(comment: Option<&str>) -> Seen {
        Seen { comment: comment.map(str::to_owned), connection_limit: 1_234 }
    }

    fn foreign() -> Seen {
        Seen { comment: None, connection_limit: -1 }
    }

    /// What becomes of a database under the target's name.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Existing {
        Refuses,
        IsKept,
        IsDropped,
    }

    /// A server that does what a step says.
    #[derive(Clone, Debug)]
    struct Model {
        existing: Existing,
        scratch: Option<Seen>,
        target: Option<Seen>,
        replaced: Option<Seen>,
        loads: u32,
    }

    impl Model {
        fn empty(existing: Existing) -> Self {
            Self { existing, scratch: None, target: None, replaced: None, loads: 0 }
        }

        fn next(&self, created: bool) -> Result<Step, Refusal> {
            let situation = Situation {
                scratch: self.scratch.clone(),
                target: self.target.clone(),
                replaced: self.replaced.clone(),
            };
            next_step(&situation, self.existing != Existing::Refuses, &marks(), created)
        }

        fn apply(&mut self, step: Step) {
            match step {
                Step::Create => self.scratch = Some(seen(None)),
                Step::MarkLoading => self.scratch = Some(seen(Some("u: loading"))),
                Step::DropScratch => self.scratch = None,
                Step::Load => {
                    self.loads += 1;
                    self.scratch = Some(seen(Some("u: loaded")));
                }
                Step::Place => {
                    assert!(self.target.is_none(), "a rename never takes a name that is taken");
                    self.target = self.scratch.take();
                }
                Step::Replace => {
                    assert!(self.replaced.is_none(), "nor does this one");
                    self.replaced = self.target.take();
                    if self.existing == Existing::IsDropped
                        && let Some(replaced) = &mut self.replaced
                    {
                        replaced.comment = Some("u: replaced".into());
                    }
                    self.target = self.scratch.take();
                }
                Step::DropReplaced => {
                    assert_eq!(self.target, Some(seen(Some("u: loaded"))));
                    self.replaced = None;
                }
                Step::Done => {}
            }
        }

        /// One attempt that is killed after so many steps.
        fn attempt(&mut self, steps: usize) -> Option<Result<(), Refusal>> {
            let mut created = false;
            for _ in 0..steps {
                match self.next(created) {
                    Err(refusal) => return Some(Err(refusal)),
                    Ok(Step::Done) => return Some(Ok(())),
                    Ok(step) => {
                        created |= step == Step::Create;
                        self.apply(step);
                    }
                }
            }
            None
        }
    }

    #[test]
    fn an_attempt_that_is_killed_anywhere_is_taken_up_by_the_next() {
        let kept = Some(foreign());
        for (existing, target, replaced) in [
            (Existing::Refuses, None, None),
            (Existing::IsKept, None, None),
            (Existing::IsKept, Some(foreign()), kept),
            (Existing::IsDropped, Some(foreign()), None),
        ] {
            for first in 0..8 {
                for second in 0..8 {
                    let mut model = Model { target: target.clone(), ..Model::empty(existing) };
                    model.attempt(first);
                    model.attempt(second);
                    assert_eq!(model.attempt(20), Some(Ok(())), "after {first} and {second}");
                    assert!(model.scratch.is_none());
                    assert_eq!(model.target, Some(seen(Some("u: loaded"))));
                    assert_eq!(model.replaced, replaced);
                    assert!(model.loads <= 2);
                }
            }
        }
    }

    #[test]
    fn what_was_loaded_is_not_loaded_again() {
        let scratch = Some(seen(Some("u: loaded")));
        let mut model = Model { scratch, ..Model::empty(Existing::Refuses) };
        assert_eq!(model.attempt(20), Some(Ok(())));
        assert_eq!(model.loads, 0);
    }

    #[test]
    fn what_was_half_dropped_is_dropped_and_made_again() {
        for comment in ["u: loading", "u: loaded"] {
            let half = Seen { connection_limit: HALF_DROPPED, ..seen(Some(comment)) };
            let mut model = Model { scratch: Some(half), ..Model::empty(Existing::IsKept) };
            assert_eq!(model.attempt(20), Some(Ok(())));
            assert_eq!(model.loads, 1);
        }
    }

    #[test]
    fn nothing_foreign_is_ever_touched() {
        let other = seen(Some("v: loading"));
        for existing in [Existing::Refuses, Existing::IsKept, Existing::IsDropped] {
            for scratch in [foreign(), other.clone()] {
                let model = Model { scratch: Some(scratch), ..Model::empty(existing) };
                assert_eq!(model.next(false), Err(Refusal::ScratchNotOurs));
            }
        }
        let model = Model { target: Some(foreign()), ..Model::empty(Existing::Refuses) };
        assert_eq!(model.next(false), Err(Refusal::TargetExists));
        // Somebody made the target while we loaded: ours is dropped, theirs stays.
        let mut model = Model { scratch: Some(seen(Some("u: loaded"))), ..model };
        assert_eq!(model.attempt(20), Some(Err(Refusal::TargetExists)));
        assert_eq!((model.scratch, model.target), (None, Some(foreign())));
        // Somebody has taken the name that the target should get.
        let taken = Some(foreign());
        let mut model = Model {
            scratch: Some(seen(Some("u: loaded"))),
            target: Some(foreign()),
            replaced: taken.clone(),
            ..Model::empty(Existing::IsKept)
        };
        assert_eq!(model.attempt(20), Some(Err(Refusal::KeptNameTaken)));
        assert_eq!((model.scratch, model.replaced), (None, taken));
    }

    #[test]
    fn what_was_replaced_and_has_no_mark_stays() {
        let target = Some(seen(Some("u: loaded")));
        let kept = Some(foreign());
        for existing in [Existing::IsKept, Existing::IsDropped] {
            let (target, replaced) = (target.clone(), kept.clone());
            let mut model = Model { target, replaced, ..Model::empty(existing) };
            assert_eq!(model.attempt(20), Some(Ok(())));
            assert_eq!(model.replaced, kept);
        }
    }
}
