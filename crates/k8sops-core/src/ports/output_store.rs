//! The port [`OutputStore`]: whole outputs of tool calls, of which the log holds only what fits a model's context.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{SessionId, ToolCallId};

/// A part of a saved output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPart {
    /// The bytes from the requested offset on, which may be in the middle of a character.
    pub bytes: Vec<u8>,
    /// The size of the whole output in bytes.
    pub total: u64,
}

/// Whole outputs of tool calls. They belong to their session and are deleted with it. The log does not depend on them.
#[async_trait]
pub trait OutputStore: Send + Sync + 'static {
    /// 32 random bytes: created on the first call, and the same ever after for all processes that share the store.
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError>;

    /// Saves the output of a call and returns how many bytes of it were saved. The outputs of a session take at most
    /// `session_limit` bytes: the oldest are dropped, and an output larger than the limit is cut to it. Only the session's
    /// owner may call this.
    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        session_limit: usize,
    ) -> Result<u64, StoreError>;

    /// At most `limit` bytes of a saved output from `offset` on; `None` if the output is not kept.
    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError>;
}

/// Generates a random deployment key of 32 bytes, from which the placeholders of secrets are derived.
#[must_use]
pub fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key
}
