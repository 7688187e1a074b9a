//! The collector: deletes what no snapshot uses, while others write and read, and
//! without a lock (`docs/format.md`, "Deleting").
//!
//! One call goes as far as it can and never waits: what it condemns is deleted by
//! a later one, when every session that was there in between is over. Calls may
//! be cut off anywhere, and several may run at once.

mod clock;
mod locks;
mod mark;
mod notes;
mod parts;
mod proof;
mod repack;
mod sessions;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use dbbackup_contract::SHORTEST_GRACE;
use dbbackup_storage::ErrorKind;

use self::clock::StoreClock;
use self::mark::Marked;
pub(crate) use self::notes::Absent;
use self::notes::{Blockers, Condemned, Parts, Verdict, note_name};
use self::parts::Stored;
use self::proof::{Proof, Shown};
use self::repack::Plan;
pub use self::repack::RepackOptions;
pub use self::sessions::Blocker;
use self::sessions::{Sessions, TRACES_STAY};
use crate::guards::{Guard, holds};
use crate::head::HeadObject;
use crate::keyring::sha256;
use crate::moves::Standing;
use crate::names::{BLOCKERS, CONDEMNED, PartName, SnapshotId, VERDICT};
use crate::repository::{Inner, Repository};
use crate::session::SessionKind;
use crate::{Error, ForgetReason, Result};

/// This collector, as `minCollector` of a config counts them.
const COLLECTOR: u32 = 0;
/// Listings may lag by so much, by assumption: S3, GCS and Azure list at once,
/// NFS within its attribute cache of a minute.
const LONGEST_LAG: Duration = Duration::from_secs(300);
const _: () = assert!(SHORTEST_GRACE.as_secs() >= 2 * LONGEST_LAG.as_secs());

/// How far a collection may go.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Time between a condemnation and the listing of sessions that may not have
    /// seen it, [`SHORTEST_GRACE`] at least.
    pub grace: Duration,
    /// Largest share of the stored bytes, in percent, that may go at once. What
    /// failed runs have left does not count.
    pub max_delete_percent: Option<u8>,
    /// The digest of a plan that may be carried out though it is larger.
    pub approved_plan: Option<String>,
    /// Finds out what is garbage, and writes nothing.
    pub dry_run: bool,
    /// Which packs are written anew without what nobody uses; none if absent.
    pub repack: Option<RepackOptions>,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            grace: SHORTEST_GRACE,
            max_delete_percent: None,
            approved_plan: None,
            dry_run: false,
            repack: None,
        }
    }
}

/// What a collection has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Bytes of all packs and meta objects, before anything was deleted.
    pub stored_bytes: u64,
    /// Packs and meta objects that were deleted.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs and meta objects that are condemned: the next collection deletes
    /// those of them that nobody has come to use. Of a dry run: that would be.
    pub condemned_objects: u64,
    /// Their bytes.
    pub condemned_bytes: u64,
    /// Sessions that have to end before what is condemned can be deleted.
    pub blockers: Vec<Blocker>,
    /// Ended sessions whose traces were removed.
    pub removed_sessions: u64,
    /// Bytes of packs whose blocks in use were moved to others: the next collections
    /// free them. Of a dry run: that would be.
    pub repacked_bytes: u64,
    /// Objects whose lock was extended, in stores that lock.
    pub extended_locks: u64,
}

impl Repository {
    /// The time by the store's clock: that of an object which is written for it, and
    /// deleted again.
    ///
    /// # Errors
    /// What the store says; the repository may be read only.
    pub async fn store_time(&self) -> Result<SystemTime> {
        let name = self.inner.begin_session(SessionKind::Collector).await?.0.session_name();
        let object = self.inner.store.head(&name).await.map_err(Error::needed);
        self.inner.store.delete(&name).await?;
        Ok(object?.modified)
    }

    /// Goes on with the collection as far as it can be gone now.
    ///
    /// # Errors
    /// `SnapshotsMissing` if somebody else has deleted snapshots; any reason for
    /// which a snapshot cannot be read; `TooMuchToDelete`. Nothing is deleted
    /// after any of them.
    pub async fn collect(&self, options: &CollectOptions) -> Result<CollectReport> {
        let mut report = CollectReport::default();
        self.collect_into(options, &mut report).await?;
        Ok(report)
    }

    /// [`Repository::collect`], and what was done is in `report` also where it fails: what
    /// is wrong with one repacking keeps nothing else from being freed.
    ///
    /// # Errors
    /// Those of [`Repository::collect`].
    pub async fn collect_into(
        &self,
        options: &CollectOptions,
        report: &mut CollectReport,
    ) -> Result<()> {
        let inner = &self.inner;
        if inner.min_collector > COLLECTOR {
            let detail = "a newer release's collector must be used for this repository";
            return Err(Error::VersionUnsupported(detail.into()));
        }
        let (session, _) = inner.begin_session(SessionKind::Collector).await?;
        let name = session.session_name();
        let clock = StoreClock::read(inner, &name).await.map_err(|error| match error {
            // Who stood still for a day was taken for dead, and tidied away.
            Error::Missing(_) => Error::Fenced(session.to_string()),
            error => error,
        })?;
        let mut collection = Collection { repository: self, options, clock, report, wrong: None };
        let done = collection.run().await;
        let wrong = collection.wrong;
        // One that dies leaves it; it counts for nothing, and goes a day later.
        inner.store.delete(&name).await?;
        done?;
        wrong.map_or(Ok(()), Err)
    }
}

struct Collection<'a> {
    repository: &'a Repository,
    options: &'a CollectOptions,
    clock: StoreClock,
    report: &'a mut CollectReport,
    /// What is wrong with a repacking. All that does not rely upon it goes on.
    wrong: Option<Error>,
}

/// A condemnation of which nothing is left to wait for.
struct Ripe {
    n: u32,
    condemned: Parts,
    blockers: BTreeSet<SnapshotId>,
    /// What was decided before, by who did not come to carry it out.
    verdict: Option<Verdict>,
}

impl Collection<'_> {
    async fn run(&mut self) -> Result<()> {
        let inner = &*self.repository.inner;
        if !self.options.dry_run {
            self.remove_heads(|id| !inner.is_repacking(id)).await?;
        }
        let mut ripe = Vec::new();
        let mut open = false;
        for n in inner.note_numbers(CONDEMNED).await? {
            if let Some(found) = self.ripen(n).await? {
                ripe.push(found);
            } else {
                open = true;
            }
        }
        let sessions = Sessions::list(inner, self.clock).await?;
        if !self.options.dry_run {
            sessions.fence_abandoned(inner).await?;
        }
        // Packs first: what comes into use while heads are read is not judged.
        let mut stored = Stored::list(inner).await?;
        self.report.stored_bytes = stored.bytes();
        let mut named = sessions.writers(inner);
        named.extend(ripe.iter().flat_map(|ripe| ripe.blockers.iter().cloned()));
        let marked = self.repository.mark(&named, self.clock).await?;
        if !self.options.dry_run {
            // First: what comes later may be refused, and locks must not run out for it.
            self.report.extended_locks = inner.extend_locks(&marked, self.clock).await?;
        }
        let proof = Proof::new(self.repository, &marked);
        for ripe in &ripe {
            open |= !self.judge(ripe, &marked, &proof, &mut stored).await?;
        }
        let superseded = marked.superseded();
        if !self.options.dry_run {
            let unneeded = self.unneeded(&superseded, &marked, &proof, &stored).await?;
            if !unneeded.is_empty() {
                self.remove_heads(|id| unneeded.contains(id)).await?;
            }
            self.let_moves_go(&unneeded, &marked).await?;
        }
        if open {
            return Ok(());
        }
        let unresolved = self.unresolved(&marked, &stored).await?;
        self.condemn(&marked, &stored, &unresolved).await?;
        if !self.options.dry_run {
            self.tidy(&marked, &sessions).await?;
        }
        // Nothing is copied on of which it is open who tells the truth.
        if let Some(options) = self.options.repack.as_ref().filter(|_| self.wrong.is_none()) {
            let plan = Plan::new(options, &marked, &superseded, &stored);
            self.report.repacked_bytes = plan.bytes();
            if !self.options.dry_run && !plan.is_empty() {
                self.report.repacked_bytes = self.repository.repack(&plan, &marked).await?;
            }
        }
        Ok(())
    }

    fn inner(&self) -> &Inner {
        &self.repository.inner
    }

    /// Removes the heads of snapshots that were let go and that nobody reads any
    /// more. Until then they count as in use. One of a repacking goes only where it is
    /// seen that nothing needs it, whoever has let it go.
    async fn remove_heads(&self, may_go: impl Fn(&SnapshotId) -> bool) -> Result<()> {
        let inner = self.inner();
        let mut decided = inner.decided_without_doubt().await?;
        decided.retain(may_go);
        if decided.is_empty() {
            return Ok(());
        }
        let there = inner.listed_heads().await?;
        let sessions = Sessions::list(inner, self.clock).await?;
        let reader = sessions.oldest_reader(inner).await?;
        let mut ids: Vec<_> = there.into_iter().map(|(id, _)| id).collect();
        ids.retain(|id| decided.contains(id));
        for id in ids {
            if let Some(since) = inner.forgotten_since(&id).await?
                && sessions.is_unread(since, reader)
                && matches!(inner.head_object(&id).await?, Some((HeadObject::Head(_), _)))
            {
                inner.store.delete(&id.head_name()).await?;
            }
        }
        Ok(())
    }

    /// Goes from a condemnation to the state in which a verdict can be given;
    /// `None` while that has to wait.
    async fn ripen(&mut self, n: u32) -> Result<Option<Ripe>> {
        let inner = &*self.repository.inner;
        let name = note_name::<Condemned>(n);
        let since = match inner.store.head(&name).await {
            Ok(object) => object.modified,
            // Another collector has carried it out.
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(condemned) = inner.read_note::<Condemned>(n).await? else { return Ok(None) };
        let grace = self.options.grace.max(SHORTEST_GRACE);
        let waits = holds(Guard::Grace) && self.clock.age(since) < grace;
        if self.options.dry_run || waits {
            self.report.condemned_objects += condemned.parts.len() as u64;
            return Ok(None);
        }
        let sessions = Sessions::list(inner, self.clock).await?;
        let names = sessions.writers(inner).iter().map(ToString::to_string).collect();
        let listed = Blockers { sessions: names, time: self.clock.now() };
        let Some(blockers) = inner.settle_note(n, listed).await? else { return Ok(None) };
        let mut named = BTreeSet::new();
        for session in &blockers.sessions {
            named.insert(SnapshotId::parse(session).map_err(|_| {
                Error::damaged(note_name::<Blockers>(n), "it names what is no session")
            })?);
        }
        // Who may have read `condemned/` before, whatever the note says.
        named.extend(sessions.writers_before(inner, since + LONGEST_LAG));
        let waiting = sessions.unresolved(inner, &named).await?;
        if !waiting.is_empty() && holds(Guard::Blockers) {
            self.report.condemned_objects += condemned.parts.len() as u64;
            self.report.blockers.extend(waiting);
            return Ok(None);
        }
        let verdict = inner.read_note::<Verdict>(n).await?;
        Ok(Some(Ripe { n, condemned: condemned.parts, blockers: named, verdict }))
    }

    /// Gives the verdict, and carries it out; of one that another has given, what this
    /// collection would say as well. Returns whether nothing is left to do.
    async fn judge(
        &mut self,
        ripe: &Ripe,
        marked: &Marked,
        proof: &Proof<'_>,
        stored: &mut Stored,
    ) -> Result<bool> {
        let mut verdict = Verdict::of(&ripe.condemned, marked, self.clock.now());
        if let Some(given) = &ripe.verdict {
            let given = given.delete.both(&ripe.condemned);
            verdict.delete = verdict.delete.both(&given);
            if verdict.delete != given && self.may_be_torn(ripe.n).await? {
                return Ok(false);
            }
        }
        let unproven = proof.of_packs(&verdict.delete).await?;
        unproven.packs.iter().for_each(|pack| verdict.spare(pack));
        self.wrong = self.wrong.take().or(unproven.wrong);
        let delete = verdict.delete.clone();
        self.refuse_too_much(&delete, marked, stored)?;
        if ripe.verdict.is_none() {
            let settled = self.inner().settle_note(ripe.n, verdict).await?;
            let settled = settled.ok_or_else(|| Error::Missing(note_name::<Verdict>(ripe.n)))?;
            // Another was quicker, by what it has read: the next collection carries it out.
            if settled.delete != delete {
                return Ok(false);
            }
        }
        self.report.deleted_bytes += stored.bytes_of(&delete, |_| true);
        self.carry_out(ripe.n, &delete).await?;
        stored.remove(&delete);
        Ok(true)
    }

    /// A verdict deletes what heads use that were read later. That is no collector's, unless
    /// this one has stood still while it read heads, and saw some of them as they were before
    /// and others as they were after something happened; or a head that was let go came back
    /// by a late write. For a day it waits for a collection that says the same. Then what
    /// is in use stays, and the rest goes.
    async fn may_be_torn(&self, n: u32) -> Result<bool> {
        let name = note_name::<Verdict>(n);
        let given = self.inner().store.head(&name).await.map_err(Error::needed)?.modified;
        tracing::warn!(verdict = name, "it deletes what snapshots use: that stays");
        Ok(self.clock.age(given) <= TRACES_STAY)
    }

    async fn carry_out(&mut self, n: u32, delete: &Parts) -> Result<()> {
        let inner = &*self.repository.inner;
        for pack in delete.packs.iter().filter_map(|name| PartName::parse(name)) {
            inner.store.delete(&pack.pack_object()).await?;
        }
        for meta in delete.metas.iter().filter_map(|name| PartName::parse(name)) {
            inner.store.delete(&meta.meta_object()).await?;
        }
        self.report.deleted_objects += delete.len() as u64;
        // What was condemned is absent for writers until nothing of it is left. The
        // verdict stays: a collector that was frozen must find it.
        inner.store.delete(&note_name::<Blockers>(n)).await?;
        Ok(inner.store.delete(&note_name::<Condemned>(n)).await?)
    }

    /// The repackings that may go: nothing is left of their old packs, neither in the store
    /// nor in the tables of heads, or later ones have moved everything on, and that was
    /// looked into. No head comes to name an old pack after its verdict: it was absent for
    /// every session that began later, and the heads of the others are among those that
    /// were read. Who has let one go is not asked: a decision may be anybody's.
    async fn unneeded(
        &mut self,
        superseded: &BTreeSet<SnapshotId>,
        marked: &Marked,
        proof: &Proof<'_>,
        stored: &Stored,
    ) -> Result<BTreeSet<SnapshotId>> {
        let mut unneeded = BTreeSet::new();
        for id in superseded {
            let Some(repacking) = marked.repackings.get(id) else { continue };
            let gone = repacking.moves.iter().all(|moved| stored.pack(&moved.pack).is_none());
            let is_ripe = gone && marked.settled.contains(id);
            let shown = match repacking.standing {
                Standing::Counts if !is_ripe => Shown::Not,
                Standing::Counts | Standing::LetGo => {
                    proof.of_repacking(repacking, |id| !superseded.contains(id)).await?
                }
                // Nobody knows what it should hold: it goes when nobody asks any more.
                Standing::WrittenOff => {
                    let wanted = repacking.moves.iter().any(|it| marked.wanted(it).is_some());
                    if is_ripe && !wanted { Shown::Well } else { Shown::Not }
                }
            };
            match shown {
                Shown::Well => _ = unneeded.insert(id.clone()),
                Shown::Wrong(error) => _ = self.wrong.get_or_insert(error),
                Shown::Not => {}
            }
        }
        Ok(unneeded)
    }

    async fn let_moves_go(&self, unneeded: &BTreeSet<SnapshotId>, marked: &Marked) -> Result<()> {
        for id in unneeded {
            if marked.repackings.get(id).is_none_or(|it| it.standing == Standing::LetGo) {
                continue;
            }
            let detail = "nothing is left of what it moved";
            match self.repository.forget(id, ForgetReason::Superseded, detail).await {
                // Another collector was quicker.
                Ok(()) | Err(Error::SnapshotNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sessions that have left something and may still commit.
    async fn unresolved(&self, marked: &Marked, stored: &Stored) -> Result<BTreeSet<SnapshotId>> {
        let mut unresolved = BTreeSet::new();
        for id in stored.sessions() {
            let resolved = marked.heads.contains_key(&id) || marked.tombstones.contains(&id);
            if resolved || self.inner().is_forgotten(&id).await? {
                continue;
            }
            // Its head may be younger than the listing, and a session's traces go
            // only when it is resolved.
            let over = self.inner().exists(&id.head_name()).await?
                || !self.inner().exists(&id.session_name()).await?;
            if !over {
                unresolved.insert(id);
            }
        }
        Ok(unresolved)
    }

    async fn condemn(
        &mut self,
        marked: &Marked,
        stored: &Stored,
        unresolved: &BTreeSet<SnapshotId>,
    ) -> Result<()> {
        let parts = stored.garbage(marked, unresolved);
        if parts.len() == 0 {
            return Ok(());
        }
        self.report.condemned_objects += parts.len() as u64;
        self.report.condemned_bytes += stored.bytes_of(&parts, |_| true);
        self.refuse_too_much(&parts, marked, stored)?;
        if !self.options.dry_run {
            let n = self.inner().next_note().await?;
            self.inner().settle_note(n, Condemned { parts, time: self.clock.now() }).await?;
        }
        Ok(())
    }

    /// Refuses a plan that is larger than allowed, unless it was approved.
    fn refuse_too_much(&self, delete: &Parts, marked: &Marked, stored: &Stored) -> Result<()> {
        let Some(limit) = self.options.max_delete_percent else { return Ok(()) };
        let all = stored.bytes().max(1);
        // What failed runs have left was never a backup's, and what was moved still is.
        let counts = |part: &PartName| {
            !marked.names_pack(part)
                && SnapshotId::parse(&part.session).is_ok_and(|id| !marked.tombstones.contains(&id))
        };
        let percent = (stored.bytes_of(delete, counts) * 100).div_ceil(all);
        let plan = plan_digest(delete);
        let approved = self.options.approved_plan.as_ref().is_some_and(|digest| *digest == plan);
        if percent <= u64::from(limit) || approved {
            return Ok(());
        }
        Err(Error::TooMuchToDelete { percent, limit, plan })
    }

    /// Remembers what was read, and removes what nobody needs any more.
    async fn tidy(&mut self, marked: &Marked, sessions: &Sessions) -> Result<()> {
        let inner = &*self.repository.inner;
        let n = inner.next_note().await?;
        self.repository.remember(n, marked, self.clock.now()).await?;
        let decided = inner.decided_without_doubt().await?;
        let over = |id: &SnapshotId| {
            marked.settled.contains(id) || decided.contains(id) && !marked.heads.contains_key(id)
        };
        self.report.removed_sessions = sessions.remove_traces(inner, over).await?;
        // Notes that a frozen collector has written behind the verdict.
        let verdicts = inner.note_numbers(VERDICT).await?;
        for n in inner.note_numbers(BLOCKERS).await?.intersection(&verdicts) {
            inner.store.delete(&note_name::<Blockers>(*n)).await?;
        }
        Ok(())
    }
}

/// A digest of what a plan deletes, for people who approve of it.
fn plan_digest(delete: &Parts) -> String {
    let mut text = String::new();
    for (folder, names) in [("packs", &delete.packs), ("meta", &delete.metas)] {
        for name in names {
            text.push_str(folder);
            text.push('/');
            text.push_str(name);
            text.push('\n');
        }
    }
    let digest = data_encoding::HEXLOWER.encode(&sha256(text.as_bytes()));
    format!("sha256:{digest}")
}
