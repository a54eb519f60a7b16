//! The body of a chat completions request.

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
    /// Whether the reply limit already goes by the name that is not the default of this server.
    #[serde(skip)]
    has_other_limit_field: bool,
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
        /// `null` rather than absent if the model only called tools, because some servers require the field.
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ChatCompletionsToolCall<'a>>,
        /// The reasoning, under the field names of its server.
        #[serde(flatten)]
        reasoning: Map<String, Value>,
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
    /// A JSON object, encoded as a string.
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
    /// Returns the quirks that would remove or rename a parameter of this body, those with more specific keywords
    /// first.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let limited = self.max_tokens.is_some() || self.max_completion_tokens.is_some();
        let parts = [
            (self.stream_options.is_some(), ModelQuirk::NoStreamOptions),
            (limited && !self.has_other_limit_field, ModelQuirk::OtherLimitField),
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
    /// Returns whether the message contains data that only the server which sent it understands.
    fn has_returned_content(&self) -> bool {
        match self {
            Self::Assistant { reasoning, tool_calls, .. } => {
                !reasoning.is_empty() || tool_calls.iter().any(|call| call.extra_content.is_some())
            }
            _ => false,
        }
    }
}

/// Returns the names of the tools that may be called.
pub(crate) fn offered_tool_names(request: &ChatRequest, plan: &OpenAiPlan) -> Vec<String> {
    if plan.allows(ModelQuirk::NoTools) { request.callable_tool_names() } else { Vec::new() }
}

impl<'a> ChatCompletionsBody<'a> {
    /// Builds the body of a request.
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
        let tools_forbidden =
            request.tool_choice == ToolChoice::None && !tools.is_empty() && plan.allows(ModelQuirk::NoToolChoice);
        let allows_thinking = plan.allows(ModelQuirk::NoThinking);
        Self {
            model: &request.model,
            messages: build_messages(request, plan),
            tools,
            tool_choice: tools_forbidden.then_some("none"),
            temperature: request.temperature.filter(|_| plan.allows(ModelQuirk::NoTemperature)),
            max_tokens: request.max_tokens.filter(|_| !plan.completion_limit),
            max_completion_tokens: request.max_tokens.filter(|_| plan.completion_limit),
            reasoning_effort: reasoning_effort_value(request, plan).filter(|_| allows_thinking),
            stream: true,
            stream_options: plan.allows(ModelQuirk::NoStreamOptions).then_some(StreamOptions { include_usage: true }),
            has_other_limit_field: !plan.allows(ModelQuirk::OtherLimitField),
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
                // Two user messages in a row follow a failed run. The chat templates of some local models reject them.
                if let Some(ChatCompletionsMessage::User { content }) = messages.last_mut() {
                    let content = content.to_mut();
                    content.push_str("\n\n");
                    content.push_str(text);
                } else {
                    messages.push(ChatCompletionsMessage::User { content: Cow::Borrowed(text) });
                }
            }
            // A message of reasoning alone is rejected.
            PromptTurn::Assistant { text: None, exchanges, .. } if exchanges.is_empty() => {}
            PromptTurn::Assistant { text, exchanges, same_model } => {
                let same_model = same_model.filter(|_| plan.allows(ModelQuirk::NoReturnedReasoning));
                let ReturnedContent { reasoning, extras } = same_model.map(returned_content).unwrap_or_default();
                let mut extras = extras.into_iter();
                let tool_calls =
                    exchanges.iter().map(|exchange| build_tool_call(exchange, extras.next().flatten())).collect();
                messages.push(ChatCompletionsMessage::Assistant { content: text, tool_calls, reasoning });
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

/// Data of a reply that goes back to the server.
#[derive(Default)]
struct ReturnedContent {
    /// Fields of the message.
    reasoning: Map<String, Value>,
    /// The data of each call, in the order of the calls.
    extras: Vec<Option<Value>>,
}

/// Returns the data of a reply that goes back to the model which wrote it. Plain reasoning is returned within its turn
/// only: later it costs tokens without a benefit, and some servers reject it.
fn returned_content(same_model: SameModelContent<'_>) -> ReturnedContent {
    let mut content = ReturnedContent::default();
    let mut plain: [String; 2] = Default::default();
    for part in same_model.parts.unwrap_or_default() {
        match part {
            ReplyPart::Text(..) => {}
            ReplyPart::Reasoning(text, data) => {
                let field = data.get(FIELD_NAME).and_then(Value::as_str);
                if let Some(at) = REASONING_FIELDS.iter().position(|name| field == Some(name)) {
                    plain[at].push_str(text);
                }
            }
            ReplyPart::Call(mut data) => content.extras.push(data.remove(EXTRA_CONTENT)),
            ReplyPart::Opaque(mut data) => {
                if let Some(details) = data.get_mut(REASONING_DETAILS) {
                    content.reasoning.insert(REASONING_DETAILS.to_owned(), details.take());
                }
            }
        }
    }
    // The details contain the same text with signatures.
    if same_model.in_current_turn && content.reasoning.is_empty() {
        let fields = REASONING_FIELDS.into_iter().zip(plain).filter(|(_, text)| !text.is_empty());
        content.reasoning.extend(fields.map(|(name, text)| (name.to_owned(), Value::String(text))));
    }
    content
}
