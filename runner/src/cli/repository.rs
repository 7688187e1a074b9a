//! Flags that say which repository is meant, how to reach it, and how it is opened.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dbbackup_contract::{Bandwidth, ObjectLock, ObjectLockMode};

use crate::address::Address;
use crate::uri::RepositoryUri;

#[derive(Debug, Args)]
pub(crate) struct RepositoryArgs {
    /// The repository: file:///absolute/path, s3://BUCKET/PREFIX,
    /// azure://ACCOUNT/CONTAINER/PREFIX or gs://BUCKET/PREFIX.
    #[arg(value_name = "REPO", value_parser = Address::<RepositoryUri>::parser())]
    pub(crate) repository: RepositoryUri,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    #[command(flatten)]
    pub(crate) azure: AzureArgs,
    #[command(flatten)]
    pub(crate) gcs: GcsArgs,
    /// Write nothing, and need no right to: whoever deletes meanwhile does not wait for this
    /// command, but for the grace period alone.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Send no more to the repository, in bytes a second: 20M, 20MiB.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) upload_limit: Option<u64>,
    /// Read no more from it, in bytes a second.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) download_limit: Option<u64>,
    /// No byte for so long is an error.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = 1..)]
    stall_timeout: i64,
}

impl RepositoryArgs {
    /// No byte for so long is a stall.
    pub(crate) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout.unsigned_abs())
    }

    /// Another repository, which is written to, with the same limits.
    pub(super) fn beside(
        &self,
        repository: RepositoryUri,
        key: KeyArgs,
        (s3, azure, gcs): (S3Args, AzureArgs, GcsArgs),
    ) -> Self {
        let Self { upload_limit, download_limit, stall_timeout, .. } = *self;
        let read_only = false;
        Self {
            repository,
            key,
            s3,
            azure,
            gcs,
            read_only,
            upload_limit,
            download_limit,
            stall_timeout,
        }
    }
}

/// Bytes a second: a number, perhaps with a unit.
fn parse_rate(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("", 1),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
    ];
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse::<u64>().ok();
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_end_matches('B'));
    let rate = number.zip(factor).and_then(|(number, (_, factor))| number.checked_mul(*factor));
    let rate = rate.ok_or("write a number of bytes a second, such as 20M or 512KiB")?;
    if rate < Bandwidth::LEAST {
        return Err(format!("{} bytes a second is the least: write 100k", Bandwidth::LEAST));
    }
    Ok(rate)
}

/// How to reach a bucket.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in a bucket (s3://)")]
pub(crate) struct S3Args {
    /// Address of a server that is not AWS: <https://HOST:PORT>.
    #[arg(id = "s3_endpoint", long = "s3-endpoint", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The bucket's region; AWS_REGION or the profile's where not given.
    #[arg(id = "s3_region", long = "s3-region", value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// The bucket stands in the path, not in the host's name; most servers but AWS want that.
    #[arg(id = "s3_path_style", long = "s3-path-style")]
    pub(crate) path_style: bool,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(id = "s3_ca_file", long = "s3-ca-file", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Folder with the files accessKeyId, secretAccessKey and, if there is one,
    /// sessionToken; AWS's usual places (environment, profile, role) where not given.
    #[arg(id = "s3_credentials_dir", long = "s3-credentials-dir", value_name = "FOLDER")]
    pub(crate) credentials_dir: Option<PathBuf>,
    /// Class in which packs are kept; only classes that give them back at once.
    #[arg(id = "s3_storage_class", long = "s3-storage-class", value_name = "CLASS")]
    pub(crate) storage_class: Option<String>,
    /// Lock what is written for so many days: compliance:30 (nobody may end it) or
    /// governance:30. The bucket has to have Object Lock; `prune` extends the locks.
    #[arg(id = "s3_object_lock", long = "s3-object-lock", value_name = "MODE:DAYS", value_parser = parse_lock)]
    pub(crate) object_lock: Option<ObjectLock>,
}

/// Mode and days of Object Lock.
pub(super) fn parse_lock(text: &str) -> Result<ObjectLock, String> {
    let (mode, days) = text.split_once(':').unwrap_or((text, ""));
    let mode = match mode {
        "compliance" => ObjectLockMode::Compliance,
        "governance" => ObjectLockMode::Governance,
        _ => return Err("write compliance:DAYS or governance:DAYS".to_owned()),
    };
    match days.parse() {
        Ok(days) if (1..=ObjectLock::MOST_DAYS).contains(&days) => Ok(ObjectLock { mode, days }),
        _ => Err(format!("a lock lasts 1 to {} days", ObjectLock::MOST_DAYS)),
    }
}

/// How to reach a container of Azure Blob Storage.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in Azure Blob Storage (azure://)")]
pub(crate) struct AzureArgs {
    /// Address of the account where it is not in the public cloud: <https://HOST:PORT>.
    #[arg(id = "azure_endpoint", long = "azure-endpoint", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(id = "azure_ca_file", long = "azure-ca-file", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Folder with the file sasToken or accountKey; the workload identity or managed
    /// identity of the environment where not given.
    #[arg(id = "azure_credentials_dir", long = "azure-credentials-dir", value_name = "FOLDER")]
    pub(crate) credentials_dir: Option<PathBuf>,
}

/// How to reach a bucket of Google Cloud Storage.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Repositories in Google Cloud Storage (gs://)")]
pub(crate) struct GcsArgs {
    /// Address of a server that is not the public one: <https://HOST:PORT>.
    #[arg(id = "gcs_endpoint", long = "gcs-endpoint", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with the CA's certificates (PEM); the system's where absent.
    #[arg(id = "gcs_ca_file", long = "gcs-ca-file", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with a service account's key (JSON); what GOOGLE_APPLICATION_CREDENTIALS
    /// names, or the workload identity, where not given.
    #[arg(id = "gcs_credentials_file", long = "gcs-credentials-file", value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct KeyArgs {
    /// File with a key of 32 bytes, raw or in base64.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with a passphrase; a line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The repository is not encrypted.
    #[arg(long)]
    pub(crate) no_encryption: bool,
}

#[cfg(test)]
mod tests {
    use dbbackup_contract::{ObjectLock, ObjectLockMode};

    use super::{parse_lock, parse_rate};

    #[test]
    fn rates_have_units_and_a_least() {
        for (text, rate) in [("100000", 100_000), ("20M", 20_000_000), ("512KiB", 512 << 10)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for wrong in ["", "M", "1.5M", "20 M", "99k", "-1", "20Mb", "99999999999G"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lock_has_a_mode_and_days() {
        let lock = ObjectLock { mode: ObjectLockMode::Governance, days: 30 };
        assert_eq!(parse_lock("governance:30"), Ok(lock));
        for wrong in
            ["", "30", "compliance", "compliance:", "compliance:0", "legal:3", "governance:36501"]
        {
            assert!(parse_lock(wrong).is_err(), "{wrong}");
        }
    }
}
