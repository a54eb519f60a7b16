//! How values are written in Redis: as JSON, in fields of hashes and of stream entries.

use redis::{FromRedisValue, ParsingError, Value};
use serde::{Serialize, de::DeserializeOwned};

use k8sops_core::StoreError;

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have string keys and no failing Serialize")
}

/// Parses JSON that was read from Redis; `what` says what it is.
pub(super) fn parse_json<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::corrupt(what, error))
}

/// An entry of a stream: its id and its fields.
pub(super) struct StreamEntry {
    id: String,
    fields: Vec<(String, String)>,
}

impl FromRedisValue for StreamEntry {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, fields) = redis::from_redis_value(value)?;
        Ok(Self { id, fields })
    }
}

impl StreamEntry {
    pub(super) fn field(&self, name: &str) -> Result<&str, StoreError> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| StoreError::Corrupt(format!("stream entry {} has no field {name:?}", self.id).into()))
    }

    /// A field that older versions did not write.
    pub(super) fn optional_field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The bytes of all values.
    pub(super) fn value_bytes(&self) -> usize {
        self.fields.iter().map(|(_, value)| value.len()).sum()
    }

    /// The number in the id of the entry.
    pub(super) fn position(&self) -> Result<u64, StoreError> {
        let number = self.id.split_once('-').and_then(|(number, _)| number.parse().ok());
        number.ok_or_else(|| StoreError::Corrupt(format!("stream entry has an invalid id {:?}", self.id).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_entry_is_read_by_field() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let value = Value::Array(vec![text("12-0"), Value::Array(vec![text("e"), text("{}")])]);
        let entry = StreamEntry::from_redis_value(value).unwrap();
        assert_eq!((entry.position().unwrap(), entry.field("e").unwrap()), (12, "{}"));
        let error = entry.field("command").unwrap_err().to_string();
        assert!(error.contains("stream entry 12-0 has no field \"command\""), "{error}");
    }
}
