//! Assembles the events of the Responses API into a reply.
//!
//! Servers may omit events: what is only in a complete item or in the complete response is read from there. Only one
//! rule is strict: a reply without `response.completed` or `response.incomplete` is incomplete.

use std::{collections::VecDeque, mem};

use k8sops_core::{StopReason, TokenUsage};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::reasoning_items::{PART_SEPARATOR, PHASE_FIELD, record_item, summary_texts};
use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    error_mapping::ProviderCall,
    event_framing::ProviderEvent,
    lenient_json::deserialize_or_none,
    provider_blocks::{BlockFormat, ProviderBlockRecorder},
    reply_assembly::{EventProgress, ReplyAssembler},
    requested_calls::{WrittenToolCall, parse_requested_calls, remove_repeated_calls},
    stop_reasons::{ReplyEnd, parse_stop_reason},
};

/// The fields of all known events. Each is optional, so that new types and fields are not an error.
#[derive(Deserialize)]
struct ResponsesEvent {
    #[serde(default, rename = "type")]
    event_type: String,
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(default)]
    item_id: Option<String>,
    #[serde(default)]
    item: Option<Value>,
    #[serde(default)]
    delta: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    /// The whole text, at its end.
    #[serde(default, deserialize_with = "deserialize_or_none")]
    text: Option<String>,
    /// The whole refusal, at its end.
    #[serde(default, deserialize_with = "deserialize_or_none")]
    refusal: Option<String>,
    #[serde(default)]
    response: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

/// A tool call that is incomplete.
#[derive(Default)]
struct FunctionCallBuffer {
    index: Option<u64>,
    id: String,
    /// The id by which the call is answered.
    call_id: String,
    name: String,
    arguments: String,
}

/// Assembles the events of one reply.
pub(crate) struct ResponsesAssembler {
    call: ProviderCall,
    content: String,
    reasoning: String,
    function_calls: Vec<FunctionCallBuffer>,
    /// The length of the text of the open message.
    message_bytes: usize,
    /// The position in the reasoning at which the open item starts.
    reasoning_start: Option<usize>,
    recorder: ProviderBlockRecorder,
    notices: Vec<ProviderNotice>,
    refused: bool,
    usage: TokenUsage,
    /// The complete response, at its end.
    response: Option<Value>,
}

impl ResponsesAssembler {
    pub(crate) fn new(call: ProviderCall, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            function_calls: Vec::new(),
            message_bytes: 0,
            reasoning_start: None,
            recorder: ProviderBlockRecorder::default(),
            notices,
            refused: false,
            usage: TokenUsage::default(),
            response: None,
        }
    }

    fn push_text(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.message_bytes += text.len();
            self.recorder.record_text(&text);
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    fn push_reasoning(&mut self, text: &str, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            if self.reasoning_start.is_none() {
                self.start_reasoning_item(out);
            }
            self.recorder.record_reasoning(text);
            self.reasoning.push_str(text);
            out.push_back(ReplyDelta::Reasoning(text.to_owned()));
        }
    }

    /// Starts an item of reasoning, separated from the previous one by a blank line.
    fn start_reasoning_item(&mut self, out: &mut VecDeque<ReplyDelta>) {
        if !self.reasoning.is_empty() {
            // The separator gets its own block, so that the block of this item contains only its own text.
            self.recorder.start_reasoning();
            self.recorder.record_reasoning(PART_SEPARATOR);
            self.reasoning.push_str(PART_SEPARATOR);
            out.push_back(ReplyDelta::Reasoning(PART_SEPARATOR.to_owned()));
        }
        self.recorder.start_reasoning();
        self.reasoning_start = Some(self.reasoning.len());
    }

    /// Returns the call that a piece belongs to. Adds a call if the piece starts a new one.
    fn find_or_add_call(&mut self, index: Option<u64>, id: Option<&str>) -> &mut FunctionCallBuffer {
        let id = id.filter(|id| !id.is_empty());
        let by_id = id.and_then(|id| self.function_calls.iter().position(|buffer| buffer.id == id));
        let by_index =
            || index.and_then(|index| self.function_calls.iter().position(|buffer| buffer.index == Some(index)));
        // Without id and index, the piece belongs to the latest call.
        let latest = || self.function_calls.len().checked_sub(1).filter(|_| id.is_none() && index.is_none());
        let at = by_id.or_else(by_index).or_else(latest).unwrap_or_else(|| {
            self.recorder.record_call(Map::new());
            self.function_calls.push(FunctionCallBuffer {
                index,
                id: id.unwrap_or_default().to_owned(),
                ..FunctionCallBuffer::default()
            });
            self.function_calls.len() - 1
        });
        &mut self.function_calls[at]
    }

    fn start_item(&mut self, index: Option<u64>, item: &Value, out: &mut VecDeque<ReplyDelta>) {
        let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("type") {
            "message" => {
                self.message_bytes = 0;
                self.recorder.start_text();
            }
            "reasoning" => self.start_reasoning_item(out),
            "function_call" => {
                self.recorder.record_call(Map::new());
                self.function_calls.push(FunctionCallBuffer {
                    index,
                    id: field("id").to_owned(),
                    call_id: field("call_id").to_owned(),
                    name: field("name").to_owned(),
                    arguments: field("arguments").to_owned(),
                });
            }
            _ => {}
        }
    }

    /// Applies a complete item, which replaces the streamed pieces.
    fn finish_item(&mut self, index: Option<u64>, item: &Value, out: &mut VecDeque<ReplyDelta>) {
        let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("type") {
            "message" => {
                let parts = || item.get("content").and_then(Value::as_array).into_iter().flatten();
                let text: String =
                    parts().filter_map(|part| part.get("text").or_else(|| part.get("refusal"))?.as_str()).collect();
                self.refused |= parts().any(|part| part.get("refusal").is_some_and(Value::is_string));
                if self.message_bytes == 0 {
                    self.push_text(text, out);
                }
                self.message_bytes = 0;
                if let Some(phase) = item.get(PHASE_FIELD).filter(|phase| phase.is_string()) {
                    self.recorder.annotate_text(PHASE_FIELD, phase.clone());
                }
            }
            "reasoning" => {
                if self.reasoning_start.is_none() {
                    self.start_reasoning_item(out);
                }
                let start = self.reasoning_start.unwrap_or_default();
                if self.reasoning.len() == start {
                    let summary = summary_texts(item).join(PART_SEPARATOR);
                    self.push_reasoning(&summary, out);
                }
                record_item(&mut self.recorder, item, &self.reasoning[start..]);
                self.reasoning_start = None;
            }
            "function_call" => {
                let name = field("name").to_owned();
                let arguments = field("arguments").to_owned();
                let id = Some(field("id")).filter(|id| !id.is_empty());
                // An item without id and index is a call of its own if its name differs from the last one.
                let is_known = id.is_some()
                    || index.is_some()
                    || self.function_calls.last().is_some_and(|buffer| buffer.name == name);
                if !is_known {
                    self.recorder.record_call(Map::new());
                    self.function_calls.push(FunctionCallBuffer::default());
                }
                let buffer = self.find_or_add_call(index, id);
                buffer.name = name;
                if buffer.call_id.is_empty() {
                    field("call_id").clone_into(&mut buffer.call_id);
                }
                if !arguments.is_empty() {
                    buffer.arguments = arguments;
                }
            }
            _ => {}
        }
    }

    /// Applies the complete response: items that were not streamed are read from it.
    fn finish_response(&mut self, response: Value, out: &mut VecDeque<ReplyDelta>) {
        if self.content.is_empty() && self.function_calls.is_empty() {
            for (at, item) in response.get("output").and_then(Value::as_array).into_iter().flatten().enumerate() {
                let is_new = item.get("type").is_some_and(|kind| kind == "message" || kind == "function_call")
                    || self.reasoning.is_empty();
                if is_new {
                    self.finish_item(Some(at as u64), item, out);
                }
            }
        }
        self.response = Some(response);
    }

    /// Ends the reply with the complete response, which may say that it failed.
    fn end_response(
        &mut self,
        response: Value,
        data: &str,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError> {
        let status = response.get("status").and_then(Value::as_str).unwrap_or_default();
        if parse_stop_reason(status) == ReplyEnd::Broken {
            return Err(self.fail_response(&response, data));
        }
        self.usage = parse_usage(&response);
        self.finish_response(response, out);
        Ok(EventProgress::End)
    }

    /// Returns the error for a response that failed or was cancelled. Such a response may report its usage.
    fn fail_response(&mut self, response: &Value, data: &str) -> ModelError {
        self.usage = parse_usage(response);
        match response.get("error").filter(|error| !error.is_null()) {
            Some(error) => self.call.stream_error(error, data),
            None => self.call.broken_reply_error(response.get("status").and_then(Value::as_str).unwrap_or("failed")),
        }
    }
}

impl ReplyAssembler for ResponsesAssembler {
    fn apply_event(
        &mut self,
        event: &ProviderEvent,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError> {
        let ProviderEvent { name, data } = event;
        let event: ResponsesEvent = match serde_json::from_str(data) {
            Ok(event) => event,
            // An unknown event may use our field names for other types.
            Err(_) if is_unknown_event(data) => return Ok(EventProgress::KeepAlive),
            Err(error) => return Err(self.call.unparsable_error("an event", error, data)),
        };
        let ResponsesEvent {
            event_type,
            object,
            output_index,
            item_id,
            item,
            delta,
            arguments,
            text,
            refusal,
            response,
            error,
        } = event;
        if object.as_deref() == Some("response") {
            // A reply that is not streamed.
            return self.end_response(serde_json::from_str(data).unwrap_or_default(), data, out);
        }
        // Some gateways leave the type to the name.
        let event_type = if event_type.is_empty() { name } else { &event_type };
        let delta = delta.unwrap_or_default();
        match event_type.as_str() {
            "response.output_item.added" => self.start_item(output_index, &item.unwrap_or_default(), out),
            "response.output_item.done" => self.finish_item(output_index, &item.unwrap_or_default(), out),
            "response.output_text.delta" => self.push_text(delta, out),
            "response.refusal.delta" => {
                self.refused = true;
                self.push_text(delta, out);
            }
            // Some servers send the whole text only.
            "response.output_text.done" | "response.refusal.done" if self.message_bytes == 0 => {
                let refusal = refusal.filter(|refusal| !refusal.is_empty());
                self.refused |= refusal.is_some();
                self.push_text(text.or(refusal).unwrap_or_default(), out);
            }
            "response.reasoning_summary_part.added" => {
                // Another part of the same summary starts.
                if self.reasoning_start.is_some_and(|start| self.reasoning.len() > start) {
                    self.push_reasoning(PART_SEPARATOR, out);
                }
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.push_reasoning(&delta, out);
            }
            "response.function_call_arguments.delta" => {
                self.find_or_add_call(output_index, item_id.as_deref()).arguments.push_str(&delta);
            }
            "response.function_call_arguments.done" => {
                if let Some(arguments) = arguments {
                    self.find_or_add_call(output_index, item_id.as_deref()).arguments = arguments;
                }
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                return self.end_response(response.unwrap_or_default(), data, out);
            }
            "response.failed" | "response.cancelled" => {
                return Err(self.fail_response(&response.unwrap_or_default(), data));
            }
            "error" => {
                let event = serde_json::from_str(data).unwrap_or_default();
                let error = error.filter(|error| !error.is_null()).unwrap_or(event);
                return Err(self.call.stream_error(&error, data));
            }
            _ => {
                if let Some(error) = error.filter(|error| !error.is_null()) {
                    return Err(self.call.stream_error(&error, data));
                }
                return Ok(EventProgress::KeepAlive);
            }
        }
        Ok(EventProgress::Content)
    }

    fn reported_usage(&self) -> TokenUsage {
        self.usage
    }

    fn has_stop_reason(&self) -> bool {
        self.response.is_some()
    }

    fn finish_reply(&mut self) -> Result<ModelReply, ModelError> {
        let Some(response) = self.response.take() else { return Err(self.call.unfinished_error()) };
        let incomplete_reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
        let end = incomplete_reason.map_or(ReplyEnd::Complete(StopReason::EndTurn), parse_stop_reason);
        let stop_reason = match end {
            ReplyEnd::Broken => return Err(self.call.broken_reply_error(incomplete_reason.unwrap_or_default())),
            ReplyEnd::Complete(_) if self.refused => StopReason::Refusal,
            ReplyEnd::Complete(StopReason::EndTurn | StopReason::Other) if !self.function_calls.is_empty() => {
                StopReason::ToolUse
            }
            ReplyEnd::Complete(reason) => reason,
        };
        let calls = mem::take(&mut self.function_calls).into_iter().map(|buffer| WrittenToolCall {
            key: [buffer.call_id, buffer.id].into_iter().find(|id| !id.is_empty()),
            name: buffer.name,
            arguments: buffer.arguments,
        });
        let mut calls: Vec<_> = calls.collect();
        let mut recorder = mem::take(&mut self.recorder);
        remove_repeated_calls(&mut calls, &mut recorder);
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: parse_requested_calls(calls, stop_reason),
            usage: self.usage,
            stop_reason,
            provider_data: recorder.finish(BlockFormat::OpenaiResponses),
            notices: mem::take(&mut self.notices),
        })
    }
}

fn parse_usage(response: &Value) -> TokenUsage {
    let count = |pointer: &str| response.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    TokenUsage {
        input_tokens: count("/usage/input_tokens"),
        output_tokens: count("/usage/output_tokens"),
        cached_tokens: count("/usage/input_tokens_details/cached_tokens"),
        cache_write_tokens: count("/usage/input_tokens_details/cache_write_tokens"),
        reasoning_tokens: count("/usage/output_tokens_details/reasoning_tokens"),
        ..TokenUsage::default()
    }
}

/// Returns whether this is a valid event of an unknown type.
fn is_unknown_event(data: &str) -> bool {
    const KNOWN: [&str; 12] = [
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
        "response.incomplete",
        "error",
    ];
    let event = serde_json::from_str::<Value>(data).unwrap_or_default();
    event.get("type").and_then(Value::as_str).is_some_and(|kind| !KNOWN.contains(&kind))
}
