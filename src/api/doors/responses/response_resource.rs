//! The response as a whole. Clients check that all fields of OpenAI's API are there, so those that say nothing here are there, too.

use k8sops_core::{Timestamp, TokenUsage};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::response_id::{ResponseId, ResponseMode, conversation_id};
use crate::api::doors::openai::completion_response::MODEL;

/// A response.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Response)]
pub(super) struct ResponseResource {
    /// The id, which names a part of a run.
    id: String,
    /// `response`.
    object: &'static str,
    /// When the run was asked for, in seconds since 1970.
    created_at: i64,
    /// When the response ended.
    pub(super) completed_at: Option<i64>,
    pub(super) status: ResponseStatus,
    /// Why it is incomplete: `max_output_tokens`, if a limit of the run was reached.
    #[schema(value_type = Option<Value>)]
    pub(super) incomplete_details: Option<Value>,
    /// Why it failed.
    pub(super) error: Option<ResponseError>,
    /// `k8sops`.
    model: &'static str,
    /// The session. `null` if the response has none: a title or another task of a chat client.
    conversation: Option<ResponseConversation>,
    /// Messages, calls of tools (`mcp_call`), and last what the run waits for (`mcp_approval_request`).
    #[schema(value_type = Vec<Value>)]
    pub(super) output: Vec<Value>,
    /// The tokens of the model calls, once the response has ended.
    pub(super) usage: Option<ResponseUsage>,
    /// Whether it was created with `background`.
    background: bool,
    /// Always true: the session has a log.
    store: bool,
    /// Always `null`: the conversation says what came before.
    previous_response_id: Option<String>,
    /// Always `null`: the agent has its own instructions.
    instructions: Option<String>,
    /// Empty: the agent has its own tools.
    #[schema(value_type = Vec<Value>)]
    tools: Vec<Value>,
    tool_choice: &'static str,
    parallel_tool_calls: bool,
    /// The format of the text, which is always `text`.
    #[schema(value_type = Value)]
    text: Value,
    #[schema(value_type = Value)]
    reasoning: Value,
    /// Empty.
    #[schema(value_type = Value)]
    metadata: Value,
    truncation: &'static str,
    temperature: f64,
    top_p: f64,
    top_logprobs: u32,
    presence_penalty: f64,
    frequency_penalty: f64,
    max_output_tokens: Option<u64>,
    max_tool_calls: Option<u64>,
    service_tier: &'static str,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
    user: Option<String>,
}

/// How far a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResponseStatus {
    /// The run has not started.
    Queued,
    /// The run is in progress.
    InProgress,
    /// The run ended, or waits for its user.
    Completed,
    /// A limit of the run was reached.
    Incomplete,
    /// The run was cancelled.
    Cancelled,
    /// The run failed.
    Failed,
}

/// Why a response failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ResponseError {
    /// The stable code of the cause.
    pub(super) code: String,
    /// What was attempted, what was found, and what to do.
    pub(super) message: String,
}

/// The conversation of a response.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct ResponseConversation {
    /// The id, which names a session.
    id: String,
}

/// The tokens of the model calls.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct ResponseUsage {
    input_tokens: u64,
    input_tokens_details: InputTokenDetails,
    output_tokens: u64,
    output_tokens_details: OutputTokenDetails,
    total_tokens: u64,
}

/// What the input tokens are.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct InputTokenDetails {
    cached_tokens: u64,
}

/// What the output tokens are.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct OutputTokenDetails {
    reasoning_tokens: u64,
}

impl From<TokenUsage> for ResponseUsage {
    fn from(usage: TokenUsage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            input_tokens_details: InputTokenDetails { cached_tokens: usage.cached_tokens },
            output_tokens: usage.output_tokens,
            output_tokens_details: OutputTokenDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.total_tokens(),
        }
    }
}

impl ResponseResource {
    /// Whether its run has not started.
    pub(super) fn is_queued(&self) -> bool {
        self.status == ResponseStatus::Queued
    }

    /// Ends a response at once.
    pub(super) fn complete(&mut self, usage: TokenUsage) {
        self.status = ResponseStatus::Completed;
        self.completed_at = Some(self.created_at);
        self.usage = Some(usage.into());
    }

    /// Creates a response without output.
    pub(super) fn new(id: &ResponseId) -> Self {
        let conversation = ResponseConversation { id: conversation_id(id.address.session) };
        Self {
            created_at: id.created_at(),
            conversation: Some(conversation),
            background: id.mode == ResponseMode::Background,
            ..Self::without_run(id.to_string())
        }
    }

    /// Creates a response of no run.
    pub(super) fn without_run(id: String) -> Self {
        Self {
            id,
            object: "response",
            created_at: Timestamp::now().as_millis() / 1000,
            completed_at: None,
            status: ResponseStatus::Queued,
            incomplete_details: None,
            error: None,
            model: MODEL,
            conversation: None,
            output: Vec::new(),
            usage: None,
            background: false,
            store: true,
            previous_response_id: None,
            instructions: None,
            tools: Vec::new(),
            tool_choice: "auto",
            parallel_tool_calls: true,
            text: json!({"format": {"type": "text"}}),
            reasoning: json!({"effort": null, "summary": null}),
            metadata: json!({}),
            truncation: "disabled",
            temperature: 1.0,
            top_p: 1.0,
            top_logprobs: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            max_output_tokens: None,
            max_tool_calls: None,
            service_tier: "default",
            safety_identifier: None,
            prompt_cache_key: None,
            user: None,
        }
    }
}
