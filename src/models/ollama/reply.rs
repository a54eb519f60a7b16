//! From the lines of Ollama to a reply.

use std::{collections::VecDeque, mem};

use eventsource_stream::Event;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    models::{
        Delta, ModelError, Notice, Reply,
        fault::{Call, Complaint},
        render,
        spoken::{self, Spoken},
        sse::{Assemble, Taken},
    },
    session::{StopReason, Usage},
};

/// How models write that they think, when nobody takes it out of their text.
const THINKS: (&str, &str) = ("<think>", "</think>");

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: Option<Piece>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
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

/// Takes what stands between the tags at the beginning of a text out of it.
#[derive(Debug, Default, PartialEq)]
enum Thought {
    /// It may still begin with the tag.
    #[default]
    Beginning,
    Inside,
    /// Right behind it, where white space is of no use.
    Behind,
    /// Further behind it, or there was none.
    Over,
}

/// Puts the lines of one reply together.
pub(super) struct Assembler {
    call: Call,
    content: String,
    reasoning: String,
    /// Names and arguments, as they were written.
    calls: Vec<(String, String)>,
    thought: Thought,
    /// Text of which it is not known yet whether it is thought.
    held: String,
    spoken: Spoken,
    window: u32,
    notices: Vec<Notice>,
    usage: Usage,
    /// Why it ended; `None` until it has.
    end: Option<String>,
}

impl Assembler {
    /// For a reply to a request that offers these tools, in a context of `window` tokens.
    pub(super) fn new(call: Call, tools: Vec<String>, window: u32, notices: Vec<Notice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            thought: Thought::default(),
            held: String::new(),
            spoken: Spoken::new(tools),
            window,
            notices,
            usage: Usage::default(),
            end: None,
        }
    }

    fn think(&mut self, text: &str, out: &mut VecDeque<Delta>) {
        if !text.is_empty() {
            self.reasoning.push_str(text);
            out.push_back(Delta::Reasoning(text.to_owned()));
        }
    }

    fn show(&mut self, text: String, out: &mut VecDeque<Delta>) {
        if !text.is_empty() {
            self.content.push_str(&text);
            out.push_back(Delta::Text(text));
        }
    }

    fn say(&mut self, text: &str, out: &mut VecDeque<Delta>) {
        let shown = self.spoken.push(text);
        self.show(shown, out);
    }

    /// Takes in text that may be thought.
    fn text(&mut self, piece: &str, out: &mut VecDeque<Delta>) {
        if self.thought == Thought::Behind && !piece.trim_start().is_empty() {
            self.thought = Thought::Over;
            return self.say(piece.trim_start(), out);
        }
        match self.thought {
            Thought::Over => return self.say(piece, out),
            Thought::Behind => return,
            Thought::Beginning | Thought::Inside => {}
        }
        self.held.push_str(piece);
        if self.thought == Thought::Beginning {
            let beginning = self.held.trim_start();
            if let Some(inside) = beginning.strip_prefix(THINKS.0) {
                self.thought = Thought::Inside;
                self.held = inside.to_owned();
            } else if THINKS.0.starts_with(beginning) {
                return;
            } else {
                self.thought = Thought::Over;
                let held = mem::take(&mut self.held);
                return self.say(&held, out);
            }
        }
        if self.reasoning.is_empty() {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
        }
        if let Some((thought, after)) = self.held.split_once(THINKS.1) {
            let (thought, after) = (thought.trim_end().to_owned(), after.to_owned());
            self.held.clear();
            self.thought = Thought::Behind;
            self.think(&thought, out);
            return self.text(&after, out);
        }
        // White space and what may be the beginning of the end stay back.
        let may_end = |at: usize| THINKS.1.starts_with(&self.held[at..]);
        let end =
            self.held.char_indices().map(|(at, _)| at).rev().take(THINKS.1.len()).filter(|at| may_end(*at)).last();
        let sure = self.held[..end.unwrap_or(self.held.len())].trim_end().len();
        let rest = self.held.split_off(sure);
        let sure = mem::replace(&mut self.held, rest);
        self.think(&sure, out);
    }
}

impl Assemble for Assembler {
    fn take(&mut self, event: &Event, out: &mut VecDeque<Delta>) -> Result<Taken, ModelError> {
        let line: Line = serde_json::from_str(&event.data)
            .map_err(|error| self.call.malformed(&format!("a line cannot be read ({error}): {}", event.data)))?;
        if let Some(error) = line.error.filter(|error| !error.is_null()) {
            return Err(self.call.refused(&Complaint::from_error(&error)));
        }
        let piece = line.message.unwrap_or_default();
        let before = (out.len(), self.calls.len(), self.held.len());
        if let Some(thinking) = piece.thinking.filter(|thinking| !thinking.is_empty()) {
            // A server that tells them apart leaves no tags in the text.
            self.think(&thinking, out);
        }
        if let Some(content) = piece.content.filter(|content| !content.is_empty()) {
            self.text(&content, out);
        }
        for function in piece.tool_calls.into_iter().flatten().filter_map(|call| call.function) {
            let arguments = match function.arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(arguments) => arguments.to_string(),
            };
            self.calls.push((function.name.unwrap_or_default(), arguments));
        }
        if line.done {
            self.usage.input_tokens = line.prompt_eval_count.unwrap_or_default();
            self.usage.output_tokens = line.eval_count.unwrap_or_default();
            self.end = Some(line.done_reason.unwrap_or_default());
            let held = mem::take(&mut self.held);
            match mem::replace(&mut self.thought, Thought::Over) {
                Thought::Inside => self.think(&held, out),
                Thought::Beginning | Thought::Behind | Thought::Over => self.say(&held, out),
            }
            let (rest, calls) = mem::replace(&mut self.spoken, Spoken::new([])).finish();
            self.show(rest, out);
            if !calls.is_empty() {
                self.calls.extend(calls);
                self.notices.push(spoken::notice(&self.call.model));
            }
            return Ok(Taken::End);
        }
        let more = (out.len(), self.calls.len(), self.held.len()) != before;
        Ok(if more { Taken::Piece } else { Taken::Nothing })
    }

    fn finish(&mut self) -> Result<Reply, ModelError> {
        let Some(end) = self.end.take() else { return Err(self.call.unfinished()) };
        let stop_reason = match end.as_str() {
            "length" => StopReason::MaxTokens,
            _ if !self.calls.is_empty() => StopReason::ToolUse,
            "stop" | "load" | "unload" | "" => StopReason::EndTurn,
            _ => StopReason::Other,
        };
        if self.usage.input_tokens + 1 >= u64::from(self.window) {
            self.notices.push(Notice {
                code: "prompt_cut",
                message: format!(
                    "The conversation fills the {} tokens of context that `{}` has, and its beginning may have been cut off. \
                     Raise OLLAMA_MAX_CONTEXT, or the model's context_window in the catalog",
                    self.window, self.call.model
                ),
            });
        }
        let reasoning = mem::take(&mut self.reasoning);
        Ok(Reply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: render::requested_calls(mem::take(&mut self.calls), stop_reason),
            usage: self.usage,
            stop_reason,
            notices: mem::take(&mut self.notices),
            ..Reply::default()
        })
    }
}
