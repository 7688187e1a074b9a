//! What a task would say of the place that an address and flags name.

use dbbackup_contract::{
    AzureAccess, AzureCredentialFiles, Failure, GcsAccess, Reason, S3Access, S3CredentialFiles,
    StorageAccess,
};

use super::{local_file, secret_file};
use crate::cli::{AzureArgs, GcsArgs, RepositoryArgs, S3Args};
use crate::uri::RepositoryUri;

/// The place of a repository.
pub(super) fn access(args: &RepositoryArgs) -> Result<StorageAccess, Failure> {
    only_its_flags(args)?;
    Ok(match &args.repository {
        RepositoryUri::File(path) => {
            let path = path.to_str().ok_or_else(|| {
                Failure::new(Reason::UsageError, format!("{} is not UTF-8", path.display()))
            })?;
            StorageAccess::Volume { path: path.to_owned(), claim: None }
        }
        RepositoryUri::S3 { bucket, prefix } => {
            StorageAccess::S3(Box::new(s3(bucket, prefix, &args.s3)?))
        }
        RepositoryUri::Azure { account, container, prefix } => {
            StorageAccess::AzureBlob(Box::new(azure(account, container, prefix, &args.azure)?))
        }
        RepositoryUri::Gcs { bucket, prefix } => {
            StorageAccess::Gcs(Box::new(gcs(bucket, prefix, &args.gcs)?))
        }
    })
}

/// Refuses flags that would have no effect.
fn only_its_flags(args: &RepositoryArgs) -> Result<(), Failure> {
    let at = &args.repository;
    let flags = [
        ("s3", "s3://", args.s3 != S3Args::default(), matches!(at, RepositoryUri::S3 { .. })),
        (
            "azure",
            "azure://",
            args.azure != AzureArgs::default(),
            matches!(at, RepositoryUri::Azure { .. }),
        ),
        ("gcs", "gs://", args.gcs != GcsArgs::default(), matches!(at, RepositoryUri::Gcs { .. })),
    ];
    match flags.into_iter().find(|(_, _, said, meant)| *said && !meant) {
        None => Ok(()),
        Some((flags, address, ..)) => {
            let message = format!("the --{flags}-… flags are for repositories at {address}");
            Err(Failure::new(Reason::UsageError, message))
        }
    }
}

fn s3(bucket: &str, prefix: &str, args: &S3Args) -> Result<S3Access, Failure> {
    let credentials = args.credentials_dir.as_deref().map(|folder| {
        Ok::<_, Failure>(S3CredentialFiles {
            access_key_id: local_file(&folder.join("accessKeyId"))?,
            secret_access_key: secret_file(&folder.join("secretAccessKey"))?,
            session_token: secret_file(&folder.join("sessionToken"))?,
        })
    });
    Ok(S3Access {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        force_path_style: args.path_style,
        ca: args.ca_file.as_deref().map(local_file).transpose()?,
        storage_class: args.storage_class.clone(),
        object_lock: args.object_lock,
        credentials: credentials.transpose()?,
    })
}

fn azure(
    account: &str,
    container: &str,
    prefix: &str,
    args: &AzureArgs,
) -> Result<AzureAccess, Failure> {
    let credentials = args.credentials_dir.as_deref().map(|folder| {
        Ok::<_, Failure>(AzureCredentialFiles {
            sas_token: secret_file(&folder.join("sasToken"))?,
            account_key: secret_file(&folder.join("accountKey"))?,
        })
    });
    Ok(AzureAccess {
        account: account.to_owned(),
        container: container.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: args.endpoint.clone(),
        ca: args.ca_file.as_deref().map(local_file).transpose()?,
        credentials: credentials.transpose()?,
    })
}

fn gcs(bucket: &str, prefix: &str, args: &GcsArgs) -> Result<GcsAccess, Failure> {
    Ok(GcsAccess {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: args.endpoint.clone(),
        ca: args.ca_file.as_deref().map(local_file).transpose()?,
        credentials: args.credentials_file.as_deref().map(secret_file).transpose()?,
    })
}
