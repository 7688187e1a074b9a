//! The store: each promise of the contract as a request.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_storage::{
    AskedRange, Capabilities, Checksums, CreateIfAbsent, Creation, Error, ErrorKind, Listing,
    MAX_OBJECT_BYTES, ObjectInfo, Operation, Repeater, Result, Store, validate_name,
    validate_prefix, validate_size,
};
use futures::{StreamExt as _, stream};
use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method};
use object_store::client::HttpRequest;

use crate::client::{Answer, Http};
use crate::failure::Failed;
use crate::options::{CloudOptions, Place};
use crate::service::{Page, Seen, Service};
use crate::{azure, gcs};

/// The object that is tried at opening. It stays: who may create may not delete. No
/// object of ours can have this name, since it has a dot.
const PROBE: &str = ".dbbackup-probe";
const PROBED: &[u8] = b"dbbackup tries here whether this service replaces what exists\n";

/// Longest page of a listing, in bytes.
const MAX_PAGE: usize = 16 * 1024 * 1024;
/// Longest answer about one object, in bytes.
const MAX_WORDS: usize = 64 * 1024;

/// A store in a container of Azure Blob Storage or a bucket of Google Cloud Storage.
#[derive(Debug)]
pub struct CloudStore {
    service: Box<dyn Service>,
    http: Http,
    /// What every key begins with; it ends with a slash, or is empty.
    prefix: String,
    shown: String,
    writable: bool,
    repeater: Repeater,
}

impl CloudStore {
    /// Opens a bucket, which has to exist, and makes sure that it creates only what
    /// does not exist. For reading only, the listing is tried instead.
    ///
    /// # Errors
    /// `Misconfigured` where the options are wrong; `PermissionDenied`;
    /// `Unavailable`; `Unsuitable` where it replaces what exists.
    pub async fn open(options: CloudOptions) -> Result<Self> {
        options.validate()?;
        let shown = options.shown();
        let wrong = |why| options.wrong(why);
        let http = Http::new(options.ca_pem.as_deref(), options.limits).map_err(wrong)?;
        let service: Box<dyn Service> = match &options.place {
            Place::Azure(place) => {
                Box::new(azure::Azure::new(place, options.endpoint.as_deref()).map_err(wrong)?)
            }
            Place::Gcs(place) => {
                Box::new(gcs::Gcs::new(place, options.endpoint.as_deref()).map_err(wrong)?)
            }
        };
        let prefix = match options.prefix {
            prefix if prefix.is_empty() => prefix,
            prefix => prefix + "/",
        };
        let repeater = Repeater::scattered(options.retry);
        let store = Self { service, http, prefix, shown, writable: options.writable, repeater };
        if store.writable {
            store.repeater.repeat(|_| store.probe()).await?;
        } else {
            store.objects("", None).await?;
        }
        Ok(store)
    }

    /// Creates one object twice; where it is there from before, one request tells all.
    async fn probe(&self) -> Result<()> {
        for _ in 0..2 {
            let created = self.put(PROBE, &Bytes::from_static(PROBED)).await;
            if created.map_err(|failed| failed.of(Operation::Open, &self.shown))?
                == Creation::Exists
            {
                return Ok(());
            }
        }
        let detail = "it replaces what exists, though it is asked not to";
        Err(Error::new(ErrorKind::Unsuitable, Operation::Open, &self.shown, detail))
    }

    fn may_write(&self, operation: Operation, name: &str) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Error::read_only(operation, name)) }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Signs and sends a request.
    async fn send(&self, mut request: HttpRequest) -> std::result::Result<Answer, Failed> {
        self.service.sign(&mut request).await?;
        self.http.send(request).await.map_err(|failed| match failed {
            Err(failed) => failed,
            Ok((status, headers, body)) => {
                let said = self.service.said(&headers, &body);
                let meaning = self.service.meaning(status, &said);
                Failed::answered(status, &headers, said, meaning)
            }
        })
    }

    /// A failure of this operation, which names the bucket where it is about that.
    fn failure(&self, failed: Failed, operation: Operation, name: &str) -> Error {
        let name = if name.is_empty() { "the objects" } else { name };
        match failed.kind {
            ErrorKind::Misconfigured | ErrorKind::PermissionDenied => {
                failed.of(operation, format!("{name} in {}", self.shown))
            }
            _ => failed.of(operation, name),
        }
    }

    async fn put(&self, name: &str, bytes: &Bytes) -> std::result::Result<Creation, Failed> {
        let request = self.service.create(&self.key(name), bytes.clone());
        let failed = match self.send(request).await {
            // Its few words are read, so that the connection can be used again.
            Ok(answer) => {
                return self.http.body(answer, MAX_WORDS).await.map(|_| Creation::Created);
            }
            Err(failed) => failed,
        };
        match failed.kind {
            _ if self.service.is_exists(&failed) => Ok(Creation::Exists),
            // Who may create and not replace may be told that alone.
            ErrorKind::PermissionDenied if self.look(name).await.is_ok() => Ok(Creation::Exists),
            // Only what is read can be missing; here it is what holds the objects.
            ErrorKind::NotFound => Err(Failed { kind: ErrorKind::Misconfigured, ..failed }),
            _ => Err(failed),
        }
    }

    async fn look(&self, name: &str) -> std::result::Result<Seen, Failed> {
        let request = self.service.look(&self.key(name));
        // The answer to a HEAD has no body, and gives the object's length as its own.
        let has_body = request.method() != Method::HEAD;
        let answer = self.send(request).await?;
        let headers = answer.headers.clone();
        let body = match has_body {
            true => self.http.body(answer, MAX_WORDS).await?,
            false => Bytes::new(),
        };
        self.service.seen(&headers, &body).ok_or_else(|| {
            Failed::new(ErrorKind::Unsuitable, "the server does not say its size and time")
        })
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let failure = |failed: Failed| {
            // What is missing is what holds the objects.
            let kind = match failed.kind {
                ErrorKind::NotFound => ErrorKind::Misconfigured,
                kind => kind,
            };
            self.failure(Failed { kind, ..failed }, Operation::List, prefix)
        };
        let answer = self.send(self.service.list(&self.key(prefix), token)).await;
        let body = self.http.body(answer.map_err(failure)?, MAX_PAGE).await.map_err(failure)?;
        self.service.page(&body).map_err(|why| {
            failure(Failed::new(ErrorKind::Unsuitable, format!("the listing is none: {why}")))
        })
    }

    /// The objects of a page under our names, and where the next one begins.
    async fn objects(
        &self,
        prefix: &str,
        token: Option<&str>,
    ) -> Result<(Vec<ObjectInfo>, Option<String>)> {
        let page = self.repeater.repeat(|_| self.page(prefix, token)).await?;
        let unsuitable =
            |detail: String| Error::new(ErrorKind::Unsuitable, Operation::List, prefix, detail);
        let mut objects = Vec::with_capacity(page.objects.len());
        for (key, seen) in page.objects {
            let Some(name) = key.strip_prefix(&self.prefix) else {
                return Err(unsuitable(format!(
                    "the server lists {key:?}, which was not asked for"
                )));
            };
            // What some clients put there so that the prefix looks like a folder.
            if name.is_empty() || name == PROBE {
                continue;
            }
            let Seen { size, modified } = seen;
            objects.push(ObjectInfo { name: name.to_owned(), size, modified });
        }
        // A server that gives the same page for ever is not followed for ever.
        if page.next.is_some() && page.next.as_deref() == token {
            return Err(unsuitable("the server says that there is more, and not where".to_owned()));
        }
        Ok((objects, page.next))
    }
}

#[async_trait]
impl Store for CloudStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        validate_name(Operation::Create, name)?;
        validate_size(name, &bytes)?;
        self.may_write(Operation::Create, name)?;
        let created = self.put(name, &bytes).await;
        created.map_err(|failed| self.failure(failed, Operation::Create, name))
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        validate_name(Operation::Read, name)?;
        let failure = |failed| self.failure(failed, Operation::Read, name);
        let answer = self.send(self.service.read(&self.key(name))).await.map_err(failure)?;
        self.http.body(answer, MAX_OBJECT_BYTES).await.map_err(failure)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        validate_name(Operation::Read, name)?;
        let asked = AskedRange::new(name, range)?;
        if asked.length() == 0 {
            return asked.nothing_of(self.head(name).await?.size);
        }
        let failure = |failed| self.failure(failed, Operation::Read, name);
        let mut request = self.service.read(&self.key(name));
        let header = HeaderValue::from_str(&asked.header());
        request.headers_mut().extend(header.ok().map(|header| (RANGE, header)));
        let answer = self.send(request).await.map_err(failure)?;
        let given = answer.headers.get(CONTENT_RANGE).and_then(|given| given.to_str().ok());
        let given = given.unwrap_or_default().to_owned();
        asked.begins(&given)?;
        let bytes = self.http.body(answer, asked.length()).await.map_err(failure)?;
        asked.whole(&given, bytes)
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        validate_name(Operation::Head, name)?;
        let seen = self.look(name).await;
        let seen = seen.map_err(|failed| self.failure(failed, Operation::Head, name))?;
        let Seen { size, modified } = seen;
        Ok(ObjectInfo { name: name.to_owned(), size, modified })
    }

    /// A page is asked for again where that may help: nobody has seen a part of it yet.
    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        if let Err(error) = validate_prefix(prefix) {
            return stream::iter([Err(error)]).boxed();
        }
        let prefix = prefix.to_owned();
        // `None`: the last page was read. `Some(None)`: the first was not.
        stream::unfold((Some(None::<String>), prefix), move |(at, prefix)| async move {
            let token = at?;
            let (objects, next) = match self.objects(&prefix, token.as_deref()).await {
                Ok((objects, next)) => (objects.into_iter().map(Ok).collect(), next.map(Some)),
                Err(error) => (vec![Err(error)], None),
            };
            Some((stream::iter(objects), (next, prefix)))
        })
        .flatten()
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<()> {
        validate_name(Operation::Delete, name)?;
        self.may_write(Operation::Delete, name)?;
        let answered = self.send(self.service.delete(&self.key(name))).await;
        let done = match answered {
            Ok(answer) => self.http.body(answer, MAX_WORDS).await.map(drop),
            Err(failed) if failed.kind == ErrorKind::NotFound => Ok(()),
            Err(failed) => Err(failed),
        };
        done.map_err(|failed| self.failure(failed, Operation::Delete, name))
    }

    fn capabilities(&self) -> Capabilities {
        // Checksums are not sent: TLS guards what is on its way, and what is read is
        // compared with the repository's own digests.
        Capabilities {
            create_if_absent: CreateIfAbsent::Obeyed,
            checksums: Checksums::NotSent,
            lock: None,
            network: true,
        }
    }
}
