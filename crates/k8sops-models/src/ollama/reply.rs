//! From the lines of Ollama to a reply.

use std::{collections::VecDeque, mem};

use eventsource_stream::Event;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    fault::{Call, Complaint},
    lenient, render, spoken,
    spoken::Spoken,
    sse::{Assemble, Taken},
    tags::{Parted, Tags},
};
use k8sops_core::{StopReason, TokenUsage};

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: Option<Piece>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    prompt_eval_count: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_none")]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Piece {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<PieceCall>>,
}

#[derive(Deserialize)]
struct PieceCall {
    #[serde(default)]
    function: Option<PieceFunction>,
}

#[derive(Deserialize)]
struct PieceFunction {
    #[serde(default)]
    name: Option<String>,
    /// The object; from some versions its text.
    #[serde(default)]
    arguments: Option<Value>,
}

/// Puts the lines of one reply together.
pub(super) struct Assembler {
    call: Call,
    content: String,
    reasoning: String,
    /// Names and arguments, as they were written.
    calls: Vec<(String, String)>,
    tags: Tags,
    spoken: Spoken,
    window: u32,
    notices: Vec<ProviderNotice>,
    usage: TokenUsage,
    /// Why it ended; `None` until it has.
    end: Option<String>,
}

impl Assembler {
    /// For a reply to a request that offers these tools, in a context of `window` tokens.
    pub(super) fn new(call: Call, tools: Vec<String>, window: u32, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            tags: Tags::default(),
            spoken: Spoken::new(tools),
            window,
            notices,
            usage: TokenUsage::default(),
            end: None,
        }
    }

    fn think(&mut self, text: &str, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.reasoning.push_str(text);
            out.push_back(ReplyDelta::Reasoning(text.to_owned()));
        }
    }

    fn show(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    fn say(&mut self, text: &str, out: &mut VecDeque<ReplyDelta>) {
        let shown = self.spoken.push(text);
        self.show(shown, out);
    }

    /// Text, and what was thought in it.
    fn parted(&mut self, Parted { thought, text }: Parted, out: &mut VecDeque<ReplyDelta>) {
        self.think(&thought, out);
        self.say(&text, out);
    }
}

impl Assemble for Assembler {
    fn take(&mut self, event: &Event, out: &mut VecDeque<ReplyDelta>) -> Result<Taken, ModelError> {
        let line: Line = serde_json::from_str(&event.data)
            .map_err(|error| self.call.malformed(&format!("a line cannot be read ({error}): {}", event.data)))?;
        if let Some(error) = line.error.filter(|error| !error.is_null()) {
            return Err(self.call.refused(&Complaint::from_error(&error)));
        }
        let piece = line.message.unwrap_or_default();
        let (shown, mut more) = (out.len(), false);
        if let Some(thinking) = piece.thinking.filter(|thinking| !thinking.is_empty()) {
            // A server that tells them apart leaves no tags in the text.
            self.think(&thinking, out);
        }
        if let Some(content) = piece.content.filter(|content| !content.is_empty()) {
            more = true;
            let parted = self.tags.push(&content);
            self.parted(parted, out);
        }
        for function in piece.tool_calls.into_iter().flatten().filter_map(|call| call.function) {
            let arguments = match function.arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(arguments) => arguments.to_string(),
            };
            more = true;
            self.calls.push((function.name.unwrap_or_default(), arguments));
        }
        if line.done {
            self.usage.input_tokens = line.prompt_eval_count.unwrap_or_default();
            self.usage.output_tokens = line.eval_count.unwrap_or_default();
            self.end = Some(line.done_reason.unwrap_or_default());
            let parted = self.tags.finish();
            self.parted(parted, out);
            let (rest, calls) = mem::replace(&mut self.spoken, Spoken::new([])).finish();
            self.show(rest, out);
            if !calls.is_empty() {
                self.calls.extend(calls);
                self.notices.push(spoken::notice(&self.call.model));
            }
            return Ok(Taken::End);
        }
        Ok(if more || out.len() > shown { Taken::Piece } else { Taken::Nothing })
    }

    fn finish(&mut self) -> Result<ModelReply, ModelError> {
        let Some(end) = self.end.take() else { return Err(self.call.unfinished()) };
        let stop_reason = match end.as_str() {
            "length" => StopReason::MaxTokens,
            _ if !self.calls.is_empty() => StopReason::ToolUse,
            "stop" | "load" | "unload" | "" => StopReason::EndTurn,
            _ => StopReason::Other,
        };
        if self.usage.input_tokens.saturating_add(1) >= u64::from(self.window) {
            self.notices.push(ProviderNotice {
                code: "prompt_cut",
                message: format!(
                    "The conversation fills the {} tokens of context that `{}` has, and its beginning may have been cut off. \
                     Raise OLLAMA_MAX_CONTEXT, or the model's context_window in the catalog",
                    self.window, self.call.model
                ),
            });
        }
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: render::requested_calls(mem::take(&mut self.calls), stop_reason),
            usage: self.usage,
            stop_reason,
            notices: mem::take(&mut self.notices),
            ..ModelReply::default()
        })
    }
}
