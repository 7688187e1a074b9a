//! Names of streams: the same table has the same name in every backup.
//!
//! What comes from the server is percent-encoded and stands between fixed
//! parts; an encoded part never holds `/`, so two different tables never share
//! a name.

use std::fmt::Write as _;

/// `name` with everything but letters, digits, `-`, `_` and `.` percent-encoded.
///
/// Nothing reads these names as paths, but `.` and `..` are encoded all the same.
pub(crate) fn encoded(name: &str) -> String {
    let only_dots = name.bytes().all(|byte| byte == b'.');
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
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

/// What the names of all streams of a database begin with.
pub(crate) fn database_prefix(database: &str) -> String {
    format!("databases/{}/", encoded(database))
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
        fn different_names_stay_different(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
        }
    }
}
