//! Which entries of a table of contents come back where only schemas or tables are asked for:
//! pure.
//!
//! What is *chosen* are relations, with their rows: the tables that are named and their
//! partitions, and all that is in a schema that is named. With them comes what they *need* by the
//! dependencies that `pg_dump` wrote down: types, functions, extensions, schemas, sequences. A
//! table that is only needed (its columns are inherited, its row is a type) comes back without
//! rows. What *belongs* to chosen relations (indexes, constraints, triggers, policies, views of a
//! schema) comes along unless it needs a relation that is not chosen; then it is left out, and
//! told.

use std::collections::{BTreeSet, HashMap, HashSet};

use dbbackup_contract::{Failure, RestoreDatabase};

use super::contents::Part;
use super::missing_names::{no_such_schema, no_such_table, not_a_table};
use crate::archive::TocEntry;

/// What has rows, or looks as if.
const RELATIONS: [&str; 4] = ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW"];
/// What has rows of its own.
pub(super) const TABLES: [&str; 2] = ["TABLE", "FOREIGN TABLE"];
/// What belongs to one relation. Its tag begins with that one's name.
const OF_ONE: [&str; 7] =
    ["CHECK CONSTRAINT", "CONSTRAINT", "DEFAULT", "FK CONSTRAINT", "POLICY", "RULE", "TRIGGER"];
/// What belongs to a relation in another way.
const ATTACHED: [&str; 6] = [
    "INDEX",
    "MATERIALIZED VIEW DATA",
    "ROW SECURITY",
    "STATISTICS",
    "STATISTICS DATA",
    "TABLE ATTACH",
];
/// What comes with the type that it is for.
const OF_TYPES: [&str; 2] = ["OPERATOR CLASS", "OPERATOR FAMILY"];
/// What comes back where all is there that it speaks of.
const SPEAKS_OF_OTHERS: [&str; 10] = [
    "ACL",
    "ACL LANGUAGE",
    "CAST",
    "COMMENT",
    "INDEX ATTACH",
    "SECURITY LABEL",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "TRANSFORM",
    "USER MAPPING",
];
/// What never comes back with a part: it is of the whole database, and acts on all of it.
const OF_THE_WHOLE: [&str; 5] = [
    "EVENT TRIGGER",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SUBSCRIPTION",
];

/// Chooses what `asked` names.
///
/// # Errors
/// `TableNotFound`, for the first name that the backup has not.
pub(super) fn choose(entries: &[TocEntry], asked: &RestoreDatabase) -> Result<Part, Failure> {
    let mut choice = Choice::new(entries, &asked.schemas);
    choice.find(asked)?;
    choice.add_partitions();
    choice.bring_what_is_chosen();
    while choice.bring_what_belongs() {}
    Ok(choice.part())
}

struct Choice<'a> {
    entries: &'a [TocEntry],
    by_id: HashMap<i64, usize>,
    schemas: HashSet<&'a str>,
    /// Definitions of schemas.
    schema_entries: HashMap<&'a str, usize>,
    /// Of each partition: the entry that attaches it, and the table that it is attached to.
    attached: HashMap<usize, (usize, usize)>,
    /// Relations that come back as a whole.
    chosen: HashSet<usize>,
    /// Rows of tables that no entry makes: an extension does.
    rows_alone: Vec<usize>,
    brought: HashSet<usize>,
    /// Relations that were brought and not chosen.
    bare: HashSet<usize>,
}

impl<'a> Choice<'a> {
    fn new(entries: &'a [TocEntry], schemas: &'a [String]) -> Self {
        let numbered = || entries.iter().enumerate();
        let is_schema = |entry: &TocEntry| entry.description == "SCHEMA";
        let mut choice = Self {
            entries,
            by_id: numbered().map(|(index, entry)| (entry.dump_id, index)).collect(),
            schemas: schemas.iter().map(String::as_str).collect(),
            schema_entries: numbered()
                .filter(|(_, entry)| is_schema(entry))
                .map(|(index, entry)| (entry.tag.as_str(), index))
                .collect(),
            attached: HashMap::new(),
            chosen: HashSet::new(),
            rows_alone: Vec::new(),
            brought: HashSet::new(),
            bare: HashSet::new(),
        };
        let attaching = numbered().filter(|(_, entry)| entry.description == "TABLE ATTACH");
        choice.attached = attaching.filter_map(|(index, _)| choice.attachment(index)).collect();
        choice
    }

    /// The partition that an entry attaches, this entry, and the table.
    fn attachment(&self, index: usize) -> Option<(usize, (usize, usize))> {
        let tables = self.direct(index).filter(|table| self.is_table(*table));
        let (child, parent): (Vec<_>, Vec<_>) =
            tables.partition(|table| self.has_name(*table, &self.entries[index]));
        Some((*child.first()?, (index, *parent.first()?)))
    }

    fn is_in_schema(&self, entry: &TocEntry) -> bool {
        entry.namespace.as_deref().is_some_and(|schema| self.schemas.contains(schema))
            || entry.description == "SCHEMA" && self.schemas.contains(entry.tag.as_str())
    }

    fn is_relation(&self, index: usize) -> bool {
        RELATIONS.contains(&self.entries[index].description.as_str())
    }

    fn is_table(&self, index: usize) -> bool {
        TABLES.contains(&self.entries[index].description.as_str())
    }

    /// What the entry depends on, of what the table of contents has. A sequence is made before it
    /// is told whose it is, and a partition before it is attached; as a part of a table a sequence
    /// is nothing without it.
    fn needs(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let entry = &self.entries[index];
        let on_its_own = entry.description == "SEQUENCE" && !entry.alters_table;
        let parent = self.attached.get(&index).map(|(_, parent)| *parent);
        let schema = entry.namespace.as_deref().and_then(|name| self.schema_entries.get(name));
        let direct = self.direct(index).filter(move |needed| {
            !(on_its_own && self.is_table(*needed)) && Some(*needed) != parent
        });
        direct.chain(schema.copied().filter(move |schema| *schema != index))
    }

    fn direct(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let ids = self.entries[index].dependencies.iter();
        ids.filter_map(|id| self.by_id.get(id).copied()).filter(move |needed| *needed != index)
    }

    fn find(&mut self, asked: &'a RestoreDatabase) -> Result<(), Failure> {
        let entries = self.entries;
        for schema in &asked.schemas {
            let is_it = |entry: &TocEntry| {
                entry.namespace.as_ref() == Some(schema)
                    || entry.description == "SCHEMA" && entry.tag == *schema
            };
            // Every database has this one, whatever is in it.
            if schema != "public" && !entries.iter().any(is_it) {
                return Err(no_such_schema(entries, schema));
            }
        }
        let tables: HashSet<(&str, &str)> =
            asked.tables.iter().map(|table| (&*table.schema, &*table.name)).collect();
        let (mut found, mut rows, mut others) = (HashSet::new(), HashMap::new(), HashMap::new());
        for (index, entry) in entries.iter().enumerate() {
            let name = (entry.namespace.as_deref().unwrap_or_default(), entry.tag.as_str());
            if !tables.contains(&name) && !self.is_in_schema(entry) {
                continue;
            }
            if self.is_table(index) {
                found.insert(name);
                self.chosen.insert(index);
            } else if entry.description == "TABLE DATA" {
                rows.insert(name, index);
            } else if self.is_relation(index) || entry.description == "SEQUENCE" {
                others.insert(name, entry.description.as_str());
            }
        }
        for table in &asked.tables {
            let name = (table.schema.as_str(), table.name.as_str());
            if found.contains(&name) || rows.contains_key(&name) {
                continue;
            }
            return Err(match others.get(&name) {
                Some(kind) => not_a_table(table, kind),
                None => no_such_table(entries, table),
            });
        }
        self.rows_alone =
            rows.into_iter().filter(|(name, _)| !found.contains(name)).map(|it| it.1).collect();
        Ok(())
    }

    /// A partitioned table has its rows in its partitions, wherever these are.
    fn add_partitions(&mut self) {
        let mut partitions: HashMap<usize, Vec<usize>> = HashMap::new();
        for (child, (_, parent)) in &self.attached {
            partitions.entry(*parent).or_default().push(*child);
        }
        let mut pending: Vec<_> = self.chosen.iter().copied().collect();
        while let Some(table) = pending.pop() {
            for partition in partitions.get(&table).into_iter().flatten() {
                if self.chosen.insert(*partition) {
                    pending.push(*partition);
                }
            }
        }
    }

    fn bring_what_is_chosen(&mut self) {
        let mut pending: Vec<_> = self.chosen.iter().chain(&self.rows_alone).copied().collect();
        let (mut through_root, excludes) = (Vec::new(), self.excludes());
        for (index, entry) in self.entries.iter().enumerate() {
            let has_chosen = |it: usize| self.chosen.contains(&it);
            let is_part = match entry.description.as_str() {
                "DEFAULT" => self.direct(index).any(|it| self.belongs_to(entry, it)),
                "SEQUENCE" => self.direct(index).any(has_chosen),
                "TABLE DATA" => {
                    let own = self.direct(index).find(|it| has_chosen(*it));
                    through_root.extend(own.filter(|_| entry.loads_through_root));
                    own.is_some()
                }
                _ => entry.is_of_archive || self.is_of_unknown_use(entry, excludes),
            };
            if is_part {
                pending.push(index);
            }
        }
        pending.extend(self.paths_to_roots(&through_root));
        while let Some(index) = pending.pop() {
            if !self.brought.insert(index) {
                continue;
            }
            if self.is_relation(index) && !self.chosen.contains(&index) {
                self.bare.insert(index);
            }
            pending.extend(self.needs(index));
        }
    }

    /// Whether a chosen table has an exclusion constraint.
    fn excludes(&self) -> bool {
        let mut constraints = self.entries.iter().enumerate().filter(|it| it.1.is_exclusion);
        constraints.any(|(index, entry)| self.direct(index).any(|it| self.belongs_to(entry, it)))
    }

    /// Extensions, and classes of operators, where something of the part may be made of them and
    /// nothing says of which: rows of an extension's own table, and exclusion constraints.
    fn is_of_unknown_use(&self, entry: &TocEntry, excludes: bool) -> bool {
        match entry.description.as_str() {
            "EXTENSION" => excludes || !self.rows_alone.is_empty(),
            "OPERATOR CLASS" => excludes,
            _ => false,
        }
    }

    /// Where rows are loaded through the partitioned table, each of these partitions is attached
    /// to it.
    fn paths_to_roots(&self, partitions: &[usize]) -> Vec<usize> {
        let mut paths = Vec::new();
        for partition in partitions {
            let mut at = partition;
            while let Some((attach, parent)) = self.attached.get(at)
                && !paths.contains(attach)
            {
                paths.push(*attach);
                at = parent;
            }
        }
        paths
    }

    fn has_name(&self, relation: usize, entry: &TocEntry) -> bool {
        let of = &self.entries[relation];
        (&of.namespace, &of.tag) == (&entry.namespace, &entry.tag)
    }

    /// Whether `relation` is chosen, and the entry is one of those whose tag begins with its name.
    fn belongs_to(&self, entry: &TocEntry, relation: usize) -> bool {
        let of = &self.entries[relation];
        let rest = entry.tag.strip_prefix(of.tag.as_str());
        self.chosen.contains(&relation)
            && of.namespace == entry.namespace
            && rest.is_some_and(|rest| rest.starts_with(' '))
    }

    /// Goes once through what may belong to the part; whether anything of it was brought.
    fn bring_what_belongs(&mut self) -> bool {
        let mut any = false;
        for (index, entry) in self.entries.iter().enumerate() {
            if self.brought.contains(&index) {
                continue;
            }
            let comes = if SPEAKS_OF_OTHERS.contains(&entry.description.as_str()) {
                self.is_all_there(index).then(HashSet::new)
            } else if self.belongs(index) {
                self.within_reach(index)
            } else {
                None
            };
            let Some(needed) = comes else { continue };
            any = true;
            self.brought.extend(needed);
            self.brought.insert(index);
            if self.is_relation(index) {
                self.chosen.insert(index);
            }
        }
        any
    }

    /// Whether it belongs to a chosen relation, or to a schema that is named.
    fn belongs(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let description = entry.description.as_str();
        if OF_THE_WHOLE.contains(&description) || description == "TABLE DATA" {
            return false;
        }
        if OF_ONE.contains(&description) {
            return self.direct(index).any(|it| self.belongs_to(entry, it));
        }
        if OF_TYPES.contains(&description) {
            // Of constraints nothing says which operators they compare by.
            let is_type =
                |it: usize| matches!(self.entries[it].description.as_str(), "TYPE" | "DOMAIN");
            return self.is_in_schema(entry)
                || self.direct(index).any(|it| is_type(it) && self.brought.contains(&it));
        }
        let is_attached = ATTACHED.contains(&description)
            && self.direct(index).any(|it| self.chosen.contains(&it));
        is_attached || self.is_in_schema(entry)
    }

    /// Whether it gives or takes privileges of what no entry makes: an extension does, and nothing
    /// says which, or the server itself.
    fn is_of_others_making(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.description == "ACL"
            && entry.tag != "SCHEMA public"
            && self.direct(index).next().is_none()
    }

    /// Whether whatever an extension of the backup makes will be there.
    fn has_all_extensions(&self) -> bool {
        let mut extensions =
            self.entries.iter().enumerate().filter(|it| it.1.description == "EXTENSION");
        extensions.all(|(index, _)| self.brought.contains(&index))
    }

    /// Whether all that it speaks of is brought.
    fn is_all_there(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        if entry.description == "SEQUENCE OWNED BY" {
            // Only the sequence knows the table.
            let mut owned = self.direct(index);
            return owned.any(|sequence| {
                let mut all = self.direct(sequence).chain([sequence]);
                all.all(|it| self.brought.contains(&it))
            });
        }
        // It is made with the database, and no entry says so.
        if entry.tag == "SCHEMA public" && !self.schema_entries.contains_key("public") {
            let mut brought = self.brought.iter().map(|index| &self.entries[*index]);
            return brought.any(|it| it.namespace.as_deref() == Some("public"));
        }
        // Without it everybody may do what was taken from them.
        if self.is_of_others_making(index) {
            return self.has_all_extensions();
        }
        // Privileges of columns come after those of their table.
        let mut others = self
            .direct(index)
            .filter(|it| !self.entries[*it].description.starts_with("ACL"))
            .peekable();
        others.peek().is_some() && others.all(|it| self.brought.contains(&it))
    }

    /// What it needs that is not brought yet; `None` where that is, or has, a relation that is
    /// not chosen.
    fn within_reach(&self, index: usize) -> Option<HashSet<usize>> {
        let mut needed = HashSet::new();
        let mut pending = vec![index];
        while let Some(at) = pending.pop() {
            for it in self.needs(at) {
                if self.bare.contains(&it) {
                    return None;
                }
                if self.brought.contains(&it) {
                    continue;
                }
                if self.is_relation(it) {
                    return None;
                }
                if it != index && needed.insert(it) {
                    pending.push(it);
                }
            }
        }
        Some(needed)
    }

    fn part(&self) -> Part {
        let numbers = self.brought.iter().map(|index| self.entries[*index].dump_id);
        let bare: BTreeSet<_> =
            self.bare.iter().map(|index| shown(&self.entries[*index])).collect();
        let left_out = self.entries.iter().enumerate().filter(|(index, _)| self.is_missed(*index));
        Part {
            entries: numbers.collect(),
            left_out: left_out
                .map(|(_, entry)| format!("{} {}", entry.description.to_lowercase(), shown(entry)))
                .collect(),
            without_rows: bare.into_iter().collect(),
        }
    }

    /// Whether it is left out, and somebody may look for it: what belongs to the part, and what is
    /// made of chosen relations.
    fn is_missed(&self, index: usize) -> bool {
        let description = self.entries[index].description.as_str();
        let is_quiet = description == "TABLE DATA"
            || SPEAKS_OF_OTHERS.contains(&description) && !self.is_of_others_making(index);
        if is_quiet || self.brought.contains(&index) {
            return false;
        }
        let is_made_of_them = !OF_ONE.contains(&description)
            && self.direct(index).any(|it| self.chosen.contains(&it));
        self.belongs(index) || is_made_of_them || self.is_of_others_making(index)
    }
}

/// `schema.name`.
pub(super) fn shown(entry: &TocEntry) -> String {
    match &entry.namespace {
        Some(schema) => format!("{schema}.{}", entry.tag),
        None => entry.tag.clone(),
    }
}

#[cfg(test)]
mod tests;
