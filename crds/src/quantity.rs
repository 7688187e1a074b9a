//! Kubernetes quantities, as a string or a number.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A Kubernetes quantity: `500m`, `1`, `256Mi`.
///
/// The API server takes `cpu: 1` as well as `cpu: "1"`, so both are read here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quantity: write a number and a unit, such as 500m, 2 or 256Mi")]
pub struct QuantityError(String);

impl Quantity {
    /// What the CRDs' schema demands; the same as Kubernetes' own.
    pub const PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

    /// The whole units of the quantity, rounded up: bytes of memory, for instance.
    ///
    /// # Errors
    /// The text is no quantity, or negative.
    pub fn units(&self) -> Result<u64, QuantityError> {
        let error = || QuantityError(self.0.clone());
        let text = self.0.strip_prefix('+').unwrap_or(&self.0);
        const SUFFIXES: [(&str, f64); 14] = [
            ("Ki", 1024.0),
            ("Mi", 1_048_576.0),
            ("Gi", 1_073_741_824.0),
            ("Ti", 1_099_511_627_776.0),
            ("Pi", 1_125_899_906_842_624.0),
            ("n", 1e-9),
            ("u", 1e-6),
            ("m", 1e-3),
            ("k", 1e3),
            ("M", 1e6),
            ("G", 1e9),
            ("T", 1e12),
            ("P", 1e15),
            ("", 1.0),
        ];
        let (number, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
            .ok_or_else(error)?;
        let value = number.parse::<f64>().map_err(|_| error())? * factor;
        if !value.is_finite() || !(0.0..=9e18).contains(&value) {
            return Err(error());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        Ok(value.ceil() as u64)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(serde_json::Number),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => Self(text),
            Either::Number(number) => Self(number.to_string()),
        })
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": Self::PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_rounded_up() {
        for (text, units) in [
            ("256Mi", 268_435_456),
            ("1", 1),
            ("500m", 1),
            ("1G", 1_000_000_000),
            ("1e3", 1000),
            ("0", 0),
        ] {
            assert_eq!(Quantity(text.into()).units().unwrap(), units, "{text}");
        }
        for text in ["", "Mi", "-1", "1 Gi"] {
            assert!(Quantity(text.into()).units().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_is_read_like_its_text() {
        let both: Vec<Quantity> = serde_json::from_str(r#"[1, "1"]"#).unwrap();
        assert_eq!(both[0], both[1]);
    }
}
