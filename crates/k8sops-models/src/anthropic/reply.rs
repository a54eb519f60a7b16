//! From the events of the Messages API to a reply.

use std::{collections::VecDeque, mem};

use eventsource_stream::Event;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::API;
use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    fault::{Call, Complaint},
    lenient,
    native::Recorder,
    render,
    sse::{Assemble, Taken},
};
use k8sops_core::{StopReason, TokenUsage};

/// Any event: the fields of all that we read, each optional, so that a new type or field is no error.
#[derive(Deserialize)]
struct Piece {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    message: Option<Start>,
    #[serde(default)]
    content_block: Option<Value>,
    #[serde(default)]
    delta: Option<BlockDelta>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    usage: Option<WireUsage>,
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
struct WireUsage {
    #[serde(default, deserialize_with = "lenient::or_none")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    #[serde(default, deserialize_with = "lenient::or_none")]
    thinking_tokens: Option<u64>,
}

impl WireUsage {
    /// Takes over what a later report says; it repeats some figures and leaves out others.
    fn update(&mut self, newer: &Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.cache_read_input_tokens = newer.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = newer.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens_details = newer.output_tokens_details.or(self.output_tokens_details);
    }

    /// In our terms: this API does not count what its cache took part in among the input.
    fn total(&self) -> TokenUsage {
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

/// A tool call that is being put together.
struct Slot {
    /// The index of its block.
    index: u64,
    name: String,
    /// What the block began with; the pieces, if any come, take its place.
    input: Option<Value>,
    json: String,
}

impl Slot {
    /// The input as it was written. The empty object that every block begins with is nothing written yet.
    fn written(self) -> String {
        match self.input {
            Some(Value::Object(input)) if self.json.is_empty() && !input.is_empty() => Value::Object(input).to_string(),
            _ => self.json,
        }
    }
}

/// Puts the events of one reply together.
pub(super) struct Assembler {
    call: Call,
    content: String,
    reasoning: String,
    /// In the order in which they began: some servers give all blocks the same index.
    slots: Vec<Slot>,
    /// A block of a tool that the server runs itself, and the input that is being written.
    foreign: Option<(u64, Value, String)>,
    recorder: Recorder,
    notices: Vec<ProviderNotice>,
    usage: WireUsage,
    stop_reason: Option<String>,
    stopped: bool,
}

impl Assembler {
    pub(super) fn new(call: Call, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            slots: Vec::new(),
            foreign: None,
            recorder: Recorder::default(),
            notices,
            usage: WireUsage::default(),
            stop_reason: None,
            stopped: false,
        }
    }

    fn text(&mut self, text: Option<String>, out: &mut VecDeque<ReplyDelta>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.recorder.text(&text);
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    fn thinking(&mut self, text: Option<String>, out: &mut VecDeque<ReplyDelta>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.recorder.reasoning(&text);
            self.reasoning.push_str(&text);
            out.push_back(ReplyDelta::Reasoning(text));
        }
    }

    fn signature(&mut self, signature: Option<String>) {
        if let Some(signature) = signature.filter(|signature| !signature.is_empty()) {
            self.recorder.reasoning_data("signature", Value::String(signature));
        }
    }

    /// Writes down a block that is not ours, once it is whole.
    fn close_foreign(&mut self) {
        let Some((_, mut block, written)) = self.foreign.take() else { return };
        if let (Some(fields), Ok(input)) = (block.as_object_mut(), serde_json::from_str(&written)) {
            fields.insert("input".to_owned(), input);
        }
        self.recorder.opaque(block);
    }
}

impl Assemble for Assembler {
    fn take(&mut self, event: &Event, out: &mut VecDeque<ReplyDelta>) -> Result<Taken, ModelError> {
        let data = event.data.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(Taken::Nothing);
        }
        let piece: Piece = match serde_json::from_str(data) {
            Ok(piece) => piece,
            // An event of a kind that is not known yet may use the names of our fields for something else.
            Err(_) if is_unknown(data) => return Ok(Taken::Nothing),
            Err(error) => return Err(self.call.malformed(&format!("an event cannot be read ({error}): {data}"))),
        };
        match piece.kind.as_str() {
            "message_start" => {
                if let Some(usage) = piece.message.and_then(|message| message.usage) {
                    self.usage.update(&usage);
                }
            }
            "content_block_start" => {
                let Some(block) = piece.content_block else { return Ok(Taken::Nothing) };
                let word = |name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
                self.close_foreign();
                match block.get("type").and_then(Value::as_str).unwrap_or_default() {
                    "text" => self.text(word("text"), out),
                    "thinking" => {
                        self.recorder.reasoning_begins();
                        self.thinking(word("thinking"), out);
                        self.signature(word("signature"));
                    }
                    "tool_use" => {
                        let (name, input) = (word("name").unwrap_or_default(), block.get("input").cloned());
                        self.recorder.call(Map::new());
                        self.slots.push(Slot { index: piece.index, name, input, json: String::new() });
                    }
                    _ => self.foreign = Some((piece.index, block, String::new())),
                }
            }
            "content_block_delta" => {
                let Some(delta) = piece.delta else { return Ok(Taken::Nothing) };
                self.text(delta.text, out);
                self.thinking(delta.thinking, out);
                self.signature(delta.signature);
                if let Some(json) = delta.partial_json {
                    if let Some((index, _, written)) = &mut self.foreign
                        && *index == piece.index
                    {
                        written.push_str(&json);
                    } else if let Some(slot) = self.slots.iter_mut().rfind(|slot| slot.index == piece.index) {
                        slot.json.push_str(&json);
                    }
                }
            }
            "message_delta" => {
                if let Some(usage) = piece.usage {
                    self.usage.update(&usage);
                }
                self.stop_reason = piece.delta.and_then(|delta| delta.stop_reason).or(self.stop_reason.take());
            }
            "message_stop" => {
                self.stopped = true;
                return Ok(Taken::End);
            }
            "error" => {
                return Err(self.call.refused(&Complaint::from_error(&piece.error.unwrap_or_default())));
            }
            _ => {
                if let Some(error) = piece.error.filter(|error| !error.is_null()) {
                    return Err(self.call.refused(&Complaint::from_error(&error)));
                }
                return Ok(Taken::Nothing);
            }
        }
        Ok(Taken::Piece)
    }

    fn finish(&mut self) -> Result<ModelReply, ModelError> {
        if !self.stopped {
            return Err(self.call.unfinished());
        }
        let stop_reason = match self.stop_reason.as_deref() {
            Some("max_tokens" | "model_context_window_exceeded") => StopReason::MaxTokens,
            Some("refusal") => StopReason::Refusal,
            Some("pause_turn") => StopReason::Paused,
            _ if !self.slots.is_empty() => StopReason::ToolUse,
            Some("end_turn" | "stop_sequence" | "tool_use") => StopReason::EndTurn,
            _ => StopReason::Other,
        };
        self.close_foreign();
        let calls = mem::take(&mut self.slots).into_iter().map(|mut slot| (mem::take(&mut slot.name), slot.written()));
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: render::requested_calls(calls.collect(), stop_reason),
            usage: self.usage.total(),
            stop_reason,
            provider_data: mem::take(&mut self.recorder).finish(API),
            notices: mem::take(&mut self.notices),
        })
    }
}

/// Whether this is a whole event of a kind that we do not read.
fn is_unknown(data: &str) -> bool {
    const READ: [&str; 6] =
        ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"];
    let event = serde_json::from_str::<Value>(data).unwrap_or_default();
    event.get("type").and_then(Value::as_str).is_some_and(|kind| !READ.contains(&kind))
}
