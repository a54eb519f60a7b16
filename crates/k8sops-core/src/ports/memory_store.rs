//! The port [`MemoryStore`]: what is remembered of users beyond a session.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ids::{MemoryId, UserId},
    user_memory::{EmbeddingVector, MemoryChange, MemoryVersion, UserMemories},
};

/// What [`MemoryStore::write_memories`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryWrite {
    /// All changes were written.
    Written,
    /// The memories were changed since they were read; nothing was written. The writer has to read them again.
    VersionConflict,
}

/// What [`MemoryStore::claim_embedding_upkeep`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpkeepClaim {
    /// The caller has the claim until it expires.
    Granted,
    /// Another holder has the claim.
    HeldByAnother,
}

/// Memories by user, with their embedding vectors. They outlive the sessions that they come from.
#[async_trait]
pub trait MemoryStore: Send + Sync + 'static {
    /// Writes memories and their vectors if the user's memories are still at `version`. All changes are written, or (short
    /// of a broken disk) none.
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError>;

    /// All memories of a user.
    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError>;

    /// The valid memories whose vectors are nearest to `to`, at most `limit`, with the cosine similarity, nearest first.
    /// Only vectors in the space of `to` are compared. An approximate index may miss some, and may round the similarity
    /// to a hundredth.
    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError>;

    /// Claims the upkeep of a user's vectors for `ttl`, or extends the claim of the same holder. The claim only avoids
    /// double work; correctness does not depend on it. A store of one process always grants it.
    async fn claim_embedding_upkeep(
        &self,
        _user: &UserId,
        _holder: &str,
        _ttl: Duration,
    ) -> Result<UpkeepClaim, StoreError> {
        Ok(UpkeepClaim::Granted)
    }

    /// Gives a claim of [`Self::claim_embedding_upkeep`] back before it expires.
    async fn release_embedding_upkeep(&self, _user: &UserId, _holder: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Deletes a memory and its vector; true if it existed.
    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError>;

    /// Deletes all memories of a user and their vectors of all spaces, and returns how many memories there were.
    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError>;
}
