//! What is remembered of a user beyond a session.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MemoryId, SessionId, Timestamp};

/// The kind of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// A fact of the user's environment, or a preference.
    Semantic,
    /// What was learned from an incident: symptom, cause, fix.
    Episodic,
}

/// Where a memory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemorySource {
    /// The session.
    pub session_id: SessionId,
    /// Its newest event that was looked at.
    pub seq: u64,
}

/// A memory of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Memory)]
pub struct UserMemory {
    /// Its id.
    pub id: MemoryId,
    /// Its kind.
    pub kind: MemoryKind,
    /// What is remembered, in a sentence or a few.
    pub content: String,
    /// Words under which it may be looked for.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How sure it is, from 0 to 1.
    pub confidence: f32,
    /// Where it was learned, or last confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<MemorySource>,
    /// When it was learned.
    pub created_at: Timestamp,
    /// When it was last confirmed or corrected.
    pub updated_at: Timestamp,
    /// When it is of no use any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The newer memory that contradicts it. It is kept, and not recalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<MemoryId>,
}

impl UserMemory {
    /// Until when it holds; `None`: for good.
    #[must_use]
    pub fn holds_until(&self) -> Option<Timestamp> {
        if self.superseded_by.is_some() { Some(Timestamp::from_millis(0)) } else { self.expires_at }
    }

    /// Whether it holds at a time.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.holds_until().is_none_or(|until| until > now)
    }
}

/// A memory as events show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryNote {
    /// Its id.
    pub id: MemoryId,
    /// Its kind.
    pub kind: MemoryKind,
    /// What it says.
    pub content: String,
    /// How much it speaks to the message, from 0 to 1; absent where nothing was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

/// The meaning of a text as an embedding model gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingVector {
    /// The model: provider and id.
    pub model: Arc<str>,
    /// Its values, of length 1 together.
    pub values: Arc<[f32]>,
}

impl EmbeddingVector {
    /// What it can be compared in.
    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        EmbeddingSpace { model: Arc::clone(&self.model), dimensions: self.values.len() }
    }
}

/// Vectors that can be compared with each other: those of one model with the same number of dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    /// The model: provider and id.
    pub model: Arc<str>,
    /// The number of values of a vector.
    pub dimensions: usize,
}

/// A memory as it is stored. Its vector stays where it is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMemory {
    /// The memory.
    pub memory: UserMemory,
    /// The space that it has a vector in, if it has one. One that is superseded has none.
    pub space: Option<EmbeddingSpace>,
}

/// A write to a user's memories: which life of them (they can be erased and begin anew), and how many writes it has seen.
/// The default is that of nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MemoryVersion {
    /// Random for each life; 0 when there is nothing.
    pub epoch: u64,
    /// Writes in it.
    pub writes: u64,
}

/// The memories of a user as of a write.
#[derive(Debug, Clone, Default)]
pub struct UserMemories {
    /// The write.
    pub version: MemoryVersion,
    /// All of them, in the order of their ids. What did not change from one version to the next is the same `Arc`.
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

/// A memory to write in the place of the one with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryChange {
    /// The memory.
    pub memory: UserMemory,
    /// What becomes of its vector.
    pub meaning: SearchEmbedding,
}

/// What becomes of a memory's vector when it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum SearchEmbedding {
    /// It stays as it is: the text is the same.
    Kept,
    /// There is none, until one is made.
    Unknown,
    /// This one. One in another space goes.
    Known(EmbeddingVector),
}

impl From<Option<EmbeddingVector>> for SearchEmbedding {
    fn from(vector: Option<EmbeddingVector>) -> Self {
        vector.map_or(Self::Unknown, Self::Known)
    }
}
