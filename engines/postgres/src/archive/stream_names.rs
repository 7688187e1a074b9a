//! Names of streams: the same table has the same name in every backup.
//!
//! What comes from the server is percent-encoded and stands between fixed
//! parts; an encoded part never holds `/`, so two different tables never share
//! a name.

use std::fmt::Write as _;

/// `name` with everything but letters, digits, `-`, `_` and `.` percent-encoded,
/// byte by byte: a database's encoding may be another than UTF-8.
///
/// Nothing reads these names as paths, but `.` and `..` are encoded all the same.
pub(crate) fn encoded(name: impl AsRef<[u8]>) -> String {
    let name = name.as_ref();
    let only_dots = name.iter().all(|byte| *byte == b'.');
    let mut text = String::with_capacity(name.len());
    for &byte in name {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if plain || byte == b'.' && !only_dots {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A path with each of its parts encoded.
pub(crate) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// The path that [`encoded_path`] was given; `None` where it cannot have written this, or the path
/// could lead elsewhere.
pub(crate) fn decoded_path(text: &str) -> Option<String> {
    let is_plain =
        |part: &str| !part.is_empty() && !matches!(part, "." | "..") && !part.contains(['/', '\0']);
    let part = |text| String::from_utf8(decoded(text)?).ok().filter(|part| is_plain(part));
    let parts: Option<Vec<_>> = text.split('/').map(part).collect();
    Some(parts?.join("/"))
}

/// `name` for people: as it is where it is UTF-8, else as in the streams' names.
pub(crate) fn shown(name: &[u8]) -> String {
    std::str::from_utf8(name).map_or_else(|_| encoded(name), str::to_owned)
}

/// What the names of all streams of a database begin with.
pub(crate) fn database_prefix(database: &str) -> String {
    format!("databases/{}/", encoded(database))
}

/// The database that a stream belongs to, as people write it; `None` for what
/// belongs to the whole server, and for streams that are not ours.
#[must_use]
pub fn database_of_stream(stream: &str) -> Option<String> {
    let (database, _) = stream.strip_prefix("databases/")?.split_once('/')?;
    Some(shown(&decoded(database)?))
}

/// The bytes that [`encoded`] was given; `None` where it cannot have written this.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_encoded_and_never_a_path() {
        assert_eq!(encoded("Großer \"Hut\"/x"), "Gro%C3%9Fer%20%22Hut%22%2Fx");
        assert_eq!(encoded(".."), "%2E%2E");
        assert_eq!(encoded("v1.2-a_b"), "v1.2-a_b");
    }

    proptest! {
        #[test]
        fn a_stream_tells_its_database(name in ".{1,20}", other in ".{0,20}") {
            let stream = format!("{}tables/x", database_prefix(&name));
            prop_assert_eq!(database_of_stream(&stream), Some(name));
            let _ = database_of_stream(&format!("databases/{other}"));
            prop_assert_eq!(database_of_stream("globals.json"), None);
        }

        #[test]
        fn different_names_stay_different(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
        }

        #[test]
        fn bytes_of_other_encodings_stay_different(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
        }
    }
}
