//! From the events of the Responses API to a reply.
//!
//! Lenient to servers that leave events out: what is only in a whole item, or only in the whole response, is taken from
//! there. Strict in one thing: a reply without `response.completed` or `response.incomplete` is not complete.

use std::{collections::VecDeque, mem};

use eventsource_stream::Event;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{API, thought};
use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    fault::{Call, Complaint},
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
    output_index: Option<u64>,
    #[serde(default)]
    item_id: Option<String>,
    #[serde(default)]
    item: Option<Value>,
    #[serde(default)]
    delta: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    #[serde(default)]
    response: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

/// A tool call that is being put together.
#[derive(Default)]
struct Slot {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// Puts the events of one reply together.
pub(in crate::openai) struct Assembler {
    call: Call,
    content: String,
    reasoning: String,
    slots: Vec<Slot>,
    /// Bytes of text of the message that is open.
    said: usize,
    /// Where the open item of reasoning begins in all reasoning.
    thinks_from: Option<usize>,
    recorder: Recorder,
    notices: Vec<ProviderNotice>,
    refused: bool,
    /// The whole response, once it is there.
    response: Option<Value>,
}

impl Assembler {
    pub(in crate::openai) fn new(call: Call, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            slots: Vec::new(),
            said: 0,
            thinks_from: None,
            recorder: Recorder::default(),
            notices,
            refused: false,
            response: None,
        }
    }

    fn text(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.said += text.len();
            self.recorder.text(&text);
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    fn think(&mut self, text: &str, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            if self.thinks_from.is_none() {
                self.begin_thought(out);
            }
            self.recorder.reasoning(text);
            self.reasoning.push_str(text);
            out.push_back(ReplyDelta::Reasoning(text.to_owned()));
        }
    }

    /// An item of reasoning begins, a blank line after the one before.
    fn begin_thought(&mut self, out: &mut VecDeque<ReplyDelta>) {
        if !self.reasoning.is_empty() {
            // Of the block before, so that this item's text is all its own.
            self.recorder.reasoning_begins();
            self.recorder.reasoning(thought::GAP);
            self.reasoning.push_str(thought::GAP);
            out.push_back(ReplyDelta::Reasoning(thought::GAP.to_owned()));
        }
        self.recorder.reasoning_begins();
        self.thinks_from = Some(self.reasoning.len());
    }

    /// The call that a piece belongs to; a new one if it is the first of it.
    fn slot(&mut self, index: Option<u64>, id: Option<&str>) -> &mut Slot {
        let id = id.filter(|id| !id.is_empty());
        let by_id = id.and_then(|id| self.slots.iter().position(|slot| slot.id == id));
        let by_index = || index.and_then(|index| self.slots.iter().position(|slot| slot.index == Some(index)));
        // Without either it belongs to the newest.
        let newest = || self.slots.len().checked_sub(1).filter(|_| id.is_none() && index.is_none());
        let at = by_id.or_else(by_index).or_else(newest).unwrap_or_else(|| {
            self.recorder.call(Map::new());
            self.slots.push(Slot { index, id: id.unwrap_or_default().to_owned(), ..Slot::default() });
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }

    fn item_begins(&mut self, index: Option<u64>, item: &Value, out: &mut VecDeque<ReplyDelta>) {
        let word = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        match word("type") {
            "message" => self.said = 0,
            "reasoning" => self.begin_thought(out),
            "function_call" => {
                self.recorder.call(Map::new());
                let (id, name) = (word("id").to_owned(), word("name").to_owned());
                self.slots.push(Slot { index, id, name, arguments: word("arguments").to_owned() });
            }
            _ => {}
        }
    }

    /// A whole item: what it says counts.
    fn item_is_whole(&mut self, index: Option<u64>, item: &Value, out: &mut VecDeque<ReplyDelta>) {
        let word = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        match word("type") {
            "message" => {
                let parts = || item.get("content").and_then(Value::as_array).into_iter().flatten();
                let text: String =
                    parts().filter_map(|part| part.get("text").or_else(|| part.get("refusal"))?.as_str()).collect();
                self.refused |= parts().any(|part| part.get("refusal").is_some_and(Value::is_string));
                if self.said == 0 {
                    self.text(text, out);
                }
                self.said = 0;
            }
            "reasoning" => {
                if self.thinks_from.is_none() {
                    self.begin_thought(out);
                }
                let from = self.thinks_from.unwrap_or_default();
                if self.reasoning.len() == from {
                    let whole = thought::summary(item).join(thought::GAP);
                    self.think(&whole, out);
                }
                thought::record(&mut self.recorder, item, &self.reasoning[from..]);
                self.thinks_from = None;
            }
            "function_call" => {
                let (name, arguments) = (word("name").to_owned(), word("arguments").to_owned());
                let id = Some(word("id")).filter(|id| !id.is_empty());
                // One that says neither which it is nor where it stands is one of its own.
                let known = id.is_some() || index.is_some() || self.slots.last().is_some_and(|slot| slot.name == name);
                if !known {
                    self.recorder.call(Map::new());
                    self.slots.push(Slot::default());
                }
                let slot = self.slot(index, id);
                slot.name = name;
                if !arguments.is_empty() {
                    slot.arguments = arguments;
                }
            }
            _ => {}
        }
    }

    /// The whole response: what was not streamed is taken from it.
    fn response_is_whole(&mut self, response: Value, out: &mut VecDeque<ReplyDelta>) {
        if self.content.is_empty() && self.slots.is_empty() {
            for (at, item) in response.get("output").and_then(Value::as_array).into_iter().flatten().enumerate() {
                let is_new = item.get("type").is_some_and(|kind| kind == "message" || kind == "function_call")
                    || self.reasoning.is_empty();
                if is_new {
                    self.item_is_whole(Some(at as u64), item, out);
                }
            }
        }
        self.response = Some(response);
    }

    fn error(&self, error: &Value) -> ModelError {
        self.call.refused(&Complaint::from_error(error))
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
        let Piece { kind, output_index, item_id, item, delta, arguments, response, error } = piece;
        let delta = delta.unwrap_or_default();
        match kind.as_str() {
            "response.output_item.added" => self.item_begins(output_index, &item.unwrap_or_default(), out),
            "response.output_item.done" => self.item_is_whole(output_index, &item.unwrap_or_default(), out),
            "response.output_text.delta" => self.text(delta, out),
            "response.refusal.delta" => {
                self.refused = true;
                self.text(delta, out);
            }
            "response.reasoning_summary_part.added" => {
                // Another part of the same summary.
                if self.thinks_from.is_some_and(|from| self.reasoning.len() > from) {
                    self.think(thought::GAP, out);
                }
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => self.think(&delta, out),
            "response.function_call_arguments.delta" => {
                self.slot(output_index, item_id.as_deref()).arguments.push_str(&delta);
            }
            "response.function_call_arguments.done" => {
                if let Some(arguments) = arguments {
                    self.slot(output_index, item_id.as_deref()).arguments = arguments;
                }
            }
            "response.completed" | "response.incomplete" => {
                self.response_is_whole(response.unwrap_or_default(), out);
                return Ok(Taken::End);
            }
            "response.failed" => {
                let response = response.unwrap_or_default();
                return Err(self.error(response.get("error").filter(|error| !error.is_null()).unwrap_or(&response)));
            }
            "error" => {
                let whole = serde_json::from_str(data).unwrap_or_default();
                return Err(self.error(error.as_ref().filter(|error| !error.is_null()).unwrap_or(&whole)));
            }
            _ => {
                if let Some(error) = error.filter(|error| !error.is_null()) {
                    return Err(self.error(&error));
                }
                return Ok(Taken::Nothing);
            }
        }
        Ok(Taken::Piece)
    }

    fn finish(&mut self) -> Result<ModelReply, ModelError> {
        let Some(response) = self.response.take() else { return Err(self.call.unfinished()) };
        let why = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
        let stop_reason = match why {
            _ if self.refused => StopReason::Refusal,
            Some("max_output_tokens") => StopReason::MaxTokens,
            Some("content_filter") => StopReason::Refusal,
            _ if !self.slots.is_empty() => StopReason::ToolUse,
            None => StopReason::EndTurn,
            Some(_) => StopReason::Other,
        };
        let calls = mem::take(&mut self.slots).into_iter().map(|slot| (slot.name, slot.arguments));
        let reasoning = mem::take(&mut self.reasoning);
        let count = |pointer: &str| response.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: render::requested_calls(calls.collect(), stop_reason),
            usage: TokenUsage {
                input_tokens: count("/usage/input_tokens"),
                output_tokens: count("/usage/output_tokens"),
                cached_tokens: count("/usage/input_tokens_details/cached_tokens"),
                cache_write_tokens: count("/usage/input_tokens_details/cache_write_tokens"),
                reasoning_tokens: count("/usage/output_tokens_details/reasoning_tokens"),
                ..TokenUsage::default()
            },
            stop_reason,
            provider_data: mem::take(&mut self.recorder).finish(API),
            notices: mem::take(&mut self.notices),
        })
    }
}

/// Whether this is a whole event of a kind that we do not read.
fn is_unknown(data: &str) -> bool {
    const READ: [&str; 12] = [
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
    event.get("type").and_then(Value::as_str).is_some_and(|kind| !READ.contains(&kind))
}
