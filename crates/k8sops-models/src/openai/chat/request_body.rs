//! The request as chat completions take it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::block_fields::{EXTRA_CONTENT, FIELD_NAME, REASONING_DETAILS, REASONING_FIELDS};
use crate::{
    ChatRequest, ToolChoice,
    openai::request_plan::{NO_EFFORT, OpenAiPlan, reasoning_effort_value},
    prompt::{PromptTurn, SameModelContent, ToolExchange, arguments_object, prompt_turns, sanitize_tool_name},
    provider_blocks::{BlockFormat, ReplyPart},
    quirks::ModelQuirk,
};

/// The body of a request.
#[derive(Serialize)]
pub(crate) struct ChatCompletionsBody<'a> {
    model: &'a str,
    messages: Vec<ChatCompletionsMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ChatCompletionsTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    /// Whether the limit already goes by the name that this server is not thought to know.
    #[serde(skip)]
    other_limit: bool,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum ChatCompletionsMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Cow<'a, str>,
    },
    Assistant {
        /// `null`, not absent, when the model only called tools: some servers insist on the field.
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ChatCompletionsToolCall<'a>>,
        /// What the model thought, by the names that its server gave it.
        #[serde(flatten)]
        thought: Map<String, Value>,
    },
    Tool {
        tool_call_id: &'a str,
        content: Cow<'a, str>,
    },
}

#[derive(Serialize)]
struct ChatCompletionsToolCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: ChatCompletionsFunctionCall<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Value>,
}

#[derive(Serialize)]
struct ChatCompletionsFunctionCall<'a> {
    name: Cow<'a, str>,
    /// JSON in a string, as the protocol has it.
    arguments: String,
}

#[derive(Serialize)]
struct ChatCompletionsTool<'a> {
    r#type: &'static str,
    function: ChatCompletionsFunction<'a>,
}

#[derive(Serialize)]
struct ChatCompletionsFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Map<String, Value>,
}

impl ChatCompletionsBody<'_> {
    /// What of it can be left out or said otherwise, the more telling words first.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let limited = self.max_tokens.is_some() || self.max_completion_tokens.is_some();
        let parts = [
            (self.stream_options.is_some(), ModelQuirk::NoStreamOptions),
            (limited && !self.other_limit, ModelQuirk::OtherLimit),
            (self.temperature.is_some(), ModelQuirk::NoTemperature),
            (self.tool_choice.is_some(), ModelQuirk::NoToolChoice),
            (self.messages.iter().any(ChatCompletionsMessage::has_returned_content), ModelQuirk::NoReturnedReasoning),
            (self.reasoning_effort == Some(NO_EFFORT), ModelQuirk::AlwaysThinks),
            (self.reasoning_effort.is_some(), ModelQuirk::NoThinking),
            (!self.tools.is_empty(), ModelQuirk::NoTools),
        ];
        parts.into_iter().filter_map(|(sent, quirk)| sent.then_some(quirk)).collect()
    }
}

impl ChatCompletionsMessage<'_> {
    /// Whether it holds what only the server that gave it understands.
    fn has_returned_content(&self) -> bool {
        match self {
            Self::Assistant { thought, tool_calls, .. } => {
                !thought.is_empty() || tool_calls.iter().any(|call| call.extra_content.is_some())
            }
            _ => false,
        }
    }
}

/// The names of the tools that may be called.
pub(crate) fn offered_tool_names(request: &ChatRequest, plan: &OpenAiPlan) -> Vec<String> {
    let may = request.tool_choice == ToolChoice::Auto && plan.allows(ModelQuirk::NoTools);
    request.tools.iter().filter(|_| may).map(|tool| tool.name.clone()).collect()
}

impl<'a> ChatCompletionsBody<'a> {
    /// The body of a request.
    pub(crate) fn build(request: &'a ChatRequest, plan: &OpenAiPlan) -> Self {
        let offered = if plan.allows(ModelQuirk::NoTools) { &request.tools[..] } else { &[] };
        let tools: Vec<_> = offered
            .iter()
            .map(|tool| ChatCompletionsTool {
                r#type: "function",
                function: ChatCompletionsFunction {
                    name: &tool.name,
                    description: &tool.description,
                    parameters: &tool.input_schema,
                },
            })
            .collect();
        let forbidden =
            request.tool_choice == ToolChoice::None && !tools.is_empty() && plan.allows(ModelQuirk::NoToolChoice);
        let (max_tokens, max_completion_tokens) =
            if plan.completion_limit { (None, request.max_tokens) } else { (request.max_tokens, None) };
        let thinks = plan.allows(ModelQuirk::NoThinking);
        Self {
            model: &request.model,
            messages: build_messages(request, plan),
            tools,
            tool_choice: forbidden.then_some("none"),
            temperature: request.temperature.filter(|_| plan.allows(ModelQuirk::NoTemperature)),
            max_tokens,
            max_completion_tokens,
            reasoning_effort: reasoning_effort_value(request, plan).filter(|_| thinks),
            stream: true,
            stream_options: plan.allows(ModelQuirk::NoStreamOptions).then_some(StreamOptions { include_usage: true }),
            other_limit: !plan.allows(ModelQuirk::OtherLimit),
        }
    }
}

fn build_messages<'a>(request: &'a ChatRequest, plan: &OpenAiPlan) -> Vec<ChatCompletionsMessage<'a>> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(ChatCompletionsMessage::System { content: &request.system });
    }
    for turn in prompt_turns(request, BlockFormat::ChatCompletions) {
        match turn {
            PromptTurn::User(text) => {
                // Two in a row follow a run that failed. The chat templates of some local models raise an error at them.
                if let Some(ChatCompletionsMessage::User { content }) = messages.last_mut() {
                    let content = content.to_mut();
                    content.push_str("\n\n");
                    content.push_str(text);
                } else {
                    messages.push(ChatCompletionsMessage::User { content: Cow::Borrowed(text) });
                }
            }
            // A message with thoughts alone is refused.
            PromptTurn::Assistant { text: None, exchanges, .. } if exchanges.is_empty() => {}
            PromptTurn::Assistant { text, exchanges, own } => {
                let own = own.filter(|_| plan.allows(ModelQuirk::NoReturnedReasoning));
                let ReturnedContent { thought, extras } = own.map(returned_content).unwrap_or_default();
                let mut extras = extras.into_iter();
                let tool_calls =
                    exchanges.iter().map(|exchange| build_tool_call(exchange, extras.next().flatten())).collect();
                messages.push(ChatCompletionsMessage::Assistant { content: text, tool_calls, thought });
                messages.extend(exchanges.into_iter().map(|exchange| ChatCompletionsMessage::Tool {
                    tool_call_id: exchange.call.id.as_str(),
                    content: exchange.result,
                }));
            }
        }
    }
    messages
}

fn build_tool_call<'a>(exchange: &ToolExchange<'a>, extra_content: Option<Value>) -> ChatCompletionsToolCall<'a> {
    ChatCompletionsToolCall {
        id: exchange.call.id.as_str(),
        r#type: "function",
        function: ChatCompletionsFunctionCall {
            name: sanitize_tool_name(&exchange.call.name),
            arguments: json!(arguments_object(exchange.call)).to_string(),
        },
        extra_content,
    }
}

/// What a server wants back of a reply.
#[derive(Default)]
struct ReturnedContent {
    /// Fields of the message.
    thought: Map<String, Value>,
    /// What belongs to each call, in their order.
    extras: Vec<Option<Value>>,
}

/// What goes back of a reply of this very model. Plain reasoning does so within a turn only: later it costs tokens and
/// helps nobody, and some servers refuse it.
fn returned_content(own: SameModelContent<'_>) -> ReturnedContent {
    let mut kept = ReturnedContent::default();
    let mut plain: [String; 2] = Default::default();
    for part in own.parts.unwrap_or_default() {
        match part {
            ReplyPart::Text(_) => {}
            ReplyPart::Reasoning(text, data) => {
                let field = data.get(FIELD_NAME).and_then(Value::as_str);
                if let Some(at) = REASONING_FIELDS.iter().position(|name| field == Some(name)) {
                    plain[at].push_str(text);
                }
            }
            ReplyPart::Call(mut data) => kept.extras.push(data.remove(EXTRA_CONTENT)),
            ReplyPart::Opaque(mut data) => {
                if let Some(details) = data.get_mut(REASONING_DETAILS) {
                    kept.thought.insert(REASONING_DETAILS.to_owned(), details.take());
                }
            }
        }
    }
    // The details say the same, and with signatures.
    if own.in_current_turn && kept.thought.is_empty() {
        let said = REASONING_FIELDS.into_iter().zip(plain).filter(|(_, text)| !text.is_empty());
        kept.thought.extend(said.map(|(name, text)| (name.to_owned(), Value::String(text))));
    }
    kept
}
