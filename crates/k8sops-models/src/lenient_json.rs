//! Reading fields that some servers fill with something else than the protocol says, and without which a reply is whole all
//! the same: counts of tokens, indices, ids.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// The field, or nothing where it is of another kind. For `#[serde(default, deserialize_with = "…")]`.
pub(crate) fn deserialize_or_none<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}
