//! Deserialization of optional fields that some servers fill with values of the wrong type: token counts, indices, ids.
//! A reply is complete without them.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// Deserializes a field, or returns `None` if its value has the wrong type. Used as `#[serde(default, deserialize_with
/// = "…")]`.
pub(crate) fn deserialize_or_none<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}
