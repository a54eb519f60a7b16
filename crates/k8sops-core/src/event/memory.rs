//! Events of what is remembered beyond the session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{MemoryNote, TokenUsage};

/// See [`EventBody::MemoryRecalled`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryRecalled {
    /// The best first. What an earlier message of the conversation recalled already is not recalled again.
    pub memories: Vec<MemoryNote>,
}

/// See [`EventBody::MemorySaved`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemorySaved {
    /// What is new or was confirmed; empty when there was nothing worth it, or it could not be found out.
    pub memories: Vec<MemoryNote>,
    /// The newest event that was looked at. What comes after it is looked at the next time.
    pub up_to_seq: u64,
    /// What looking cost.
    #[serde(default)]
    pub usage: TokenUsage,
    /// The provider that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
