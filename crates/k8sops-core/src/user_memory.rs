//! What is remembered of a user beyond a session, and the embedding vectors by which it is searched.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::{MemoryId, SessionId},
    time::Timestamp,
};

/// The kind of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// A fact about the user's environment, or a preference.
    Semantic,
    /// What was learned from an incident: symptom, cause, fix.
    Episodic,
}

/// Where a memory was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemorySource {
    /// The session.
    pub session_id: SessionId,
    /// The seq of the newest event that was examined.
    pub seq: u64,
}

/// A memory of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Memory)]
pub struct UserMemory {
    /// The id of the memory.
    pub id: MemoryId,
    /// The kind of the memory.
    pub kind: MemoryKind,
    /// What is remembered, in a few sentences at most.
    pub content: String,
    /// Keywords for search.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Confidence, from 0 to 1.
    pub confidence: f32,
    /// Where the memory was learned, or last confirmed; absent if a user wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<MemorySource>,
    /// When the memory was learned.
    pub created_at: Timestamp,
    /// When the memory was last confirmed or corrected.
    pub updated_at: Timestamp,
    /// When the memory expires; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The newer memory that contradicts this one. A superseded memory is kept, and is not recalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<MemoryId>,
}

impl UserMemory {
    /// The time until which the memory is valid; `None` if it stays valid.
    #[must_use]
    pub fn valid_until(&self) -> Option<Timestamp> {
        if self.superseded_by.is_some() { Some(Timestamp::from_millis(0)) } else { self.expires_at }
    }

    /// Whether the memory is valid at a point in time.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_until().is_none_or(|until| until > now)
    }
}

/// A memory as it is shown in events and messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryNote {
    /// The id of the memory.
    pub id: MemoryId,
    /// The kind of the memory.
    pub kind: MemoryKind,
    /// What is remembered.
    pub content: String,
    /// Relevance to the message, from 0 to 1; absent where the memory was not searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

/// A text's embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingVector {
    /// The embedding model: provider and id.
    pub model: Arc<str>,
    /// The values, normalized to length 1.
    pub values: Arc<[f32]>,
}

impl EmbeddingVector {
    /// The space in which the vector can be compared.
    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        EmbeddingSpace { model: Arc::clone(&self.model), dimensions: self.values.len() }
    }
}

/// A set of vectors that can be compared with each other: those of one model with the same number of dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    /// The embedding model: provider and id.
    pub model: Arc<str>,
    /// The number of values of a vector.
    pub dimensions: usize,
}

/// A memory as it is stored. Its vector stays in the index that searches it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMemory {
    /// The memory.
    pub memory: UserMemory,
    /// The space of its vector, if it has one. A superseded memory has none.
    pub space: Option<EmbeddingSpace>,
}

/// The version of a user's memories, which changes with every write. The default is the version of no memories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MemoryVersion {
    /// Random, and new whenever memories are written after all of them were deleted; 0 if there are none.
    pub epoch: u64,
    /// The number of writes in this epoch.
    pub writes: u64,
}

/// The memories of a user at a version.
#[derive(Debug, Clone, Default)]
pub struct UserMemories {
    /// The version.
    pub version: MemoryVersion,
    /// All memories, sorted by id. What did not change between two versions is the same `Arc`.
    pub all: Arc<[Arc<StoredMemory>]>,
}

impl UserMemories {
    /// The memory with an id.
    #[must_use]
    pub fn get(&self, id: MemoryId) -> Option<&Arc<StoredMemory>> {
        let at = self.all.binary_search_by_key(&id, |stored| stored.memory.id).ok()?;
        self.all.get(at)
    }
}

/// A memory to write. It replaces the one with the same id.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryChange {
    /// The memory.
    pub memory: UserMemory,
    /// What happens to its vector.
    pub embedding: EmbeddingChange,
}

/// What happens to a memory's vector when the memory is written.
#[derive(Debug, Clone, PartialEq)]
pub enum EmbeddingChange {
    /// The vector stays as it is, because the text did.
    Keep,
    /// The vector is removed, until a new one is computed.
    Clear,
    /// The vector is set; a vector in another space is removed.
    Set(EmbeddingVector),
}

impl From<Option<EmbeddingVector>> for EmbeddingChange {
    fn from(vector: Option<EmbeddingVector>) -> Self {
        vector.map_or(Self::Clear, Self::Set)
    }
}
