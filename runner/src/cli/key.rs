//! Flags of `key`: who opens a repository.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::KdfArg;
use super::repository::RepositoryArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the key slots, and which of them the given key opens.
    List(KeyListArgs),
    /// Add a key slot, so that another key or passphrase opens the repository, too.
    Add(KeyAddArgs),
    /// Remove a key slot; the given key must open another one.
    Remove(KeyRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyListArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Print a list of objects, with `slot` in each.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyAddArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    #[command(flatten)]
    pub(crate) new: NewKeyArgs,
    /// Name of the new key, for lists; its file's name where not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How the new passphrase is stretched.
    #[arg(long, value_name = "KDF", default_value = "pbkdf2")]
    pub(crate) kdf: KdfArg,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NewKeyArgs {
    /// File with the new key: 32 bytes, raw or in base64.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// File with the new passphrase; a line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRemoveArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The slot's id or as many of its first characters as make it unique, or its name.
    pub(crate) slot: String,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
