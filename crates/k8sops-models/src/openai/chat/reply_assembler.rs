//! Assembles the chunks of chat completions into a reply.
//!
//! Only one rule is strict: a reply without a finish reason is incomplete, however the stream ended.

use std::{collections::VecDeque, mem};

use k8sops_core::{StopReason, TokenUsage};
use serde_json::{Map, Value};

use super::{
    block_fields::{EXTRA_CONTENT, FIELD_NAME, REASONING_DETAILS, REASONING_FIELDS},
    chunks::{CompletionChunk, FunctionChunk, ToolCallChunk, parse_text_chunk},
};
use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    error_mapping::ProviderCall,
    event_framing::ProviderEvent,
    provider_blocks::{BlockFormat, ProviderBlockRecorder},
    quirks::StopReasonHabit,
    reply_assembly::{EventProgress, ReplyAssembler, parse_event},
    requested_calls::{WrittenToolCall, parse_requested_calls, remove_repeated_calls},
    stop_reasons::{ReplyEnd, known_stop_reason, parse_stop_reason},
    text_tool_calls::{TextToolCallParser, text_tool_calls_notice},
    think_tags::{SplitText, ThinkTagSplitter},
};

/// A tool call that is incomplete.
#[derive(Default)]
struct ToolCallBuffer {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra: Option<Value>,
}

/// Assembles the chunks of one reply.
pub(crate) struct ChatCompletionsAssembler {
    call: ProviderCall,
    content: String,
    reasoning: String,
    tool_calls: Vec<ToolCallBuffer>,
    usage: TokenUsage,
    finish_reason: Option<String>,
    refused: bool,
    /// The names of the tools that the model may call.
    tools: Vec<String>,
    /// Separates reasoning that arrives in the text.
    think_tags: ThinkTagSplitter,
    /// Finds tool calls that the model writes as text.
    text_calls: TextToolCallParser,
    recorder: ProviderBlockRecorder,
    details: Vec<Value>,
    notices: Vec<ProviderNotice>,
    /// Whether the end mark has arrived.
    is_marked: bool,
    stop_reasons: StopReasonHabit,
}

impl ChatCompletionsAssembler {
    /// Creates an assembler for a reply to a request that offers these tools.
    pub(crate) fn new(call: ProviderCall, tools: Vec<String>, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            usage: TokenUsage::default(),
            finish_reason: None,
            refused: false,
            think_tags: ThinkTagSplitter::default(),
            text_calls: TextToolCallParser::new(tools.iter().cloned()),
            tools,
            recorder: ProviderBlockRecorder::default(),
            details: Vec::new(),
            notices,
            is_marked: false,
            stop_reasons: StopReasonHabit::default(),
        }
    }

    /// Learns whether the server says why its replies end.
    pub(crate) fn with_stop_reason_habit(self, stop_reasons: StopReasonHabit) -> Self {
        Self { stop_reasons, ..self }
    }

    /// Returns why the reply ended, in the words of the server. The end mark suffices for a server that never says it.
    fn take_finish_reason(&mut self) -> Option<String> {
        if let Some(finish) = self.finish_reason.take() {
            self.stop_reasons.record_reason();
            return Some(finish);
        }
        let is_empty = self.content.is_empty() && self.tool_calls.is_empty();
        let is_complete = self.is_marked && !is_empty && self.stop_reasons.is_usual_without_reason();
        is_complete.then(String::new)
    }

    fn push_text(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.recorder.record_text(&text);
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    /// Adds reasoning. `field` is the field that it arrived in, and in which it is returned.
    fn push_reasoning(&mut self, text: String, field: Option<&'static str>, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.recorder.record_reasoning(&text);
            if let Some(field) = field {
                self.recorder.annotate_reasoning(FIELD_NAME, Value::from(field));
            }
            self.reasoning.push_str(&text);
            out.push_back(ReplyDelta::Reasoning(text));
        }
    }

    /// Adds text, in which the model may have written reasoning or calls.
    fn apply_text(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) -> EventProgress {
        let pieces_before = out.len();
        let is_empty = text.is_empty();
        let split = self.think_tags.push(text);
        self.push_split_text(split, out);
        // Some servers keep a connection alive with empty chunks.
        if !is_empty || out.len() > pieces_before { EventProgress::Content } else { EventProgress::KeepAlive }
    }

    /// Adds the reasoning and the text of one piece.
    fn push_split_text(&mut self, SplitText { reasoning, text }: SplitText, out: &mut VecDeque<ReplyDelta>) {
        self.push_reasoning(reasoning, None, out);
        let released = self.text_calls.push(text);
        self.push_text(released, out);
    }

    /// Releases held text at its end, as text or as tool calls.
    fn flush_held_text(&mut self, out: &mut VecDeque<ReplyDelta>) {
        let split = self.think_tags.finish();
        self.push_split_text(split, out);
        let (rest, calls) = mem::replace(&mut self.text_calls, TextToolCallParser::new([])).finish();
        self.push_text(rest, out);
        if calls.is_empty() {
            return;
        }
        self.notices.push(text_tool_calls_notice(&self.call.model));
        let tool_calls = calls.into_iter().map(|WrittenToolCall { name, arguments, .. }| ToolCallBuffer {
            name,
            arguments,
            ..ToolCallBuffer::default()
        });
        self.tool_calls.extend(tool_calls);
    }

    /// Applies any chunk, however its server forms it.
    pub(super) fn apply_chunk(
        &mut self,
        event: &ProviderEvent,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError> {
        let chunk: CompletionChunk = parse_event(event, &self.call)?;
        if let Some(usage) = chunk.usage.filter(Value::is_object) {
            self.usage = parse_usage(&usage);
        }
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(self.call.stream_error(&error, &event.data));
        }
        // Older servers send the error object itself in place of the chunk.
        if event.name == "error" || chunk.object.as_deref() == Some("error") {
            let error = serde_json::from_str(&event.data).unwrap_or_default();
            return Err(self.call.stream_error(&error, &event.data));
        }
        // Only one choice is requested.
        let Some(choice) = chunk.choices.into_iter().flatten().next() else { return Ok(EventProgress::KeepAlive) };
        if let Some(error) = choice.error.filter(|error| !error.is_null()) {
            return Err(self.call.stream_error(&error, &event.data));
        }
        let pieces_before = out.len();
        let mut has_content = false;
        if let Some(delta) = choice.delta.or(choice.message) {
            let [content, other] = REASONING_FIELDS;
            let fields = [(content, delta.reasoning_content), (other, delta.reasoning)];
            // Servers that send both fields send the same text in them.
            let mut reasoning =
                fields.into_iter().map(|(field, text)| (field, text.map(content_text).unwrap_or_default()));
            if let Some((field, text)) = reasoning.find(|(_, text)| !text.is_empty()) {
                self.push_reasoning(text, Some(field), out);
            }
            if let Some(text) = delta.content.as_ref().map(thinking_text).filter(|text| !text.is_empty()) {
                self.push_reasoning(text, None, out);
            }
            self.details.extend(delta.reasoning_details.into_iter().flatten());
            let text = delta.content.map(content_text).unwrap_or_default();
            has_content |= !text.is_empty();
            let split = self.think_tags.push(text);
            self.push_split_text(split, out);
            if let Some(refusal) = delta.refusal.filter(|refusal| !refusal.is_empty()) {
                self.refused = true;
                self.push_text(refusal, out);
            }
            for chunk in delta.tool_calls.into_iter().flatten() {
                has_content = true;
                self.apply_call_chunk(chunk);
            }
            if let Some(function) = delta.function_call {
                has_content = true;
                self.apply_call_chunk(ToolCallChunk {
                    index: None,
                    id: None,
                    function: Some(function),
                    extra_content: None,
                });
            }
        }
        if let Some(finish) = known_stop_reason(choice.finish_reason) {
            has_content |= self.finish_reason.is_none();
            self.finish_reason = Some(finish);
            self.flush_held_text(out);
        }
        // Some servers keep a connection alive with empty chunks.
        Ok(if has_content || out.len() > pieces_before { EventProgress::Content } else { EventProgress::KeepAlive })
    }

    fn apply_call_chunk(&mut self, chunk: ToolCallChunk) {
        let id = chunk.id.unwrap_or_default();
        let FunctionChunk { name, arguments } = chunk.function.unwrap_or_default();
        let name = name.unwrap_or_default();
        let at = self.find_or_add_call(chunk.index, &id, &name, arguments.as_ref());
        let buffer = &mut self.tool_calls[at];
        buffer.extra = chunk.extra_content.or(buffer.extra.take());
        if buffer.id.is_empty() {
            buffer.id = id;
        }
        buffer.apply_name(&name, &self.tools);
        match arguments {
            None | Some(Value::Null) => {}
            // Some gateways send all arguments so far in every piece.
            Some(Value::String(piece))
                if piece.len() > buffer.arguments.len() && piece.starts_with(&buffer.arguments) =>
            {
                buffer.arguments = piece;
            }
            Some(Value::String(piece)) => buffer.arguments.push_str(&piece),
            Some(whole) => buffer.arguments.push_str(&whole.to_string()),
        }
    }

    /// Returns the position of the call that a piece belongs to. Adds a call if the piece starts a new one.
    fn find_or_add_call(&mut self, index: Option<u64>, id: &str, name: &str, arguments: Option<&Value>) -> usize {
        let same_index = index.and_then(|index| self.tool_calls.iter().rposition(|buffer| buffer.index == Some(index)));
        let same_id = || self.tool_calls.iter().rposition(|buffer| !id.is_empty() && buffer.id == id);
        let found = match (same_index, index) {
            // Some servers give all calls of a reply the index 0. Another id with a name starts another call.
            (Some(at), _) if !id.is_empty() && !self.tool_calls[at].id.is_empty() && self.tool_calls[at].id != id => {
                same_id().or_else(|| name.is_empty().then_some(at))
            }
            (Some(at), _) => Some(at),
            (None, Some(_)) => None,
            (None, None) if !id.is_empty() => same_id(),
            (None, None) => self.tool_calls.len().checked_sub(1),
        };
        // The id and the index may be the same for all calls of a server.
        let found = found.filter(|at| {
            let buffer = &self.tool_calls[*at];
            !buffer.is_followed_by(name, arguments) && !buffer.is_followed_by_tool(id, name, &self.tools)
        });
        found.unwrap_or_else(|| {
            self.tool_calls.push(ToolCallBuffer { index, ..ToolCallBuffer::default() });
            self.tool_calls.len() - 1
        })
    }

    /// Returns why the reply ended, or an error if the server failed.
    fn stop_reason(&self, finish: &str) -> Result<StopReason, ModelError> {
        let ReplyEnd::Complete(reason) = parse_stop_reason(finish) else {
            return Err(self.call.broken_reply_error(finish));
        };
        Ok(match reason {
            _ if self.refused => StopReason::Refusal,
            StopReason::MaxTokens | StopReason::Refusal => reason,
            // Several servers send `stop` or their own word after tool calls.
            _ if !self.tool_calls.is_empty() => StopReason::ToolUse,
            reason => reason,
        })
    }
}

impl ToolCallBuffer {
    /// Returns whether a piece with this name and these arguments starts another call. That requires that this call is
    /// complete and the piece does not continue it, since some servers repeat the name in every piece.
    fn is_followed_by(&self, name: &str, arguments: Option<&Value>) -> bool {
        let starts_arguments = match arguments {
            None | Some(Value::Null) => name != self.name,
            Some(Value::String(piece)) if piece.is_empty() => name != self.name,
            Some(Value::String(piece)) => piece.trim_start().starts_with('{'),
            Some(_) => true,
        };
        !name.is_empty() && !self.name.is_empty() && starts_arguments && self.is_complete()
    }

    /// Returns whether a piece with the name of another tool starts another call, before this one has arguments. An id or
    /// index would tell them apart.
    fn is_followed_by_tool(&self, id: &str, name: &str, tools: &[String]) -> bool {
        let is_tool = |name: &str| tools.iter().any(|tool| tool == name);
        id.is_empty() && self.index.is_none() && name != self.name && is_tool(name) && is_tool(&self.name)
    }

    /// Applies the name in a piece: the whole name, which some servers repeat in every piece, or a part of it.
    fn apply_name(&mut self, name: &str, tools: &[String]) {
        if name.is_empty() || name == self.name {
            return;
        }
        if self.name.is_empty() || name.starts_with(&self.name) {
            name.clone_into(&mut self.name);
            return;
        }
        let joined = format!("{}{name}", self.name);
        let is_tool = |name: &String| tools.contains(name);
        if self.arguments.is_empty() && (is_tool(&joined) || !is_tool(&self.name)) {
            self.name = joined;
        }
    }

    fn is_complete(&self) -> bool {
        // This check comes first, because parsing the arguments after every piece would take quadratic time.
        self.arguments.trim_end().ends_with('}')
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

impl ReplyAssembler for ChatCompletionsAssembler {
    fn apply_event(
        &mut self,
        event: &ProviderEvent,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError> {
        match parse_text_chunk(event) {
            Some(text) => Ok(self.apply_text(text, out)),
            None => self.apply_chunk(event, out),
        }
    }

    fn apply_end_mark(&mut self, out: &mut VecDeque<ReplyDelta>) {
        self.is_marked = true;
        if self.finish_reason.is_none() {
            self.flush_held_text(out);
        }
    }

    fn reported_usage(&self) -> TokenUsage {
        self.usage
    }

    fn has_stop_reason(&self) -> bool {
        self.finish_reason.is_some()
    }

    fn finish_reply(&mut self) -> Result<ModelReply, ModelError> {
        let Some(finish) = self.take_finish_reason() else { return Err(self.call.unfinished_error()) };
        let stop_reason = self.stop_reason(&finish)?;
        let mut recorder = mem::take(&mut self.recorder);
        if !self.details.is_empty() {
            let details = mem::take(&mut self.details);
            recorder
                .record_opaque(Value::Object(Map::from_iter([(REASONING_DETAILS.to_owned(), Value::Array(details))])));
        }
        let mut calls = Vec::with_capacity(self.tool_calls.len());
        for buffer in mem::take(&mut self.tool_calls) {
            recorder.record_call(buffer.extra.map(|extra| (EXTRA_CONTENT.to_owned(), extra)).into_iter().collect());
            let key = if buffer.id.is_empty() { buffer.index.map(|index| index.to_string()) } else { Some(buffer.id) };
            calls.push(WrittenToolCall { key, name: buffer.name, arguments: buffer.arguments });
        }
        remove_repeated_calls(&mut calls, &mut recorder);
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: parse_requested_calls(calls, stop_reason),
            usage: self.usage,
            stop_reason,
            provider_data: recorder.finish(BlockFormat::ChatCompletions),
            notices: mem::take(&mut self.notices),
        })
    }
}

/// Returns the text of content that is a string or a list of parts.
fn content_text(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}

/// Returns the reasoning in content that is a list of parts, as Mistral sends it.
fn thinking_text(content: &Value) -> String {
    let parts = content.as_array().into_iter().flatten();
    let thinking = parts.filter_map(|part| match part.get("thinking")? {
        Value::String(text) => Some(text.clone()),
        inner => Some(content_text(inner.clone())),
    });
    thinking.collect()
}

fn parse_usage(usage: &Value) -> TokenUsage {
    let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    TokenUsage {
        input_tokens: count("/prompt_tokens"),
        output_tokens: count("/completion_tokens"),
        cached_tokens: count("/prompt_tokens_details/cached_tokens").max(count("/prompt_cache_hit_tokens")),
        reasoning_tokens: count("/completion_tokens_details/reasoning_tokens"),
        ..TokenUsage::default()
    }
}
