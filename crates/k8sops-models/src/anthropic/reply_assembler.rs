//! Assembles the events of the Messages API into a reply.

use std::{collections::VecDeque, mem};

use k8sops_core::{StopReason, TokenUsage};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    error_mapping::ProviderCall,
    event_framing::ProviderEvent,
    lenient_json::deserialize_or_none,
    provider_blocks::{BlockFormat, ProviderBlockRecorder},
    reply_assembly::{EventProgress, ReplyAssembler},
    requested_calls::{WrittenToolCall, parse_requested_calls, remove_repeated_calls},
    stop_reasons::{ReplyEnd, known_stop_reason, parse_stop_reason},
};

/// The fields of all known events. Each is optional, so that new types and fields are not an error.
#[derive(Deserialize)]
struct MessagesEvent {
    #[serde(default, rename = "type")]
    event_type: String,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    index: Option<u64>,
    #[serde(default)]
    message: Option<MessageStart>,
    #[serde(default)]
    content_block: Option<Value>,
    #[serde(default)]
    delta: Option<BlockDelta>,
    #[serde(default)]
    usage: Option<MessagesUsage>,
    #[serde(default)]
    error: Option<Value>,
    /// The blocks of a reply that is not streamed.
    #[serde(default)]
    content: Option<Vec<Value>>,
    /// The stop reason of a reply that is not streamed.
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct MessageStart {
    #[serde(default)]
    usage: Option<MessagesUsage>,
}

#[derive(Deserialize)]
struct BlockDelta {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct MessagesUsage {
    #[serde(default, deserialize_with = "deserialize_or_none")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    output_tokens_details: Option<OutputTokenDetails>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct OutputTokenDetails {
    #[serde(default, deserialize_with = "deserialize_or_none")]
    thinking_tokens: Option<u64>,
}

impl MessagesUsage {
    /// Updates the figures from a later report, which may repeat or omit some of them.
    fn merge(&mut self, newer: &Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.cache_read_input_tokens = newer.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = newer.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens_details = newer.output_tokens_details.or(self.output_tokens_details);
    }

    /// Converts the usage. Unlike [`TokenUsage`], this API counts cached tokens separately from the input.
    fn to_token_usage(&self) -> TokenUsage {
        let read = self.cache_read_input_tokens.unwrap_or_default();
        let created = self.cache_creation_input_tokens.unwrap_or_default();
        TokenUsage {
            input_tokens: self.input_tokens.unwrap_or_default().saturating_add(read).saturating_add(created),
            output_tokens: self.output_tokens.unwrap_or_default(),
            cached_tokens: read,
            cache_write_tokens: created,
            reasoning_tokens: self
                .output_tokens_details
                .and_then(|details| details.thinking_tokens)
                .unwrap_or_default(),
            ..TokenUsage::default()
        }
    }
}

/// A tool call that is incomplete.
struct ToolUseBuffer {
    /// The index of the content block.
    index: u64,
    id: Option<String>,
    name: String,
    /// The input at the start of the block. Later pieces replace it.
    input: Option<Value>,
    json: String,
}

impl ToolUseBuffer {
    /// Returns the input as it was written. Every block starts with an empty object, which does not count.
    fn into_arguments(self) -> String {
        match self.input {
            Some(Value::Object(input)) if self.json.is_empty() && !input.is_empty() => Value::Object(input).to_string(),
            _ => self.json,
        }
    }
}

/// Assembles the events of one reply.
pub(crate) struct MessagesAssembler {
    call: ProviderCall,
    content: String,
    reasoning: String,
    /// The tool calls in the order in which they started. Some servers give all blocks the same index.
    tool_uses: Vec<ToolUseBuffer>,
    /// The open block of a tool that the server runs itself: its index, the block, and the input so far.
    server_tool: Option<(u64, Value, String)>,
    recorder: ProviderBlockRecorder,
    notices: Vec<ProviderNotice>,
    usage: MessagesUsage,
    stop_reason: Option<String>,
    stopped: bool,
}

impl MessagesAssembler {
    pub(crate) fn new(call: ProviderCall, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            tool_uses: Vec::new(),
            server_tool: None,
            recorder: ProviderBlockRecorder::default(),
            notices,
            usage: MessagesUsage::default(),
            stop_reason: None,
            stopped: false,
        }
    }

    fn push_text(&mut self, text: Option<String>, out: &mut VecDeque<ReplyDelta>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.recorder.record_text(&text);
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    fn push_reasoning(&mut self, text: Option<String>, out: &mut VecDeque<ReplyDelta>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.recorder.record_reasoning(&text);
            self.reasoning.push_str(&text);
            out.push_back(ReplyDelta::Reasoning(text));
        }
    }

    fn record_signature(&mut self, signature: Option<String>) {
        if let Some(signature) = signature.filter(|signature| !signature.is_empty()) {
            self.recorder.annotate_reasoning("signature", Value::String(signature));
        }
    }

    fn start_block(&mut self, index: u64, block: Value, out: &mut VecDeque<ReplyDelta>) {
        let field = |name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
        self.finish_server_tool();
        match block.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" => self.push_text(field("text"), out),
            "thinking" => {
                self.recorder.start_reasoning();
                self.push_reasoning(field("thinking"), out);
                self.record_signature(field("signature"));
            }
            "tool_use" => {
                let name = field("name").unwrap_or_default();
                let id = field("id").filter(|id| !id.is_empty());
                let input = block.get("input").cloned();
                self.recorder.record_call(Map::new());
                self.tool_uses.push(ToolUseBuffer { index, id, name, input, json: String::new() });
            }
            _ => self.server_tool = Some((index, block, String::new())),
        }
    }

    /// Records the block of a server tool when it is complete.
    fn finish_server_tool(&mut self) {
        let Some((_, mut block, written)) = self.server_tool.take() else { return };
        if let (Some(fields), Ok(input)) = (block.as_object_mut(), serde_json::from_str(&written)) {
            fields.insert("input".to_owned(), input);
        }
        self.recorder.record_opaque(block);
    }
}

impl ReplyAssembler for MessagesAssembler {
    fn apply_event(
        &mut self,
        event: &ProviderEvent,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError> {
        let ProviderEvent { name, data } = event;
        let mut event: MessagesEvent = match serde_json::from_str(data) {
            Ok(event) => event,
            // An unknown event may use our field names for other types.
            Err(_) if is_unknown_event(data) => return Ok(EventProgress::KeepAlive),
            Err(error) => return Err(self.call.unparsable_error("an event", error, data)),
        };
        if event.event_type.is_empty() {
            // The name says the same.
            name.clone_into(&mut event.event_type);
        }
        let index = event.index.unwrap_or_default();
        match event.event_type.as_str() {
            "message_start" => {
                if let Some(usage) = event.message.and_then(|message| message.usage) {
                    self.usage.merge(&usage);
                }
            }
            "content_block_start" => {
                let Some(block) = event.content_block else { return Ok(EventProgress::KeepAlive) };
                self.start_block(index, block, out);
            }
            "content_block_delta" => {
                let Some(delta) = event.delta else { return Ok(EventProgress::KeepAlive) };
                self.push_text(delta.text, out);
                self.push_reasoning(delta.thinking, out);
                self.record_signature(delta.signature);
                if let Some(json) = delta.partial_json {
                    if let Some((open, _, written)) = &mut self.server_tool
                        && *open == index
                    {
                        written.push_str(&json);
                    } else if let Some(tool_use) = self.tool_uses.iter_mut().rfind(|tool_use| tool_use.index == index) {
                        tool_use.json.push_str(&json);
                    }
                }
            }
            "message_delta" => {
                if let Some(usage) = event.usage {
                    self.usage.merge(&usage);
                }
                let reason = known_stop_reason(event.delta.and_then(|delta| delta.stop_reason));
                self.stop_reason = reason.or(self.stop_reason.take());
            }
            // A reply that is not streamed.
            "message" => {
                for (index, block) in (0..).zip(event.content.unwrap_or_default()) {
                    self.start_block(index, block, out);
                }
                self.usage.merge(&event.usage.unwrap_or_default());
                self.stop_reason = known_stop_reason(event.stop_reason);
                self.stopped = true;
                return Ok(EventProgress::End);
            }
            "message_stop" => {
                self.stopped = true;
                return Ok(EventProgress::End);
            }
            "error" => {
                return Err(self.call.stream_error(&event.error.unwrap_or_default(), data));
            }
            _ => {
                if let Some(error) = event.error.filter(|error| !error.is_null()) {
                    return Err(self.call.stream_error(&error, data));
                }
                return Ok(EventProgress::KeepAlive);
            }
        }
        Ok(EventProgress::Content)
    }

    fn reported_usage(&self) -> TokenUsage {
        self.usage.to_token_usage()
    }

    fn has_stop_reason(&self) -> bool {
        self.stop_reason.is_some()
    }

    fn finish_reply(&mut self) -> Result<ModelReply, ModelError> {
        if !self.stopped && self.stop_reason.is_none() {
            return Err(self.call.unfinished_error());
        }
        let stop_reason = match self.stop_reason.take() {
            None if self.tool_uses.is_empty() => StopReason::Other,
            None => StopReason::ToolUse,
            Some(reason) => match parse_stop_reason(&reason) {
                ReplyEnd::Broken => return Err(self.call.broken_reply_error(&reason)),
                ReplyEnd::Complete(StopReason::EndTurn | StopReason::Other) if !self.tool_uses.is_empty() => {
                    StopReason::ToolUse
                }
                ReplyEnd::Complete(reason) => reason,
            },
        };
        self.finish_server_tool();
        let calls = mem::take(&mut self.tool_uses).into_iter().map(|mut tool_use| WrittenToolCall {
            key: tool_use.id.take(),
            name: mem::take(&mut tool_use.name),
            arguments: tool_use.into_arguments(),
        });
        let mut calls: Vec<_> = calls.collect();
        let mut recorder = mem::take(&mut self.recorder);
        remove_repeated_calls(&mut calls, &mut recorder);
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: parse_requested_calls(calls, stop_reason),
            usage: self.usage.to_token_usage(),
            stop_reason,
            provider_data: recorder.finish(BlockFormat::AnthropicMessages),
            notices: mem::take(&mut self.notices),
        })
    }
}

/// Returns whether this is a valid event of an unknown type.
fn is_unknown_event(data: &str) -> bool {
    const KNOWN: [&str; 7] = [
        "message",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "error",
    ];
    let event = serde_json::from_str::<Value>(data).unwrap_or_default();
    event.get("type").and_then(Value::as_str).is_some_and(|kind| !KNOWN.contains(&kind))
}
