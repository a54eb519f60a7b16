//! The memories of one user in the memory of the process.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::vector_index::ExactVectorIndex;
use k8sops_core::{
    EmbeddingChange, EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryId, MemoryVersion, StoreError, StoredMemory,
    Timestamp, UserMemories, UserMemory,
};

/// From this many values on, a search runs on a thread that may block: it takes about a millisecond.
const BLOCKING_SEARCH_VALUES: usize = 2_000_000;

/// The memories of one user.
#[derive(Debug, Default)]
pub(crate) struct UserMemorySet {
    pub(crate) version: MemoryVersion,
    memories: BTreeMap<MemoryId, Arc<StoredMemory>>,
    /// The vectors, if the process itself searches them.
    vectors: ExactVectorIndex,
    /// The last snapshot, until something changes.
    snapshot: Option<UserMemories>,
}

impl UserMemorySet {
    /// All memories. Cheap unless something has changed since the last call.
    pub(crate) fn snapshot(&mut self) -> UserMemories {
        let all = || self.memories.values().cloned().collect();
        self.snapshot.get_or_insert_with(|| UserMemories { version: self.version, all: all() }).clone()
    }

    /// The version after the next write to `version`.
    pub(crate) fn next_version(version: MemoryVersion) -> MemoryVersion {
        // 53 bits are exact in every JSON and Lua implementation.
        let epoch = if version.epoch == 0 { fastrand::u64(1..1 << 53) } else { version.epoch };
        MemoryVersion { epoch, writes: version.writes + 1 }
    }

    /// The vector that a memory has after a change.
    pub(crate) fn vector_after_change(&self, change: &MemoryChange) -> Option<EmbeddingVector> {
        match &change.embedding {
            _ if change.memory.superseded_by.is_some() => None,
            EmbeddingChange::Keep => self.vectors.get(change.memory.id),
            EmbeddingChange::Clear => None,
            EmbeddingChange::Set(vector) => Some(vector.clone()),
        }
    }

    /// Inserts a memory and its vector.
    pub(crate) fn insert_memory(&mut self, memory: UserMemory, vector: Option<&EmbeddingVector>) {
        match vector {
            Some(vector) => self.vectors.insert(memory.id, vector, memory.valid_until()),
            None => self.vectors.remove(memory.id),
        }
        self.insert_without_vector(memory, vector.map(EmbeddingVector::space));
    }

    /// Inserts a memory whose vector is unchanged, or is searched elsewhere.
    pub(crate) fn insert_without_vector(&mut self, memory: UserMemory, space: Option<EmbeddingSpace>) {
        self.snapshot = None;
        self.memories.insert(memory.id, Arc::new(StoredMemory { memory, space }));
    }

    /// Applies a change, and leaves the version as it is.
    pub(crate) fn apply_change(&mut self, change: &MemoryChange) {
        let id = change.memory.id;
        if change.embedding == EmbeddingChange::Keep && change.memory.superseded_by.is_none() {
            self.vectors.set_valid_until(id, change.memory.valid_until());
            let space = self.memories.get(&id).and_then(|stored| stored.space.clone());
            self.insert_without_vector(change.memory.clone(), space);
        } else {
            let vector = self.vector_after_change(change);
            self.insert_memory(change.memory.clone(), vector.as_ref());
        }
    }

    /// Removes a memory and its vector; true if it existed.
    pub(crate) fn remove(&mut self, id: MemoryId) -> bool {
        self.snapshot = None;
        self.vectors.remove(id);
        self.memories.remove(&id).is_some()
    }

    /// Sets the version that the memories are at.
    pub(crate) fn set_version(&mut self, version: MemoryVersion) {
        self.snapshot = None;
        self.version = version;
    }

    pub(crate) fn len(&self) -> usize {
        self.memories.len()
    }

    /// The space of a memory's vector, if it has one.
    pub(crate) fn vector_space(&self, id: MemoryId) -> Option<&EmbeddingSpace> {
        self.memories.get(&id)?.space.as_ref()
    }

    fn find_nearest(&self, to: &EmbeddingVector, limit: usize) -> Vec<(MemoryId, f32)> {
        self.vectors.find_nearest(to, limit, Timestamp::now())
    }
}

/// Searches the memories of a user, on a thread that may block if the search takes long.
pub(crate) async fn find_nearest_in_set(
    set: Arc<Mutex<UserMemorySet>>,
    to: &EmbeddingVector,
    limit: usize,
) -> Result<Vec<(MemoryId, f32)>, StoreError> {
    {
        let set = set.lock();
        if set.vectors.value_count() <= BLOCKING_SEARCH_VALUES {
            return Ok(set.find_nearest(to, limit));
        }
    }
    let to = to.clone();
    let searched = tokio::task::spawn_blocking(move || set.lock().find_nearest(&to, limit)).await;
    searched.map_err(|error| StoreError::unavailable("the search was aborted", error))
}
