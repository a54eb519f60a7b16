//! How a memory is written down by the stores that write: JSON, with the vector as base64 of its bytes.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::session::{Memory, StoreError, StoredMemory, Vector};

#[derive(Serialize, Deserialize)]
struct Record {
    memory: Memory,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<VectorRecord>,
}

#[derive(Serialize, Deserialize)]
struct VectorRecord {
    model: String,
    /// Little-endian 32-bit floats.
    values: String,
}

/// A memory as bytes.
pub(super) fn written(stored: &StoredMemory) -> Result<Vec<u8>, StoreError> {
    let vector = stored.vector.as_ref().map(|vector| VectorRecord {
        model: vector.model.clone(),
        values: BASE64_STANDARD.encode(vector.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
    });
    let record = Record { memory: stored.memory.clone(), vector };
    serde_json::to_vec(&record).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A memory from its bytes. A vector that cannot be read is made anew; the memory is not lost for it.
pub(super) fn read(bytes: &[u8]) -> Result<StoredMemory, StoreError> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt(format!("a memory: {error}")))?;
    let vector = record.vector.and_then(|vector| {
        let bytes = BASE64_STANDARD.decode(vector.values).ok().filter(|bytes| bytes.len() % 4 == 0)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Some(Vector { model: vector.model, values: values.collect::<Vec<_>>().into() })
    });
    Ok(StoredMemory { memory: record.memory, vector })
}

/// Memories in the order of their ids.
pub(super) fn sorted(mut memories: Vec<StoredMemory>) -> Arc<[StoredMemory]> {
    memories.sort_by_key(|stored| stored.memory.id);
    memories.into()
}
