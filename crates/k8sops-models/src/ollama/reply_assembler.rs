//! Assembles the lines of Ollama's API into a reply.

use std::{collections::VecDeque, mem};

use k8sops_core::{StopReason, TokenUsage};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ModelError, ModelReply, ProviderNotice, ReplyDelta,
    error_mapping::ProviderCall,
    event_framing::ProviderEvent,
    lenient_json::deserialize_or_none,
    reply_assembly::{EventProgress, ReplyAssembler, parse_event},
    requested_calls::{WrittenToolCall, parse_requested_calls},
    stop_reasons::{ReplyEnd, parse_stop_reason},
    text_tool_calls::{TextToolCallParser, text_tool_calls_notice},
    think_tags::{SplitText, ThinkTagSplitter},
};

#[derive(Deserialize)]
struct OllamaLine {
    #[serde(default)]
    message: Option<OllamaLineMessage>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    prompt_eval_count: Option<u64>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
struct OllamaLineMessage {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<OllamaLineToolCall>>,
}

#[derive(Deserialize)]
struct OllamaLineToolCall {
    #[serde(default)]
    function: Option<OllamaLineFunction>,
}

#[derive(Deserialize)]
struct OllamaLineFunction {
    #[serde(default)]
    name: Option<String>,
    /// The object. Some versions send it as text.
    #[serde(default)]
    arguments: Option<Value>,
}

/// Assembles the lines of one reply.
pub(crate) struct OllamaAssembler {
    call: ProviderCall,
    content: String,
    reasoning: String,
    /// The tool calls as the model wrote them.
    calls: Vec<WrittenToolCall>,
    think_tags: ThinkTagSplitter,
    text_calls: TextToolCallParser,
    window: u32,
    notices: Vec<ProviderNotice>,
    usage: TokenUsage,
    /// The reason of the end, or `None` before it.
    end: Option<String>,
}

impl OllamaAssembler {
    /// Creates an assembler for a reply to a request that offers these tools, in a context of `window` tokens.
    pub(crate) fn new(call: ProviderCall, tools: Vec<String>, window: u32, notices: Vec<ProviderNotice>) -> Self {
        Self {
            call,
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            think_tags: ThinkTagSplitter::default(),
            text_calls: TextToolCallParser::new(tools),
            window,
            notices,
            usage: TokenUsage::default(),
            end: None,
        }
    }

    fn push_reasoning(&mut self, text: &str, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.reasoning.push_str(text);
            out.push_back(ReplyDelta::Reasoning(text.to_owned()));
        }
    }

    fn push_text(&mut self, text: String, out: &mut VecDeque<ReplyDelta>) {
        if !text.is_empty() {
            self.content.push_str(&text);
            out.push_back(ReplyDelta::Text(text));
        }
    }

    /// Adds the reasoning and the text of one message.
    fn push_split_text(&mut self, SplitText { reasoning, text }: SplitText, out: &mut VecDeque<ReplyDelta>) {
        self.push_reasoning(&reasoning, out);
        let released = self.text_calls.push(text);
        self.push_text(released, out);
    }
}

impl ReplyAssembler for OllamaAssembler {
    fn apply_event(
        &mut self,
        event: &ProviderEvent,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError> {
        let line: OllamaLine = parse_event(event, &self.call)?;
        if let Some(error) = line.error.filter(|error| !error.is_null()) {
            return Err(self.call.stream_error(&error, &event.data));
        }
        let message = line.message.unwrap_or_default();
        let pieces_before = out.len();
        let mut has_content = false;
        if let Some(thinking) = message.thinking.filter(|thinking| !thinking.is_empty()) {
            // A server with a separate field for reasoning leaves no tags in the text.
            self.push_reasoning(&thinking, out);
        }
        if let Some(content) = message.content.filter(|content| !content.is_empty()) {
            has_content = true;
            let split = self.think_tags.push(content);
            self.push_split_text(split, out);
        }
        for function in message.tool_calls.into_iter().flatten().filter_map(|call| call.function) {
            let arguments = match function.arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(arguments) => arguments.to_string(),
            };
            has_content = true;
            self.calls.push(WrittenToolCall { key: None, name: function.name.unwrap_or_default(), arguments });
        }
        if line.done {
            self.usage.input_tokens = line.prompt_eval_count.unwrap_or_default();
            self.usage.output_tokens = line.eval_count.unwrap_or_default();
            self.end = Some(line.done_reason.unwrap_or_default());
            let split = self.think_tags.finish();
            self.push_split_text(split, out);
            let (rest, calls) = mem::replace(&mut self.text_calls, TextToolCallParser::new([])).finish();
            self.push_text(rest, out);
            if !calls.is_empty() {
                self.calls.extend(calls);
                self.notices.push(text_tool_calls_notice(&self.call.model));
            }
            return Ok(EventProgress::End);
        }
        Ok(if has_content || out.len() > pieces_before { EventProgress::Content } else { EventProgress::KeepAlive })
    }

    fn reported_usage(&self) -> TokenUsage {
        self.usage
    }

    fn has_stop_reason(&self) -> bool {
        self.end.is_some()
    }

    fn finish_reply(&mut self) -> Result<ModelReply, ModelError> {
        let Some(end) = self.end.take() else { return Err(self.call.unfinished_error()) };
        let stop_reason = match parse_stop_reason(&end) {
            ReplyEnd::Broken => return Err(self.call.broken_reply_error(&end)),
            ReplyEnd::Complete(StopReason::EndTurn | StopReason::Other) if !self.calls.is_empty() => {
                StopReason::ToolUse
            }
            ReplyEnd::Complete(reason) => reason,
        };
        if self.usage.input_tokens.saturating_add(1) >= u64::from(self.window) {
            self.notices.push(ProviderNotice {
                code: "prompt_cut",
                message: format!(
                    "The conversation fills the {} tokens of context of `{}`, and its beginning may have been truncated. \
                     Increase OLLAMA_MAX_CONTEXT, or the model's context_window in the catalog",
                    self.window, self.call.model
                ),
            });
        }
        let reasoning = mem::take(&mut self.reasoning);
        Ok(ModelReply {
            content: mem::take(&mut self.content),
            reasoning: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls: parse_requested_calls(mem::take(&mut self.calls), stop_reason),
            usage: self.usage,
            stop_reason,
            notices: mem::take(&mut self.notices),
            ..ModelReply::default()
        })
    }
}
