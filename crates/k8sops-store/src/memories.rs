//! What the stores have in common for memories: how one is written down as JSON, and what is held in memory of a user's.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::scan::Scan;
use k8sops_core::{
    EmbeddingChange, EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryId, MemoryVersion, StoreError, StoredMemory,
    Timestamp, UserMemories, UserMemory,
};

/// Values to multiply from which on a search is done aside: about a millisecond.
const LONG_SCAN: usize = 2_000_000;

#[derive(Serialize, Deserialize)]
struct Record {
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

/// A memory and its vector as bytes.
pub(super) fn written(memory: &UserMemory, vector: Option<&EmbeddingVector>) -> Result<Vec<u8>, StoreError> {
    let vector = vector.map(|vector| VectorRecord {
        model: vector.model.to_string(),
        values: BASE64_STANDARD.encode(to_bytes(&vector.values)),
    });
    serde_json::to_vec(&Record { memory: memory.clone(), vector })
        .map_err(|error| StoreError::corrupt("a memory", error))
}

/// A memory and its vector from their bytes. A vector that cannot be read is made anew; the memory is not lost for it.
pub(super) fn read(bytes: &[u8]) -> Result<(UserMemory, Option<EmbeddingVector>), StoreError> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| StoreError::corrupt("a memory", error))?;
    let vector = record.vector.and_then(|vector| {
        let values = from_bytes(&BASE64_STANDARD.decode(vector.values).ok()?)?;
        Some(EmbeddingVector { model: vector.model.into(), values })
    });
    Ok((record.memory, vector))
}

/// Values as little-endian bytes.
pub(super) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Values of their bytes; `None` when they are none.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Arc<[f32]>> {
    let (values, rest) = bytes.as_chunks::<4>();
    let all_there = rest.is_empty() && !values.is_empty();
    all_there.then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// What is held of a user's memories.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) version: MemoryVersion,
    memories: BTreeMap<MemoryId, Arc<StoredMemory>>,
    /// The vectors, where the store itself searches them.
    vectors: Scan,
    /// What was last given out, until something changes.
    given: Option<UserMemories>,
}

impl Shelf {
    /// The memories, cheap unless something has changed.
    pub(super) fn memories(&mut self) -> UserMemories {
        let all = || self.memories.values().cloned().collect();
        self.given.get_or_insert_with(|| UserMemories { version: self.version, all: all() }).clone()
    }

    /// The version after the next write to `version`.
    pub(super) fn after(version: MemoryVersion) -> MemoryVersion {
        // 53 bits, which every reader of numbers can hold.
        let epoch = if version.epoch == 0 { fastrand::u64(1..1 << 53) } else { version.epoch };
        MemoryVersion { epoch, writes: version.writes + 1 }
    }

    /// The vector that a memory has after a change.
    pub(super) fn vector_after(&self, change: &MemoryChange) -> Option<EmbeddingVector> {
        match &change.embedding {
            _ if change.memory.superseded_by.is_some() => None,
            EmbeddingChange::Keep => self.vectors.get(change.memory.id),
            EmbeddingChange::Clear => None,
            EmbeddingChange::Set(vector) => Some(vector.clone()),
        }
    }

    /// Sets a memory and its vector.
    pub(super) fn set(&mut self, memory: UserMemory, vector: Option<&EmbeddingVector>) {
        match vector {
            Some(vector) => self.vectors.put(memory.id, vector, memory.valid_until()),
            None => self.vectors.remove(memory.id),
        }
        self.set_apart(memory, vector.map(EmbeddingVector::space));
    }

    /// Sets a memory whose vector is searched elsewhere.
    pub(super) fn set_apart(&mut self, memory: UserMemory, space: Option<EmbeddingSpace>) {
        self.given = None;
        self.memories.insert(memory.id, Arc::new(StoredMemory { memory, space }));
    }

    /// Makes a change, and counts no write.
    pub(super) fn change(&mut self, change: &MemoryChange) {
        let id = change.memory.id;
        if change.embedding == EmbeddingChange::Keep && change.memory.superseded_by.is_none() {
            self.vectors.holds(id, change.memory.valid_until());
            let space = self.memories.get(&id).and_then(|stored| stored.space.clone());
            self.set_apart(change.memory.clone(), space);
        } else {
            let vector = self.vector_after(change);
            self.set(change.memory.clone(), vector.as_ref());
        }
    }

    pub(super) fn remove(&mut self, id: MemoryId) -> bool {
        self.given = None;
        self.vectors.remove(id);
        self.memories.remove(&id).is_some()
    }

    /// Says up to which write the memories are known.
    pub(super) fn is_at(&mut self, version: MemoryVersion) {
        self.given = None;
        self.version = version;
    }

    pub(super) fn len(&self) -> usize {
        self.memories.len()
    }

    pub(super) fn space_of(&self, id: MemoryId) -> Option<&EmbeddingSpace> {
        self.memories.get(&id)?.space.as_ref()
    }

    pub(super) fn nearest(&self, to: &EmbeddingVector, limit: usize) -> Vec<(MemoryId, f32)> {
        self.vectors.nearest(to, limit, Timestamp::now())
    }

    /// Whether a search takes long.
    pub(super) fn is_long(&self) -> bool {
        self.vectors.size() > LONG_SCAN
    }
}

/// The nearest on a shelf; aside, when it takes long.
pub(super) async fn nearest(
    shelf: Arc<Mutex<Shelf>>,
    to: &EmbeddingVector,
    limit: usize,
) -> Result<Vec<(MemoryId, f32)>, StoreError> {
    let lock = |shelf: &Mutex<Shelf>, work: &dyn Fn(&Shelf) -> Vec<(MemoryId, f32)>| work(&shelf.lock());
    if !shelf.lock().is_long() {
        return Ok(lock(&shelf, &|shelf| shelf.nearest(to, limit)));
    }
    let to = to.clone();
    let searched = tokio::task::spawn_blocking(move || lock(&shelf, &|shelf| shelf.nearest(&to, limit))).await;
    searched.map_err(|error| StoreError::unavailable("the search was aborted", error))
}
