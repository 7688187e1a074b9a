//! Listing: page by page, each asked for when the one before was read.

use std::time::SystemTime;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use dbbackup_storage::{Error, ErrorKind, Listing, ObjectInfo, Operation, Repeater, Result};
use futures::StreamExt as _;
use futures::stream;
use percent_encoding::percent_decode_str;

use crate::bucket::Bucket;
use crate::probe::PROBE;

/// Where a listing stands.
enum Page {
    First,
    After(String),
    End,
}

/// Objects whose name begins with `prefix`. A page, of at most a thousand objects,
/// is asked for again where that may help: nobody has seen a part of it yet.
pub(crate) fn list<'a>(bucket: &'a Bucket, repeater: &'a Repeater, prefix: &str) -> Listing<'a> {
    let prefix = prefix.to_owned();
    stream::unfold((Page::First, prefix), move |(page, prefix)| async move {
        let token = match page {
            Page::First => None,
            Page::After(token) => Some(token),
            Page::End => return None,
        };
        let asked = repeater.repeat(|_| one_page(bucket, &prefix, token.clone())).await;
        let (objects, next) = match asked.and_then(|answer| read(bucket, &prefix, &answer)) {
            // A server that gives the same page for ever is not followed for ever.
            Ok((_, Some(next))) if Some(&next) == token.as_ref() => {
                (vec![Err(endless(&prefix))], Page::End)
            }
            Ok((objects, next)) => {
                (objects.into_iter().map(Ok).collect(), next.map_or(Page::End, Page::After))
            }
            Err(error) => (vec![Err(error)], Page::End),
        };
        Some((stream::iter(objects), (next, prefix)))
    })
    .flatten()
    .boxed()
}

async fn one_page(
    bucket: &Bucket,
    prefix: &str,
    token: Option<String>,
) -> Result<ListObjectsV2Output> {
    let request = bucket
        .list(prefix)
        // Keys of others may hold what XML cannot.
        .encoding_type(EncodingType::Url)
        .set_continuation_token(token);
    let answered = bucket.answer(0, request.send()).await;
    answered.map_err(|failed| bucket.failure(failed, Operation::List, prefix))
}

/// The objects of a page, and where the next one begins.
fn read(
    bucket: &Bucket,
    prefix: &str,
    page: &ListObjectsV2Output,
) -> Result<(Vec<ObjectInfo>, Option<String>)> {
    let encoded = page.encoding_type() == Some(&EncodingType::Url);
    let mut objects = Vec::with_capacity(page.contents().len());
    for object in page.contents() {
        let key = decoded(object.key().unwrap_or_default(), encoded);
        let Some(name) = key.strip_prefix(&bucket.prefix) else {
            let detail = format!("the server lists {key:?}, which was not asked for");
            return Err(Error::new(ErrorKind::Unsuitable, Operation::List, prefix, detail));
        };
        // What some clients put there so that the prefix looks like a folder.
        if name.is_empty() || name == PROBE {
            continue;
        }
        let modified = object.last_modified().and_then(|at| SystemTime::try_from(*at).ok());
        objects.push(ObjectInfo {
            name: name.to_owned(),
            size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
        });
    }
    if page.is_truncated() != Some(true) {
        return Ok((objects, None));
    }
    match page.next_continuation_token() {
        Some(token) => Ok((objects, Some(token.to_owned()))),
        None => Err(endless(prefix)),
    }
}

/// Undoes the encoding of a listing, which is that of forms.
fn decoded(key: &str, encoded: bool) -> String {
    if !encoded {
        return key.to_owned();
    }
    let spaced = key.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

fn endless(prefix: &str) -> Error {
    let detail = "the server says that there is more, and not where";
    Error::new(ErrorKind::Unsuitable, Operation::List, prefix, detail)
}
