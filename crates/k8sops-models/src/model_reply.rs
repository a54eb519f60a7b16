//! The reply of a model: the pieces that are streamed, and the complete reply.

use k8sops_core::{ProviderData, StopReason, TokenUsage};
use serde_json::Value;

/// A piece of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyDelta {
    /// More text.
    Text(String),
    /// More reasoning.
    Reasoning(String),
    /// The complete reply, which is always the last item. A stream that ends without it failed with
    /// [`ModelErrorKind::MalformedStream`](crate::ModelErrorKind::MalformedStream).
    // Boxed, so that the pieces before it, which are moved often, are small.
    Done(Box<ModelReply>),
}

/// A complete reply.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelReply {
    /// The whole text.
    pub content: String,
    /// The whole reasoning, if there was any.
    pub reasoning: Option<String>,
    /// The tool calls, in the order in which the model wrote them. Those of a refusal must not be executed.
    pub tool_calls: Vec<RequestedCall>,
    /// The tokens that the call used; zero if the provider does not report them.
    pub usage: TokenUsage,
    /// Why the reply ended.
    pub stop_reason: StopReason,
    /// Data that the provider expects back when the conversation continues.
    pub provider_data: Option<ProviderData>,
    /// Deviations from the request that the user should know about.
    pub notices: Vec<ProviderNotice>,
}

impl Default for ModelReply {
    /// Returns an empty reply that the model ended.
    fn default() -> Self {
        Self {
            content: String::new(),
            reasoning: None,
            tool_calls: Vec::new(),
            usage: TokenUsage::default(),
            stop_reason: StopReason::EndTurn,
            provider_data: None,
            notices: Vec::new(),
        }
    }
}

/// A deviation from the request, because the model or its server lacks a feature. A session reports each one once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderNotice {
    /// A stable code.
    pub code: &'static str,
    /// What was done differently, and what the user can do about it.
    pub message: String,
}

/// A tool call, as the model wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedCall {
    /// The name of the tool, which may not exist.
    pub name: String,
    /// The arguments: an object, or a string with the original text if that is not a JSON object.
    pub arguments: Value,
}
