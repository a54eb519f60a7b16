//! The body of a chat completions request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::block_fields::{EXTRA_CONTENT, FIELD_NAME, REASONING_DETAILS, REASONING_FIELDS};
use crate::{
    CallIdForm, ChatRequest, ContentWithCalls, Dialect, ReasoningReturn, ReplyLimitField, SystemRole, ToolChoice,
    openai::request_plan::{NO_EFFORT, OpenAiPlan, reasoning_effort_value},
    prompt::{
        CALLS_TEXT, PromptTurn, SameModelContent, ToolExchange, UNAVAILABLE_TOOL, arguments_object, called_tool_names,
        empty_tool_schema, prompt_turns, sanitize_tool_name, short_call_id,
    },
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
    /// What a rejection may ask to be added or rendered differently.
    #[serde(skip)]
    adaptations: Vec<ModelQuirk>,
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
    Developer {
        content: &'a str,
    },
    User {
        content: Cow<'a, str>,
    },
    Assistant {
        /// `null` rather than absent if the model only called tools, because some servers require the field.
        content: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ChatCompletionsToolCall<'a>>,
        /// The reasoning, under the field names of its server.
        #[serde(flatten)]
        reasoning: Map<String, Value>,
    },
    Tool {
        tool_call_id: Cow<'a, str>,
        content: Cow<'a, str>,
    },
}

#[derive(Serialize)]
struct ChatCompletionsToolCall<'a> {
    id: Cow<'a, str>,
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
    name: Cow<'a, str>,
    description: &'a str,
    parameters: Cow<'a, Map<String, Value>>,
}

impl ChatCompletionsBody<'_> {
    /// Returns the quirks that would change this body, those with more specific keywords first.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let parts = [
            (self.stream_options.is_some(), ModelQuirk::NoStreamOptions),
            (self.max_tokens.is_some(), ModelQuirk::LimitIsMaxCompletionTokens),
            (self.max_completion_tokens.is_some(), ModelQuirk::LimitIsMaxTokens),
            (self.temperature.is_some(), ModelQuirk::NoTemperature),
            (self.tool_choice.is_some(), ModelQuirk::NoToolChoice),
            (self.messages.iter().any(ChatCompletionsMessage::has_returned_content), ModelQuirk::NoReturnedReasoning),
            (self.reasoning_effort == Some(NO_EFFORT), ModelQuirk::AlwaysThinks),
            (self.reasoning_effort.is_some(), ModelQuirk::NoThinking),
            (!self.tools.is_empty(), ModelQuirk::NoTools),
        ];
        let removable = parts.into_iter().filter_map(|(sent, quirk)| sent.then_some(quirk));
        self.adaptations.iter().copied().chain(removable).collect()
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
        let turns = prompt_turns(request, BlockFormat::ChatCompletions, &plan.dialect);
        let offered = if plan.allows(ModelQuirk::NoTools) { &request.tools[..] } else { &[] };
        let list_tool = |name, description, parameters| ChatCompletionsTool {
            r#type: "function",
            function: ChatCompletionsFunction { name, description, parameters },
        };
        let mut tools: Vec<_> = offered
            .iter()
            .map(|tool| {
                list_tool(
                    Cow::Borrowed(tool.name.as_str()),
                    plan.dialect.fit_description(&tool.description),
                    Cow::Borrowed(&tool.input_schema),
                )
            })
            .collect();
        let is_placeholder = tools.is_empty() && plan.dialect.tools_with_calls;
        if is_placeholder {
            let called = called_tool_names(&turns).into_iter();
            tools = called.map(|name| list_tool(name, UNAVAILABLE_TOOL, Cow::Owned(empty_tool_schema()))).collect();
        }
        let tools_forbidden = (request.tool_choice == ToolChoice::None || is_placeholder)
            && !tools.is_empty()
            && plan.allows(ModelQuirk::NoToolChoice);
        let allows_thinking = plan.allows(ModelQuirk::NoThinking);
        let limit_in = |field| request.max_tokens.filter(|_| plan.dialect.reply_limit_field == field);
        Self {
            model: &request.model,
            messages: build_messages(request, plan, turns),
            tools,
            tool_choice: tools_forbidden.then_some("none"),
            temperature: request.temperature.filter(|_| plan.allows(ModelQuirk::NoTemperature)),
            max_tokens: limit_in(ReplyLimitField::MaxTokens),
            max_completion_tokens: limit_in(ReplyLimitField::MaxCompletionTokens),
            reasoning_effort: reasoning_effort_value(request, plan).filter(|_| allows_thinking),
            stream: true,
            stream_options: plan.allows(ModelQuirk::NoStreamOptions).then_some(StreamOptions { include_usage: true }),
            adaptations: plan.dialect.possible_adaptations(),
        }
    }
}

fn build_messages<'a>(
    request: &'a ChatRequest,
    plan: &OpenAiPlan,
    turns: Vec<PromptTurn<'a>>,
) -> Vec<ChatCompletionsMessage<'a>> {
    let dialect = &plan.dialect;
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        let content = &*request.system;
        messages.push(match dialect.system_role {
            SystemRole::System => ChatCompletionsMessage::System { content },
            SystemRole::Developer => ChatCompletionsMessage::Developer { content },
            SystemRole::FirstUserMessage => ChatCompletionsMessage::User { content: Cow::Borrowed(content) },
        });
    }
    let call_id = |exchange: &ToolExchange<'a>| match dialect.call_ids {
        CallIdForm::Any => Cow::Borrowed(exchange.call.id.as_str()),
        CallIdForm::NineCharacters => Cow::Owned(short_call_id(exchange.call.id.as_str())),
    };
    let newest_user = turns.iter().rposition(|turn| matches!(turn, PromptTurn::User(_)));
    for (at, turn) in turns.into_iter().enumerate() {
        match turn {
            PromptTurn::User(text) => {
                // Two user messages in a row follow a failed run. The chat templates of some local models reject them.
                if let Some(ChatCompletionsMessage::User { content }) = messages.last_mut() {
                    let content = content.to_mut();
                    content.push_str("\n\n");
                    content.push_str(&text);
                } else {
                    messages.push(ChatCompletionsMessage::User { content: text });
                }
            }
            // A message of reasoning alone is rejected.
            PromptTurn::Assistant { text: None, exchanges, .. } if exchanges.is_empty() => {}
            PromptTurn::Assistant { text, exchanges, same_model } => {
                let returns = !plan.quirks.contains(&ModelQuirk::NoReturnedReasoning);
                let same_model = same_model.filter(|_| returns);
                let ReturnedContent { reasoning, extras } =
                    returned_content(same_model, !exchanges.is_empty(), dialect);
                let mut extras = extras.into_iter();
                let mut tool_calls: Vec<_> = exchanges
                    .iter()
                    .map(|exchange| build_tool_call(exchange, call_id(exchange), extras.next().flatten()))
                    .collect();
                // Only the current turn must be signed, and of several calls only the first.
                let is_current = newest_user.is_none_or(|user| at > user);
                if !dialect.signature_placeholder.is_empty() && is_current {
                    for call in tool_calls.iter_mut().take(1) {
                        call.extra_content.get_or_insert_with(|| placeholder_signature(dialect));
                    }
                }
                let text = match dialect.content_with_calls {
                    ContentWithCalls::Text if text.is_none() => Some(Cow::Borrowed(CALLS_TEXT)),
                    _ => text,
                };
                messages.push(ChatCompletionsMessage::Assistant { content: text, tool_calls, reasoning });
                messages.extend(exchanges.into_iter().map(|exchange| ChatCompletionsMessage::Tool {
                    tool_call_id: call_id(&exchange),
                    content: exchange.result,
                }));
            }
        }
    }
    messages
}

fn placeholder_signature(dialect: &Dialect) -> Value {
    json!({"google": {"thought_signature": dialect.signature_placeholder}})
}

fn build_tool_call<'a>(
    exchange: &ToolExchange<'a>,
    id: Cow<'a, str>,
    extra_content: Option<Value>,
) -> ChatCompletionsToolCall<'a> {
    ChatCompletionsToolCall {
        id,
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

/// Returns the data of a reply that goes back to the model which wrote it, or what stands for it. Plain reasoning is returned as
/// far as the dialect says: without need it costs tokens without a benefit, and some servers reject it.
fn returned_content(same_model: Option<SameModelContent<'_>>, has_calls: bool, dialect: &Dialect) -> ReturnedContent {
    let mut content = ReturnedContent::default();
    let mut plain: [String; 2] = Default::default();
    let is_current = same_model.as_ref().is_some_and(|content| content.in_current_turn);
    let known = same_model.as_ref().and_then(|content| content.reasoning).map(str::to_owned);
    for part in same_model.and_then(|content| content.parts).unwrap_or_default() {
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
    let is_required = match dialect.reasoning {
        ReasoningReturn::Never | ReasoningReturn::CurrentTurn => false,
        ReasoningReturn::WithCalls => has_calls,
        ReasoningReturn::Always => true,
    };
    let is_returned = is_required || is_current && dialect.reasoning != ReasoningReturn::Never;
    // The details contain the same text with signatures.
    if is_returned && content.reasoning.is_empty() {
        let fields = REASONING_FIELDS.into_iter().zip(plain).filter(|(_, text)| !text.is_empty());
        content.reasoning.extend(fields.map(|(name, text)| (name.to_owned(), Value::String(text))));
    }
    if is_required && content.reasoning.is_empty() {
        let placeholder = Some(dialect.reasoning_placeholder.clone());
        let text = known.or(placeholder).filter(|text| !text.trim().is_empty());
        content.reasoning.extend(text.map(|text| (REASONING_FIELDS[0].to_owned(), Value::String(text))));
    }
    content
}
