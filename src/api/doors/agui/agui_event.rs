//! The events of AG-UI 1.0 that are used. Optional fields are absent and never `null`: a `null` is fatal to all clients.

use k8sops_core::TokenUsage;
use serde::Serialize;
use serde_json::Value;

/// An event of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub(super) enum AgUiEvent<'a> {
    RunStarted {
        thread_id: &'a str,
        run_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        protocol_version: Option<&'static str>,
        metadata: Value,
    },
    RunFinished {
        thread_id: &'a str,
        run_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<RunOutcomeValue>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        usage: Vec<RunUsage>,
    },
    RunError {
        message: &'a str,
        code: &'a str,
    },
    TextMessageStart {
        message_id: String,
        role: &'static str,
    },
    TextMessageContent {
        message_id: String,
        delta: &'a str,
    },
    TextMessageEnd {
        message_id: String,
    },
    ReasoningStart {
        message_id: String,
    },
    ReasoningMessageStart {
        message_id: String,
        role: &'static str,
    },
    ReasoningMessageContent {
        message_id: String,
        delta: &'a str,
    },
    ReasoningMessageEnd {
        message_id: String,
    },
    ReasoningEnd {
        message_id: String,
    },
    ToolCallStart {
        tool_call_id: &'a str,
        tool_call_name: &'a str,
        parent_message_id: String,
    },
    ToolCallArgs {
        tool_call_id: &'a str,
        delta: &'a str,
    },
    ToolCallEnd {
        tool_call_id: &'a str,
    },
    ToolCallResult {
        message_id: String,
        tool_call_id: &'a str,
        content: &'a str,
        role: &'static str,
        metadata: Value,
    },
    MessagesSnapshot {
        messages: &'a [Value],
    },
    ActivitySnapshot {
        message_id: String,
        activity_type: &'static str,
        content: Value,
        replace: bool,
    },
    Custom {
        name: String,
        value: Value,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum RunOutcomeValue {
    Success,
    Interrupt { interrupts: Vec<Value> },
    Cancelled,
}

/// Tokens of a run. Cached and reasoning tokens are parts of the totals.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunUsage {
    provider: String,
    model: String,
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
    cached_input_tokens: u64,
    reasoning_tokens: u64,
}

impl RunUsage {
    pub(super) fn new(provider: &str, model: &str, usage: &TokenUsage) -> Self {
        Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            total_tokens: usage.total_tokens(),
            cached_input_tokens: usage.cached_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }
    }
}

impl AgUiEvent<'_> {
    /// Writes the event as a server-sent event.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str("data: ");
        out.push_str(&serde_json::to_string(self).unwrap_or_default());
        out.push_str("\n\n");
    }
}
