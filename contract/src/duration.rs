//! Durations as people write them: `90s`, `15m`, `1h30m`, `7d`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Shortest time between the two steps in which a repository's space is freed: who began
/// to write before the first must be seen by the second.
pub const SHORTEST_GRACE: Duration = Duration::from_secs(600);

/// A duration in text. Units are `ms`, `s`, `m`, `h` and `d`, where a day has 24 hours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(String);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "{text:?} is no duration: write a number and a unit, such as 90s, 15m, 1h30m or 7d"
        )
    }
}

impl std::error::Error for DurationError {}

impl DurationText {
    /// What the CRDs' schema demands.
    pub const PATTERN: &str = r"^([0-9]{1,6}(ms|s|m|h|d))+$";

    /// Takes the text as it is; [`Self::parse`] says whether it is a duration.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The duration.
    ///
    /// # Errors
    /// The text is not of the form that the schema demands.
    pub fn parse(&self) -> Result<Duration, DurationError> {
        let error = || DurationError(self.0.clone());
        let mut rest = self.0.as_str();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            if !(1..=6).contains(&digits) {
                return Err(error());
            }
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            total += match &rest[..unit] {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(number * 60),
                "h" => Duration::from_secs(number * 3600),
                "d" => Duration::from_secs(number * 86_400),
                _ => return Err(error()),
            };
            rest = &rest[unit..];
        }
        Ok(total)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "maxLength": 32, "pattern": Self::PATTERN})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("1500ms", 1)]
        {
            assert_eq!(DurationText::new(text).parse().unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in ["", "5", "m", "5 m", "-5m", "1.5h", "5M", "5w", "1234567s", "5m3"] {
            let error = DurationText::new(text).parse().unwrap_err();
            assert!(error.to_string().contains("15m"), "{error}");
        }
    }
}
