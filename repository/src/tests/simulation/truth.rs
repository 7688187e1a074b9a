//! What must hold after every step, judged by what is really stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::block_set::BlockSet;
use crate::envelope::{Kind, open_object};
use crate::head::{Head, HeadObject};
use crate::keyring::Keyring;
use crate::names::{DECISIONS, MARKS, SNAPSHOTS};
use crate::piece::{Place, decode_piece};
use crate::tables::parse_packs;

/// Steps that are told when something is wrong.
const REMEMBERED: usize = 4000;

/// What a snapshot needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    metas: BTreeSet<String>,
    /// Blocks of packs, by the object's name.
    packs: BTreeMap<String, BlockSet>,
    /// Of a repacking: a pack, where blocks of it are now, and which.
    moves: Vec<(String, String, BlockSet)>,
}

impl Needs {
    pub(super) fn is_repacking(&self) -> bool {
        !self.moves.is_empty()
    }

    /// The packs that it moved blocks of.
    pub(super) fn moves(&self) -> impl Iterator<Item = &String> {
        self.moves.iter().map(|(pack, ..)| pack)
    }

    pub(super) fn packs(&self) -> impl Iterator<Item = (&String, &BlockSet)> {
        self.packs.iter()
    }
}

/// The snapshots as they are, and what processes were told of them.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// What each head needs that is there.
    heads: BTreeMap<String, Needs>,
    forgotten: BTreeSet<String>,
    pinned: BTreeSet<String>,
    /// Snapshots of which a writer was told that they are committed.
    pub(super) promised: BTreeSet<String>,
    /// Snapshots of which a person was told that they are pinned.
    promised_pins: BTreeSet<String>,
    /// Heads that the collectors know, by the number of the note.
    known: BTreeMap<u32, BTreeSet<String>>,
    /// What the heads need that an attacker has deleted.
    stolen: BTreeMap<String, Needs>,
    /// Attempts of each run that have committed.
    attempts: BTreeMap<String, BTreeSet<String>>,
    pub(super) violation: Option<String>,
    steps: VecDeque<String>,
}

impl Truth {
    pub(super) fn note(&mut self, step: String) {
        if self.steps.len() == REMEMBERED {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub(super) fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            let steps: Vec<_> = self.steps.iter().map(String::as_str).collect();
            self.violation = Some(format!("{what}\n  {}", steps.join("\n  ")));
        }
    }

    /// A person is told that a snapshot is pinned, unless another one has
    /// unpinned it by then.
    pub(super) fn promise_pin(&mut self, id: &str) {
        if self.pinned.contains(id) {
            self.promised_pins.insert(id.to_owned());
        }
    }

    pub(super) fn heads(&self) -> impl Iterator<Item = (&String, &Needs)> {
        self.heads.iter()
    }

    pub(super) fn created(&mut self, keys: &Keyring, name: &str, object: &[u8]) {
        if let Some(id) = name.strip_prefix(SNAPSHOTS) {
            let content = open_object(keys, Kind::Snapshot, name, object).unwrap();
            if let HeadObject::Head(head) = HeadObject::parse(name, &content).unwrap() {
                let (run, attempt) = id.rsplit_once('-').unwrap();
                let attempts = self.attempts.entry(run.to_owned()).or_default();
                attempts.insert(attempt.to_owned());
                if attempts.len() > 1 {
                    let what = format!("the run of {id} has committed more than once");
                    self.violated(what);
                }
                self.heads.insert(id.to_owned(), needs(&head));
            }
        } else if let Some(n) = name.strip_prefix(MARKS) {
            let content = open_object(keys, Kind::Marks, name, object).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&content).unwrap();
            let heads = json["heads"].as_object().unwrap().keys().cloned().collect();
            self.known.insert(n.parse().unwrap(), heads);
        } else if let Some(decision) = name.strip_prefix(DECISIONS) {
            let content = open_object(keys, Kind::Decision, name, object).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&content).unwrap();
            let (id, _) = decision.rsplit_once('-').unwrap();
            match json["decision"].as_str().unwrap() {
                "Forgotten" => {
                    self.forgotten.insert(id.to_owned());
                    // Somebody who may was about to let it go when it was stolen.
                    self.stolen.remove(id);
                }
                "Unpinned" => {
                    self.pinned.remove(id);
                    self.promised_pins.remove(id);
                }
                _ => _ = self.pinned.insert(id.to_owned()),
            }
        }
    }

    /// The heads that an attacker would be seen to have deleted.
    pub(super) fn known_heads(&self) -> Vec<String> {
        let Some((_, known)) = self.known.last_key_value() else { return Vec::new() };
        let lives = |(id, needs): &(&String, &Needs)| {
            // Who deletes a repacking destroys data: nothing can help that.
            known.contains(*id) && !self.forgotten.contains(*id) && !needs.is_repacking()
        };
        self.heads.iter().filter(lives).map(|(id, _)| id.clone()).collect()
    }

    /// An attacker is about to delete a head.
    pub(super) fn steal(&mut self, id: &str) {
        // Whoever does not know better makes the run again.
        self.attempts.remove(id.rsplit_once('-').unwrap().0);
        if let Some(needs) = self.heads.get(id) {
            self.stolen.insert(id.to_owned(), needs.clone());
        }
    }

    pub(super) fn anything_stolen(&self) -> bool {
        !self.stolen.is_empty()
    }

    pub(super) fn deleted(&mut self, name: &str, exists: impl Fn(&str) -> bool) {
        let harmed = self.stolen.iter().find(|(_, needs)| {
            needs.packs.contains_key(name) && self.lost(needs, &exists).is_some()
        });
        if let Some((id, _)) = harmed {
            let what = format!("{name} was deleted, though the head of {id} was stolen");
            self.violated(what);
        }
        if let Some(id) = name.strip_prefix(SNAPSHOTS) {
            self.heads.remove(id);
        }
    }

    /// Where blocks of a pack are by the repackings that count.
    pub(super) fn moved<'a>(
        &'a self,
        pack: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a BlockSet)> {
        let counting = self.heads.iter().filter(|(id, _)| !self.forgotten.contains(*id));
        let moves = counting.flat_map(|(_, needs)| &needs.moves);
        moves.filter(move |(old, ..)| old == pack).map(|(_, home, blocks)| (home, blocks))
    }

    /// What is gone of that which a snapshot needs.
    fn lost(&self, needs: &Needs, exists: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(meta) = needs.metas.iter().find(|name| !exists(name)) {
            return Some(meta.clone());
        }
        let lost = |(name, blocks): &(&String, &BlockSet)| {
            let mut elsewhere = BlockSet::default();
            let homes = self.moved(name).filter(|(home, _)| exists(home));
            homes.for_each(|(_, carried)| elsewhere.add(carried));
            !exists(name) && !elsewhere.has_all_of(blocks)
        };
        needs.packs.iter().find(lost).map(|(name, _)| name.clone())
    }

    /// Every snapshot that counts has all that it needs, and none is gone that
    /// somebody was promised.
    pub(super) fn check(&mut self, exists: impl Fn(&str) -> bool) {
        let mut wrong = None;
        for (id, needs) in self.heads.iter().filter(|(id, _)| !self.forgotten.contains(*id)) {
            if let Some(lost) = self.lost(needs, &exists) {
                wrong = Some(format!("snapshot {id} needs {lost}, which is gone"));
            }
        }
        for id in &self.promised {
            if !self.heads.contains_key(id)
                && !self.forgotten.contains(id)
                && !self.stolen.contains_key(id)
            {
                wrong = Some(format!("snapshot {id} was promised and is gone"));
            }
        }
        for id in &self.promised_pins {
            if !self.heads.contains_key(id) && !self.stolen.contains_key(id) {
                wrong = Some(format!("snapshot {id} was pinned and is gone"));
            }
        }
        if let Some(wrong) = wrong {
            self.violated(wrong);
        }
    }
}

fn needs(head: &Head) -> Needs {
    let mut needs = Needs::default();
    needs.metas.extend(head.metas.iter().map(|meta| meta.name.meta_object()));
    let mut table = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for page in &head.pack_pages {
        let Place::Inline(piece) = &page.place else {
            panic!("tables of the simulation are short")
        };
        let page =
            parse_packs(&decode_piece(piece).unwrap(), page.entries, &head.sessions, &mut seen);
        table.extend(page.unwrap());
    }
    for pack in table.iter().filter(|pack| pack.is_used()) {
        needs.packs.insert(pack.entry.name.pack_object(), BlockSet::used(pack));
    }
    for moved in &head.moves {
        let home = table[moved.home as usize].entry.name.pack_object();
        let places = moved.carried.clone();
        needs.moves.push((moved.pack.pack_object(), home, places));
    }
    needs
}
