//! The port `OutputStore`: whole outputs of tool calls, which the log holds only as much of as a model can take in.

use std::sync::Arc;

use async_trait::async_trait;

use super::{SessionId, StoreError, ToolCallId};

/// A part of a whole output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPart {
    /// Its bytes. They begin where it was asked, which may be in the middle of a character.
    pub bytes: Vec<u8>,
    /// Bytes of the whole.
    pub total: u64,
}

/// Whole outputs of tool calls. They belong to their session, and go with it. Nothing of the log depends on them.
#[async_trait]
pub trait OutputStore: Send + Sync + 'static {
    /// 32 random bytes: made when they are first asked for, and the same ever after for all processes that share the store.
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError>;

    /// Keeps the output of a call. The outputs of a session take at most `room` bytes: the oldest are dropped, and of one
    /// that is larger than that its beginning is kept. How many bytes of it are. For the session's owner only.
    async fn keep_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        room: usize,
    ) -> Result<u64, StoreError>;

    /// At most `limit` bytes of a kept output, from `offset` on; `None` when it is not kept (any more).
    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError>;
}

/// Makes the random key of a deployment, 32 bytes, from which placeholders of secrets are derived.
#[must_use]
pub fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key
}
