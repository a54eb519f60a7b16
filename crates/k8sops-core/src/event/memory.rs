//! Events of long-term memory.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{message::TokenUsage, user_memory::MemoryNote};

/// The memories that were recalled for a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryRecalled {
    /// The memories, most relevant first. A memory that was recalled earlier in the conversation is not repeated.
    pub memories: Vec<MemoryNote>,
}

/// The memories that were extracted from the conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemorySaved {
    /// The memories that are new or were confirmed; empty if nothing is worth remembering, or the extraction failed.
    pub memories: Vec<MemoryNote>,
    /// The seq of the newest event that was examined. Later events are examined the next time.
    pub up_to_seq: u64,
    /// Tokens and cost of the extraction.
    #[serde(default)]
    pub usage: TokenUsage,
    /// The provider that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
