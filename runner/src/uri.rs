//! Addresses on the command line: `file:///path`, `s3://bucket/prefix`,
//! `azure://account/container/prefix` or `gs://bucket/prefix` for a repository,
//! `postgresql://user@host:5432/database` for a server.

use std::path::PathBuf;

use dbbackup_contract::{Failure, Reason};
use percent_encoding::percent_decode_str;
use url::{ParseError, Url};

/// A repository's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RepositoryUri {
    /// A folder.
    File(PathBuf),
    /// A place in a bucket. How to reach it stands in flags.
    S3 {
        bucket: String,
        /// Without slashes around it; may be empty.
        prefix: String,
    },
    /// A place in a container of Azure Blob Storage.
    Azure { account: String, container: String, prefix: String },
    /// A place in a bucket of Google Cloud Storage.
    Gcs { bucket: String, prefix: String },
}

impl std::str::FromStr for RepositoryUri {
    type Err = Failure;

    /// The text itself is never repeated in an error, unless it is a path.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::new(Reason::UsageError, format!("the repository's address is wrong: {why}"))
                .with_hint(
                    "Write file:///absolute/path, s3://BUCKET/PREFIX, \
                     azure://ACCOUNT/CONTAINER/PREFIX or gs://BUCKET/PREFIX.",
                )
        };
        if text.starts_with('/') {
            return Err(refuse("it is a path without file://")
                .with_hint(format!("Write file://{text}, with % as %25, ? as %3F and # as %23.")));
        }
        let url = Url::parse(text).map_err(|error| refuse(&why_unreadable(error)))?;
        if !matches!(url.scheme(), "file" | "s3" | "azure" | "gs") {
            return Err(refuse(&format!("{}: is not supported by this release", url.scheme())));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it has no options; write ? as %3F and # as %23"));
        }
        if url.scheme() != "file" {
            return in_bucket(&url, refuse);
        }
        url.to_file_path()
            .map(Self::File)
            .map_err(|()| refuse("the path must be absolute and on this machine"))
    }
}

/// `s3://BUCKET/PREFIX`, `azure://ACCOUNT/CONTAINER/PREFIX`, `gs://BUCKET/PREFIX`.
fn in_bucket(url: &Url, refuse: impl Fn(&str) -> Failure) -> Result<RepositoryUri, Failure> {
    let (keys, endpoint) = match url.scheme() {
        "azure" => ("--azure-credentials-dir FOLDER", "--azure-endpoint"),
        "gs" => ("--gcs-credentials-file FILE", "--gcs-endpoint"),
        _ => ("--s3-credentials-dir FOLDER", "--s3-endpoint"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds keys, which other users of this machine can see")
            .with_hint(format!("Put the keys into files of mode 0600 and give {keys}.")));
    }
    if url.port().is_some() {
        return Err(
            refuse("a bucket has no port").with_hint(format!("Give {endpoint} https://HOST:PORT."))
        );
    }
    let bucket = url.host_str().unwrap_or_default().to_owned();
    if bucket.is_empty() {
        return Err(refuse("it names no bucket"));
    }
    let prefix = percent_decode_str(url.path().trim_matches('/')).decode_utf8();
    let prefix = prefix.map_err(|_| refuse("the prefix is not UTF-8"))?.into_owned();
    Ok(match url.scheme() {
        "azure" => {
            let (container, prefix) = prefix.split_once('/').unwrap_or((&prefix, ""));
            if container.is_empty() {
                return Err(refuse("it names no container"));
            }
            let (container, prefix) = (container.to_owned(), prefix.to_owned());
            RepositoryUri::Azure { account: bucket, container, prefix }
        }
        "gs" => RepositoryUri::Gcs { bucket, prefix },
        _ => RepositoryUri::S3 { bucket, prefix },
    })
}

impl std::fmt::Display for RepositoryUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bucket, prefix) = match self {
            Self::File(path) => return write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } => (format!("s3://{bucket}"), prefix),
            Self::Azure { account, container, prefix } => {
                (format!("azure://{account}/{container}"), prefix)
            }
            Self::Gcs { bucket, prefix } => (format!("gs://{bucket}"), prefix),
        };
        f.write_str(&bucket)?;
        if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
    }
}

/// A server's address. It never holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUri {
    pub(crate) user: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The one database that is meant, if the address names one.
    pub(crate) database: Option<String>,
}

fn why_unreadable(error: ParseError) -> String {
    match error {
        ParseError::RelativeUrlWithoutBase => "it does not say of what kind it is".to_owned(),
        other => other.to_string(),
    }
}

const POSTGRESQL_PORT: u16 = 5432;

impl std::str::FromStr for ServerUri {
    type Err = Failure;

    /// The text itself is never repeated in an error: it might hold a password.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::new(Reason::UsageError, format!("the server's address is wrong: {why}"))
                .with_hint(
                    "Write postgresql://USER@HOST:5432 or postgresql://USER@HOST:5432/DATABASE.",
                )
        };
        let url = Url::parse(text).map_err(|error| refuse(&why_unreadable(error)))?;
        if !matches!(url.scheme(), "postgresql" | "postgres") {
            return Err(refuse(&format!("{}: is not supported by this release", url.scheme())));
        }
        if url.password().is_some() {
            return Err(refuse("it holds a password, which other users of this machine can see")
                .with_hint(
                    "Put the password into a file of mode 0600 and give --password-file FILE.",
                ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("options stand in flags, not behind ? or #"));
        }
        let decoded = |part: &str, name: &str| {
            let text = percent_decode_str(part).decode_utf8();
            text.map(String::from).map_err(|_| refuse(&format!("{name} is not UTF-8")))
        };
        let user = decoded(url.username(), "the user's name")?;
        if user.is_empty() {
            return Err(refuse("it names no user"));
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| refuse("it names no host"))?;
        let host = decoded(host.trim_start_matches('[').trim_end_matches(']'), "the host's name")?;
        let database = decoded(url.path().trim_start_matches('/'), "the database's name")?;
        Ok(Self {
            user,
            host,
            port: url.port().unwrap_or(POSTGRESQL_PORT),
            database: (!database.is_empty()).then_some(database),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_repository() {
        assert_eq!(
            "file:///srv/back%20up".parse::<RepositoryUri>().unwrap(),
            RepositoryUri::File("/srv/back up".into())
        );
        for wrong in ["/srv/backup", "file://elsewhere/x", "ftp://bucket", "file:///x?y=1", ""] {
            let failure = wrong.parse::<RepositoryUri>().unwrap_err();
            assert_eq!(failure.reason, Reason::UsageError, "{wrong}");
        }
    }

    #[test]
    fn a_place_in_a_bucket_is_a_repository() {
        for (text, bucket, prefix, shown) in [
            ("s3://acme", "acme", "", "s3://acme"),
            ("s3://acme/", "acme", "", "s3://acme"),
            ("s3://acme/shop/eu/", "acme", "shop/eu", "s3://acme/shop/eu"),
            ("s3://Old_Bucket/a%20b", "Old_Bucket", "a b", "s3://Old_Bucket/a b"),
        ] {
            let uri = text.parse::<RepositoryUri>().unwrap();
            let expected = RepositoryUri::S3 { bucket: bucket.into(), prefix: prefix.into() };
            assert_eq!((&uri, uri.to_string().as_str()), (&expected, shown));
        }
        for wrong in ["s3://", "s3:///x", "s3:acme", "s3://acme:9000/x", "s3://acme/x?region=y"] {
            assert!(wrong.parse::<RepositoryUri>().is_err(), "{wrong}");
        }
        let failure = "s3://AKIA:hunter2@acme/x".parse::<RepositoryUri>().unwrap_err();
        assert!(!format!("{failure} {}", failure.hint).contains("hunter2"));
        assert!(failure.hint.contains("--s3-credentials-dir"));
    }

    #[test]
    fn a_place_in_a_cloud_is_a_repository() {
        let azure = |prefix: &str| RepositoryUri::Azure {
            account: "acme".into(),
            container: "backups".into(),
            prefix: prefix.into(),
        };
        let gcs =
            |prefix: &str| RepositoryUri::Gcs { bucket: "acme".into(), prefix: prefix.into() };
        for (text, expected, shown) in [
            ("azure://acme/backups", azure(""), "azure://acme/backups"),
            ("azure://acme/backups/shop/eu/", azure("shop/eu"), "azure://acme/backups/shop/eu"),
            ("gs://acme", gcs(""), "gs://acme"),
            ("gs://acme/a%20b", gcs("a b"), "gs://acme/a b"),
        ] {
            let uri = text.parse::<RepositoryUri>().unwrap();
            assert_eq!((&uri, uri.to_string().as_str()), (&expected, shown));
        }
        for (wrong, flag) in [
            ("azure://acme", ""),
            ("azure://acme:hunter2@x/y", "--azure-credentials-dir"),
            ("gs://x:443/y", "--gcs-endpoint"),
            ("gs://me:hunter2@x/y", "--gcs-credentials-file"),
        ] {
            let failure = wrong.parse::<RepositoryUri>().unwrap_err();
            assert!(!format!("{failure} {}", failure.hint).contains("hunter2"), "{wrong}");
            assert!(failure.hint.contains(flag), "{wrong}: {}", failure.hint);
        }
    }

    #[test]
    fn a_server_has_user_host_port_and_perhaps_a_database() {
        let server: ServerUri =
            "postgresql://backup%40x@db.example:6432/my-d%C3%A9pot".parse().unwrap();
        assert_eq!(server.user, "backup@x");
        assert_eq!((server.host.as_str(), server.port), ("db.example", 6432));
        assert_eq!(server.database.as_deref(), Some("my-dépot"));
        let plain: ServerUri = "postgres://me@[::1]".parse().unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.database), ("::1", 5432, None));
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let failure = "postgresql://me:hunter2@db".parse::<ServerUri>().unwrap_err();
        assert!(!failure.to_string().contains("hunter2"));
        assert!(failure.hint.contains("--password-file"));
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for wrong in
            ["mysql://me@db", "postgresql://db", "postgresql://me@db?sslmode=require", "db:5432"]
        {
            assert!(wrong.parse::<ServerUri>().is_err(), "{wrong}");
        }
    }
}
