//! A memory and its vector as JSON.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use k8sops_core::{EmbeddingVector, StoreError, UserMemory};

#[derive(Serialize, Deserialize)]
struct MemoryRecord {
    memory: UserMemory,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<VectorRecord>,
}

#[derive(Serialize, Deserialize)]
struct VectorRecord {
    model: String,
    /// Little-endian 32-bit floats, in base64.
    values: String,
}

/// Encodes a memory and its vector.
pub(crate) fn encode_memory(memory: &UserMemory, vector: Option<&EmbeddingVector>) -> Result<Vec<u8>, StoreError> {
    let vector = vector.map(|vector| VectorRecord {
        model: vector.model.to_string(),
        values: BASE64_STANDARD.encode(vector_to_bytes(&vector.values)),
    });
    serde_json::to_vec(&MemoryRecord { memory: memory.clone(), vector })
        .map_err(|error| StoreError::corrupt("a memory", error))
}

/// Decodes a memory and its vector. A vector that cannot be decoded is dropped, because it can be computed again.
pub(crate) fn decode_memory(bytes: &[u8]) -> Result<(UserMemory, Option<EmbeddingVector>), StoreError> {
    let record: MemoryRecord = serde_json::from_slice(bytes).map_err(|error| StoreError::corrupt("a memory", error))?;
    let vector = record.vector.and_then(|vector| {
        let values = vector_from_bytes(&BASE64_STANDARD.decode(vector.values).ok()?)?;
        Some(EmbeddingVector { model: vector.model.into(), values })
    });
    Ok((record.memory, vector))
}

/// The values of a vector as little-endian bytes.
pub(crate) fn vector_to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The values of a vector from little-endian bytes; `None` if there are none, or the last one is incomplete.
pub(crate) fn vector_from_bytes(bytes: &[u8]) -> Option<Arc<[f32]>> {
    let (values, rest) = bytes.as_chunks::<4>();
    let is_complete = rest.is_empty() && !values.is_empty();
    is_complete.then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}
