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

/// Deserializes a list, or a single value where a list of one is meant.
pub(crate) fn deserialize_one_or_many<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let values = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::Array(values) => values,
        value => vec![value],
    };
    values.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map(Some).map_err(serde::de::Error::custom)
}
