//! Flags of `copy`: what is copied, and the second repository.

use std::path::PathBuf;

use clap::Args;
use dbbackup_contract::ObjectLock;

use super::repository::{AzureArgs, GcsArgs, KeyArgs, RepositoryArgs, S3Args, parse_lock};
use crate::address::Address;
use crate::uri::RepositoryUri;

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The snapshot's id, or as many of its first characters as make it unique.
    #[arg(required_unless_present = "series")]
    pub(crate) snapshot: Option<String>,
    /// Copy all snapshots of this series that are missing there, oldest first.
    #[arg(long, value_name = "NAME", conflicts_with = "snapshot")]
    pub(crate) series: Option<String>,
    #[command(flatten)]
    to: ToArgs,
    /// Print a list of objects, one for each copy.
    #[arg(long)]
    pub(crate) json: bool,
}

impl CopyArgs {
    /// The repository that the copy is for.
    pub(crate) fn destination(&self) -> RepositoryArgs {
        let to = &self.to;
        let key = KeyArgs {
            key_file: to.key.key_file.clone(),
            passphrase_file: to.key.passphrase_file.clone(),
            no_encryption: to.key.no_encryption,
        };
        let s3 = S3Args {
            endpoint: to.s3_endpoint.clone(),
            region: to.s3_region.clone(),
            path_style: to.s3_path_style,
            ca_file: to.s3_ca_file.clone(),
            credentials_dir: to.s3_credentials_dir.clone(),
            storage_class: to.s3_storage_class.clone(),
            object_lock: to.s3_object_lock,
        };
        let azure = AzureArgs {
            endpoint: to.azure_endpoint.clone(),
            ca_file: to.azure_ca_file.clone(),
            credentials_dir: to.azure_credentials_dir.clone(),
        };
        let gcs = GcsArgs {
            endpoint: to.gcs_endpoint.clone(),
            ca_file: to.gcs_ca_file.clone(),
            credentials_file: to.gcs_credentials_file.clone(),
        };
        self.repository.beside(to.repository.clone(), key, (s3, azure, gcs))
    }
}

/// The flags of the first repository again, of the second one.
#[derive(Debug, Args)]
#[command(next_help_heading = "The repository that the copy is for")]
struct ToArgs {
    /// Where the copy goes; the repository must exist.
    #[arg(id = "to", long = "to", value_name = "REPO",
        value_parser = Address::<RepositoryUri>::parser())]
    repository: RepositoryUri,
    #[command(flatten)]
    key: ToKeyArgs,
    /// As --s3-endpoint.
    #[arg(id = "to_s3_endpoint", long = "to-s3-endpoint", value_name = "URL")]
    s3_endpoint: Option<String>,
    /// As --s3-region.
    #[arg(id = "to_s3_region", long = "to-s3-region", value_name = "REGION")]
    s3_region: Option<String>,
    /// As --s3-path-style.
    #[arg(id = "to_s3_path_style", long = "to-s3-path-style")]
    s3_path_style: bool,
    /// As --s3-ca-file.
    #[arg(id = "to_s3_ca_file", long = "to-s3-ca-file", value_name = "FILE")]
    s3_ca_file: Option<PathBuf>,
    /// As --s3-credentials-dir.
    #[arg(id = "to_s3_credentials_dir", long = "to-s3-credentials-dir", value_name = "FOLDER")]
    s3_credentials_dir: Option<PathBuf>,
    /// As --s3-storage-class.
    #[arg(id = "to_s3_storage_class", long = "to-s3-storage-class", value_name = "CLASS")]
    s3_storage_class: Option<String>,
    /// As --s3-object-lock.
    #[arg(id = "to_s3_object_lock", long = "to-s3-object-lock", value_name = "MODE:DAYS",
        value_parser = parse_lock)]
    s3_object_lock: Option<ObjectLock>,
    /// As --azure-endpoint.
    #[arg(id = "to_azure_endpoint", long = "to-azure-endpoint", value_name = "URL")]
    azure_endpoint: Option<String>,
    /// As --azure-ca-file.
    #[arg(id = "to_azure_ca_file", long = "to-azure-ca-file", value_name = "FILE")]
    azure_ca_file: Option<PathBuf>,
    /// As --azure-credentials-dir.
    #[arg(
        id = "to_azure_credentials_dir",
        long = "to-azure-credentials-dir",
        value_name = "FOLDER"
    )]
    azure_credentials_dir: Option<PathBuf>,
    /// As --gcs-endpoint.
    #[arg(id = "to_gcs_endpoint", long = "to-gcs-endpoint", value_name = "URL")]
    gcs_endpoint: Option<String>,
    /// As --gcs-ca-file.
    #[arg(id = "to_gcs_ca_file", long = "to-gcs-ca-file", value_name = "FILE")]
    gcs_ca_file: Option<PathBuf>,
    /// As --gcs-credentials-file.
    #[arg(id = "to_gcs_credentials_file", long = "to-gcs-credentials-file", value_name = "FILE")]
    gcs_credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ToKeyArgs {
    /// File with its key of 32 bytes, raw or in base64.
    #[arg(id = "to_key_file", long = "to-key-file", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with its passphrase; a line break at its end does not count.
    #[arg(id = "to_passphrase_file", long = "to-passphrase-file", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// It is not encrypted.
    #[arg(id = "to_no_encryption", long = "to-no-encryption")]
    no_encryption: bool,
}
