//! What is remembered of a user beyond a session, and the port `LongTermStore`.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MemoryId, SessionId, StoreError, Timestamp, UserId};

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
pub struct Memory {
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

impl Memory {
    /// Whether it holds at a time.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.superseded_by.is_none() && self.expires_at.is_none_or(|at| at > now)
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

/// The meaning of a text as an embedding model gives it. Only vectors of one model can be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    /// The model: provider and id.
    pub model: String,
    /// Its values, of length 1 together.
    pub values: Arc<[f32]>,
}

/// A memory as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMemory {
    /// The memory.
    pub memory: Memory,
    /// Its meaning, if it is known.
    pub vector: Option<Vector>,
}

/// Memories by user. They outlive the sessions that they come from.
#[async_trait]
pub trait LongTermStore: Send + Sync + 'static {
    /// Writes memories, each in the place of the one with its id.
    async fn put_memories(&self, user: &UserId, memories: &[StoredMemory]) -> Result<(), StoreError>;

    /// All memories of a user, in the order of their ids.
    async fn memories(&self, user: &UserId) -> Result<Arc<[StoredMemory]>, StoreError>;

    /// Removes one, vector and all; whether it was there.
    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError>;

    /// Removes all of a user, vectors and all; how many there were.
    async fn delete_memories(&self, user: &UserId) -> Result<usize, StoreError>;
}
