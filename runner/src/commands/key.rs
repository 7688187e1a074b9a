//! `key list`, `key add`, `key remove`: which secrets open a repository.

use std::path::Path;

use dbbackup_contract::{ExitCode, Failure, KeyAccess, KeyKind, Reason};
use dbbackup_repository::{
    KeySlot, KeySource, MAX_KEY_NAME_BYTES, Opened, SlotId, SlotState, Stretching,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::{KeyAddArgs, KeyCommand, KeyListArgs, KeyRemoveArgs, NewKeyArgs, RepositoryArgs};
use crate::commands::{print, repository_access, secret_file};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::uri::RepositoryUri;
use crate::work;

/// The repository that a command is about.
pub(super) fn repository(command: &KeyCommand) -> &RepositoryUri {
    match command {
        KeyCommand::List(args) => &args.repository.repository,
        KeyCommand::Add(args) => &args.repository.repository,
        KeyCommand::Remove(args) => &args.repository.repository,
    }
}

pub(super) async fn key(
    command: KeyCommand,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::List(args) => list(args, cancel).await,
        KeyCommand::Add(args) => add(args, cancel).await,
        KeyCommand::Remove(args) => remove(args, cancel).await,
    }
}

async fn open(
    args: &RepositoryArgs,
    cancel: &CancellationToken,
) -> Result<(Opened, Vec<KeySource>), Failure> {
    let access = repository_access(args)?;
    unless_stopped(cancel, work::open_with_keys(&access, args.stall_timeout())).await
}

async fn list(args: KeyListArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let board = ProgressBoard::new(None);
    let (opened, _) = open(&args.repository, cancel).await?;
    let slots = unless_stopped(cancel, opened.repository.key_slots()).await?;
    board.clear();
    let is_given = |slot: &KeySlot| opened.opened_slots.iter().any(|by| Some(by.slot) == id(slot));
    if args.json {
        let described: Vec<_> = slots.iter().map(|slot| described(slot, is_given(slot))).collect();
        print::json(&described)?;
    } else {
        let rows: Vec<_> = slots.iter().map(|slot| row(slot, is_given(slot))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        for [slot, what, time, name] in &rows {
            let [w0, w1, w2, _] = widths;
            print::line(format!("{slot:w0$}  {what:w1$}  {time:w2$}  {name}").trim_end());
        }
    }
    let damaged = slots.iter().filter(|slot| slot.state == SlotState::Damaged).count();
    if damaged == 0 {
        return Ok(ExitCode::Success);
    }
    print::aside(
        "hint: Bring a damaged slot back from a copy of the repository, or remove it and add its \
         key again.",
    );
    Ok(ExitCode::Damaged)
}

/// The last part of a slot's name.
fn short(slot: &KeySlot) -> &str {
    slot.object.rsplit('/').next().unwrap_or(&slot.object)
}

fn id(slot: &KeySlot) -> Option<SlotId> {
    SlotId::parse(short(slot))
}

fn name_of(slot: &KeySlot) -> Option<&str> {
    match &slot.state {
        SlotState::Whole { label: Some(label), .. } => Some(&label.name),
        _ => None,
    }
}

/// Id, what it is, when it was made, its name and what is to be said of it.
fn row(slot: &KeySlot, is_given: bool) -> [String; 4] {
    let row = |what: &str, time: String, name: String| {
        [short(slot).to_owned(), what.to_owned(), time, name]
    };
    match &slot.state {
        SlotState::Whole { stretching, label, leaving, .. } => {
            let (time, mut name) = match label {
                Some(label) => (shown_time(label.created), label.name.clone()),
                None => (String::new(), "(without a name)".to_owned()),
            };
            if is_given {
                name.push_str("  (the given key)");
            }
            if *leaving {
                name.push_str("  (being removed)");
            }
            row(&stretching.to_string(), time, name)
        }
        SlotState::Forged => {
            row("FORGED: made without the master key", String::new(), String::new())
        }
        SlotState::Foreign(id) => {
            row(&format!("of the repository {id}, opens nothing"), String::new(), String::new())
        }
        SlotState::Damaged => row("DAMAGED", String::new(), String::new()),
        SlotState::Unsupported(_) => row("made by a newer release", String::new(), String::new()),
    }
}

fn shown_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn described(slot: &KeySlot, is_given: bool) -> Value {
    let state = match &slot.state {
        SlotState::Whole { leaving: false, .. } => "Whole",
        SlotState::Whole { leaving: true, .. } => "Leaving",
        SlotState::Forged => "Forged",
        SlotState::Foreign(_) => "Foreign",
        SlotState::Damaged => "Damaged",
        SlotState::Unsupported(_) => "Unsupported",
    };
    let mut value = json!({"slot": short(slot), "state": state, "opened": is_given});
    if let SlotState::Whole { stretching, label, .. } = &slot.state {
        value["kdf"] = match stretching {
            Stretching::Pbkdf2 { rounds } => json!({"name": "pbkdf2", "rounds": rounds}),
            Stretching::Argon2id { passes, memory_kib, lanes } => json!({
                "name": "argon2id", "passes": passes, "memoryKib": memory_kib, "lanes": lanes
            }),
            Stretching::RawKey => json!({"name": "raw"}),
        };
        if let Some(label) = label {
            value["name"] = json!(label.name);
            value["createdTime"] = json!(label.created);
        }
    }
    value
}

async fn add(args: KeyAddArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let new = new_key(&args.new, args.name.as_deref())?;
    let board = ProgressBoard::new(None);
    let (opened, _) = open(&args.repository, cancel).await?;
    let source = unless_stopped(cancel, work::read_key(&new)).await?;
    let added = unless_stopped(cancel, opened.repository.add_key(&source, args.kdf.into())).await?;
    board.clear();
    if args.json {
        print::json(&json!({"slot": added.slot.to_string(), "added": added.is_new}))?;
    } else if added.is_new {
        print::line(&format!("key slot {} added: {} opens the repository", added.slot, new.name));
    } else {
        print::line(&format!("this key opens the repository already: key slot {}", added.slot));
    }
    Ok(ExitCode::Success)
}

fn new_key(args: &NewKeyArgs, name: Option<&str>) -> Result<KeyAccess, Failure> {
    let usage = |message: String| Failure::new(Reason::UsageError, message);
    let (kind, path): (_, &Path) = match (&args.new_key_file, &args.new_passphrase_file) {
        (Some(path), _) => (KeyKind::Key, path),
        (None, Some(path)) => (KeyKind::Passphrase, path),
        (None, None) => return Err(usage("no new key was given".to_owned())),
    };
    let name = match name {
        Some(name) if name.len() > MAX_KEY_NAME_BYTES => {
            return Err(usage(format!(
                "--name may have {MAX_KEY_NAME_BYTES} bytes, this one has {}",
                name.len()
            )));
        }
        Some(name) if name.is_empty() || name.chars().any(char::is_control) => {
            return Err(usage("--name must be a text without control characters".to_owned()));
        }
        Some(name) => name.to_owned(),
        // A longer one is cut where it is stored.
        None => path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().chars().filter(|c| !c.is_control()).collect(),
        ),
    };
    Ok(KeyAccess { name, kind, file: secret_file(path)? })
}

async fn remove(args: KeyRemoveArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let board = ProgressBoard::new(None);
    let (opened, keys) = open(&args.repository, cancel).await?;
    let repository = &opened.repository;
    let slots = unless_stopped(cancel, repository.key_slots()).await?;
    let slot = chosen(&slots, &args.slot)?;
    let removed = unless_stopped(cancel, repository.remove_key(slot, &keys)).await?;
    board.clear();
    if args.json {
        print::json(&json!({"slot": slot.to_string(), "removed": removed}))?;
    } else {
        print::line(&format!("key slot {slot} removed"));
        print::aside(
            "note: who has its secret and a copy of the slot can still read the repository",
        );
    }
    Ok(ExitCode::Success)
}

/// The one slot whose id begins so, or that has this name.
fn chosen(slots: &[KeySlot], wanted: &str) -> Result<SlotId, Failure> {
    let named = || slots.iter().filter(|slot| name_of(slot) == Some(wanted));
    let by_id = || slots.iter().filter(|slot| short(slot).starts_with(wanted));
    let found: Vec<SlotId> = if named().next().is_some() {
        named().filter_map(id).collect()
    } else {
        by_id().filter_map(id).collect()
    };
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(Failure::new(
            Reason::KeySlotNotFound,
            format!("no key slot has the name or an id that begins with {wanted:?}"),
        )),
        several => {
            let ids: Vec<_> = several.iter().map(ToString::to_string).collect();
            let message = format!("{wanted:?} fits several key slots: {}", ids.join(", "));
            Err(Failure::new(Reason::UsageError, message)
                .with_hint("Give more characters of the slot's id."))
        }
    }
}
