//! From the chunks of chat completions to a reply.
//!
//! The structs are our own and lenient, because hardly two servers agree: ids and indices are missing or repeated, new
//! finish reasons appear, an error comes where a chunk should be. One thing is strict: a reply without a finish reason is
//! not complete, however the stream ended.

use std::{collections::VecDeque, mem};

use eventsource_stream::Event;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{API, DETAILS, EXTRA, FIELD, REASONING_FIELDS};

use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    fault::{Call, Complaint},
    lenient,
    native::Recorder,
    render, spoken,
    spoken::Spoken,
    sse::{Assemble, Taken},
    tags::{Parted, Tags},
};
use k8sops_core::{StopReason, TokenUsage};

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<ChunkDelta>,
    /// What some servers write in the place of `delta`, mostly with all of it at once.
    #[serde(default)]
    message: Option<ChunkDelta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ChunkDelta {
    /// Text, or a list of parts with text.
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallChunk>>,
    /// The older form of a single call.
    #[serde(default)]
    function_call: Option<FunctionChunk>,
    #[serde(default)]
    reasoning_details: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct CallChunk {
    #[serde(default, deserialize_with = "lenient::or_none")]
    index: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionChunk>,
    #[serde(default)]
    extra_content: Option<Value>,
}

#[derive(Deserialize)]
struct FunctionChunk {
    #[serde(default)]
    name: Option<String>,
    /// A piece of JSON text; from some servers the object itself.
    #[serde(default)]
    arguments: Option<Value>,
}

/// A tool call that is being put together.
#[derive(Default)]
struct Slot {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra: Option<Value>,
}

/// Puts the chunks of one reply together.
pub(in crate::openai) struct Assembler {
    call: Call,
    content: String,
    reasoning: String,
    slots: Vec<Slot>,
    usage: TokenUsage,
    finish: Option<String>,
    refused: bool,
    /// Finds what the model thinks, where that comes in its text.
    tags: Tags,
    /// Finds the calls that a model writes as text.
    spoken: Spoken,
    recorder: Recorder,
    details: Vec<Value>,
    notices: Vec<ProviderNotice>,
}

impl Assembler {
    /// For a reply to a request that offers these tools.
    pub(in crate::openai) fn new(call: Call, tools: Vec<String>, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            slots: Vec::new(),
            usage: TokenUsage::default(),
            finish: None,
            refused: false,
            tags: Tags::default(),
            spoken: Spoken::new(tools),
            recorder: Recorder::default(),
            details: Vec::new(),
            notices,
        }
    }

    fn text(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.recorder.text(&text);
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    /// What the model thinks; from a field of this name, which is where it goes back.
    fn think(&mut self, text: String, field: Option<&'static str>, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.recorder.reasoning(&text);
            if let Some(field) = field {
                self.recorder.reasoning_data(FIELD, Value::from(field));
            }
            self.reasoning.push_str(&text);
            out.push_back(ReplyDelta::Reasoning(text));
        }
    }

    /// Text, and what was thought in it.
    fn parted(&mut self, Parted { thought, text }: Parted, out: &mut VecDeque<ReplyDelta>) {
        self.think(thought, None, out);
        let shown = self.spoken.push(&text);
        self.text(shown, out);
    }

    /// At the end of the text: what was held back of it, as text or as calls.
    fn end_of_text(&mut self, out: &mut VecDeque<ReplyDelta>) {
        let parted = self.tags.finish();
        self.parted(parted, out);
        let (rest, calls) = mem::replace(&mut self.spoken, Spoken::new([])).finish();
        self.text(rest, out);
        if calls.is_empty() {
            return;
        }
        self.notices.push(spoken::notice(&self.call.model));
        let slots = calls.into_iter().map(|(name, arguments)| Slot { name, arguments, ..Slot::default() });
        self.slots.extend(slots);
    }

    fn call_chunk(&mut self, chunk: CallChunk) {
        let id = chunk.id.unwrap_or_default();
        let (name, arguments) = chunk.function.map_or((None, None), |f| (f.name, f.arguments));
        let name = name.unwrap_or_default();
        let at = self.slot(chunk.index, &id, &name, arguments.as_ref());
        let slot = &mut self.slots[at];
        slot.extra = chunk.extra_content.or(slot.extra.take());
        if slot.id.is_empty() {
            slot.id = id;
        }
        // Some servers repeat the name with every piece.
        if slot.name.is_empty() {
            slot.name = name;
        }
        match arguments {
            None | Some(Value::Null) => {}
            Some(Value::String(piece)) => slot.arguments.push_str(&piece),
            Some(whole) => slot.arguments.push_str(&whole.to_string()),
        }
    }

    /// Which call a piece belongs to.
    fn slot(&mut self, index: Option<u64>, id: &str, name: &str, arguments: Option<&Value>) -> usize {
        let same_index = index.and_then(|index| self.slots.iter().rposition(|slot| slot.index == Some(index)));
        let same_id = || self.slots.iter().rposition(|slot| !id.is_empty() && slot.id == id);
        let found = match (same_index, index) {
            // Some servers give every call of a reply the index 0: another id with a name begins another call.
            (Some(at), _) if !id.is_empty() && !self.slots[at].id.is_empty() && self.slots[at].id != id => {
                same_id().or_else(|| name.is_empty().then_some(at))
            }
            (Some(at), _) => Some(at),
            (None, Some(_)) => None,
            (None, None) if !id.is_empty() => same_id(),
            (None, None) => self.slots.len().checked_sub(1),
        };
        // What a server says of them may be the same for all its calls.
        let found = found.filter(|at| !self.slots[*at].is_before(name, arguments));
        found.unwrap_or_else(|| {
            self.slots.push(Slot { index, ..Slot::default() });
            self.slots.len() - 1
        })
    }

    fn stop_reason(&self, finish: &str) -> StopReason {
        let calls = !self.slots.is_empty();
        match finish {
            _ if self.refused => StopReason::Refusal,
            "length" | "max_tokens" => StopReason::MaxTokens,
            "content_filter" => StopReason::Refusal,
            // Several servers say `stop`, or a word of their own, after tool calls.
            _ if calls => StopReason::ToolUse,
            "stop" | "tool_calls" | "function_call" | "eos" | "eos_token" | "end_turn" => StopReason::EndTurn,
            _ => StopReason::Other,
        }
    }
}

impl Slot {
    /// Whether a piece with this name and these arguments begins another call: this one is whole, and the piece is no end of
    /// it. Some servers repeat the name with every piece.
    fn is_before(&self, name: &str, arguments: Option<&Value>) -> bool {
        let begins = match arguments {
            None | Some(Value::Null) => name != self.name,
            Some(Value::String(piece)) if piece.is_empty() => name != self.name,
            Some(Value::String(piece)) => piece.trim_start().starts_with('{'),
            Some(_) => true,
        };
        !name.is_empty() && !self.name.is_empty() && begins && self.is_complete()
    }

    fn is_complete(&self) -> bool {
        // Looked at first: the rest would be read anew for each piece.
        self.arguments.trim_end().ends_with('}')
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

impl Assemble for Assembler {
    fn take(&mut self, event: &Event, out: &mut VecDeque<ReplyDelta>) -> Result<Taken, ModelError> {
        let data = event.data.trim();
        if data == "[DONE]" {
            self.end_of_text(out);
            return Ok(Taken::End);
        }
        if data.is_empty() {
            return Ok(Taken::Nothing);
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|error| self.call.malformed(&format!("a piece cannot be read ({error}): {data}")))?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(self.call.refused(&Complaint::from_error(&error)));
        }
        // Older servers send the error itself in place of the chunk.
        if event.event == "error" || chunk.object.as_deref() == Some("error") {
            let error = serde_json::from_str(data).unwrap_or_default();
            return Err(self.call.refused(&Complaint::from_error(&error)));
        }
        if let Some(usage) = chunk.usage.filter(Value::is_object) {
            self.usage = read_usage(&usage);
        }
        // We ask for one choice.
        let Some(choice) = chunk.choices.into_iter().flatten().next() else { return Ok(Taken::Nothing) };
        let (shown, mut more) = (out.len(), false);
        if let Some(delta) = choice.delta.or(choice.message) {
            let [content, other] = REASONING_FIELDS;
            let fields = [(content, delta.reasoning_content), (other, delta.reasoning)];
            // Those that write both write the same.
            let thought = fields.into_iter().map(|(field, text)| (field, text.map(text_of).unwrap_or_default()));
            if let Some((field, text)) = thought.into_iter().find(|(_, text)| !text.is_empty()) {
                self.think(text, Some(field), out);
            }
            self.details.extend(delta.reasoning_details.into_iter().flatten());
            let text = delta.content.map(text_of).unwrap_or_default();
            more |= !text.is_empty();
            let parted = self.tags.push(&text);
            self.parted(parted, out);
            if let Some(refusal) = delta.refusal.filter(|refusal| !refusal.is_empty()) {
                self.refused = true;
                self.text(refusal, out);
            }
            for chunk in delta.tool_calls.into_iter().flatten() {
                more = true;
                self.call_chunk(chunk);
            }
            if let Some(function) = delta.function_call {
                more = true;
                self.call_chunk(CallChunk { index: None, id: None, function: Some(function), extra_content: None });
            }
        }
        if let Some(finish) = choice.finish_reason.filter(|finish| !finish.is_empty()) {
            self.finish = Some(finish);
            self.end_of_text(out);
            more = true;
        }
        // Some servers keep a connection alive with chunks in which nothing is.
        Ok(if more || out.len() > shown { Taken::Piece } else { Taken::Nothing })
    }

    fn finish(&mut self) -> Result<ModelReply, ModelError> {
        let Some(finish) = self.finish.take() else { return Err(self.call.unfinished()) };
        let stop_reason = self.stop_reason(&finish);
        let mut recorder = mem::take(&mut self.recorder);
        if !self.details.is_empty() {
            let details = mem::take(&mut self.details);
            recorder.opaque(Value::Object(Map::from_iter([(DETAILS.to_owned(), Value::Array(details))])));
        }
        let mut calls = Vec::with_capacity(self.slots.len());
        for slot in mem::take(&mut self.slots) {
            recorder.call(slot.extra.map(|extra| (EXTRA.to_owned(), extra)).into_iter().collect());
            calls.push((slot.name, slot.arguments));
        }
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: render::requested_calls(calls, stop_reason),
            usage: self.usage,
            stop_reason,
            provider_data: recorder.finish(API),
            notices: mem::take(&mut self.notices),
        })
    }
}

/// The text of a piece, which is text or a list of parts.
fn text_of(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}

fn read_usage(usage: &Value) -> TokenUsage {
    let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    TokenUsage {
        input_tokens: count("/prompt_tokens"),
        output_tokens: count("/completion_tokens"),
        cached_tokens: count("/prompt_tokens_details/cached_tokens").max(count("/prompt_cache_hit_tokens")),
        reasoning_tokens: count("/completion_tokens_details/reasoning_tokens"),
        ..TokenUsage::default()
    }
}
