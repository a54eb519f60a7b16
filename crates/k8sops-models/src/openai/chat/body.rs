//! The request as chat completions take it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{API, DETAILS, EXTRA, FIELD, REASONING_FIELDS};
use crate::{
    ChatRequest, ToolChoice,
    native::Part,
    openai,
    openai::Plan,
    quirks::Quirk,
    render,
    render::{Exchange, Own, Turn},
};

/// The body of a request.
#[derive(Serialize)]
pub(in crate::openai) struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
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
enum WireMessage<'a> {
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
        tool_calls: Vec<WireCall<'a>>,
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
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Value>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: Cow<'a, str>,
    /// JSON in a string, as the protocol has it.
    arguments: String,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: WireToolSpec<'a>,
}

#[derive(Serialize)]
struct WireToolSpec<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Map<String, Value>,
}

impl Body<'_> {
    /// What of it can be left out or said otherwise, the more telling words first.
    pub(in crate::openai) fn optional(&self) -> Vec<Quirk> {
        let limited = self.max_tokens.is_some() || self.max_completion_tokens.is_some();
        let parts = [
            (self.stream_options.is_some(), Quirk::NoStreamOptions),
            (limited && !self.other_limit, Quirk::OtherLimit),
            (self.temperature.is_some(), Quirk::NoTemperature),
            (self.tool_choice.is_some(), Quirk::NoToolChoice),
            (self.messages.iter().any(WireMessage::says_more), Quirk::NoReturnedReasoning),
            (self.reasoning_effort == Some(openai::NO_EFFORT), Quirk::AlwaysThinks),
            (self.reasoning_effort.is_some(), Quirk::NoThinking),
            (!self.tools.is_empty(), Quirk::NoTools),
        ];
        parts.into_iter().filter_map(|(sent, quirk)| sent.then_some(quirk)).collect()
    }
}

impl WireMessage<'_> {
    /// Whether it holds what only the server that gave it understands.
    fn says_more(&self) -> bool {
        match self {
            Self::Assistant { thought, tool_calls, .. } => {
                !thought.is_empty() || tool_calls.iter().any(|call| call.extra_content.is_some())
            }
            _ => false,
        }
    }
}

/// The names of the tools that may be called.
pub(in crate::openai) fn offered(request: &ChatRequest, plan: &Plan) -> Vec<String> {
    let may = request.tool_choice == ToolChoice::Auto && plan.takes(Quirk::NoTools);
    request.tools.iter().filter(|_| may).map(|tool| tool.name.clone()).collect()
}

/// The body of a request.
pub(in crate::openai) fn of<'a>(request: &'a ChatRequest, plan: &Plan) -> Body<'a> {
    let offered = if plan.takes(Quirk::NoTools) { &request.tools[..] } else { &[] };
    let tools: Vec<_> = offered
        .iter()
        .map(|tool| WireTool {
            r#type: "function",
            function: WireToolSpec { name: &tool.name, description: &tool.description, parameters: &tool.input_schema },
        })
        .collect();
    let forbidden = request.tool_choice == ToolChoice::None && !tools.is_empty() && plan.takes(Quirk::NoToolChoice);
    let (max_tokens, max_completion_tokens) =
        if plan.completion_limit { (None, request.max_tokens) } else { (request.max_tokens, None) };
    let thinks = plan.takes(Quirk::NoThinking);
    Body {
        model: &request.model,
        messages: messages(request, plan),
        tools,
        tool_choice: forbidden.then_some("none"),
        temperature: request.temperature.filter(|_| plan.takes(Quirk::NoTemperature)),
        max_tokens,
        max_completion_tokens,
        reasoning_effort: openai::effort(request, plan).filter(|_| thinks),
        stream: true,
        stream_options: plan.takes(Quirk::NoStreamOptions).then_some(StreamOptions { include_usage: true }),
        other_limit: !plan.takes(Quirk::OtherLimit),
    }
}

fn messages<'a>(request: &'a ChatRequest, plan: &Plan) -> Vec<WireMessage<'a>> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(WireMessage::System { content: &request.system });
    }
    for turn in render::conversation(request, API) {
        match turn {
            Turn::User(text) => {
                // Two in a row follow a run that failed. The chat templates of some local models raise an error at them.
                if let Some(WireMessage::User { content }) = messages.last_mut() {
                    let content = content.to_mut();
                    content.push_str("\n\n");
                    content.push_str(text);
                } else {
                    messages.push(WireMessage::User { content: Cow::Borrowed(text) });
                }
            }
            // A message with thoughts alone is refused.
            Turn::Assistant { text: None, exchanges, .. } if exchanges.is_empty() => {}
            Turn::Assistant { text, exchanges, own } => {
                let own = own.filter(|_| plan.takes(Quirk::NoReturnedReasoning));
                let Kept { thought, extras } = own.map(kept).unwrap_or_default();
                let mut extras = extras.into_iter();
                let tool_calls =
                    exchanges.iter().map(|exchange| wire_call(exchange, extras.next().flatten())).collect();
                messages.push(WireMessage::Assistant { content: text, tool_calls, thought });
                messages.extend(exchanges.into_iter().map(|exchange| WireMessage::Tool {
                    tool_call_id: exchange.call.id.as_str(),
                    content: exchange.result,
                }));
            }
        }
    }
    messages
}

fn wire_call<'a>(exchange: &Exchange<'a>, extra_content: Option<Value>) -> WireCall<'a> {
    WireCall {
        id: exchange.call.id.as_str(),
        r#type: "function",
        function: WireFunction {
            name: render::tool_name(&exchange.call.name),
            arguments: serde_json::to_string(&render::arguments(exchange.call))
                .expect("a map with text keys is always JSON"),
        },
        extra_content,
    }
}

/// What a server wants back of a reply.
#[derive(Default)]
struct Kept {
    /// Fields of the message.
    thought: Map<String, Value>,
    /// What belongs to each call, in their order.
    extras: Vec<Option<Value>>,
}

/// What goes back of a reply of this very model. Plain reasoning does so within a turn only: later it costs tokens and
/// helps nobody, and some servers refuse it.
fn kept(own: Own<'_>) -> Kept {
    let mut kept = Kept::default();
    let mut plain: [String; 2] = Default::default();
    for part in own.parts.unwrap_or_default() {
        match part {
            Part::Text(_) => {}
            Part::Reasoning(text, data) => {
                let field = data.get(FIELD).and_then(Value::as_str);
                if let Some(at) = REASONING_FIELDS.iter().position(|name| field == Some(name)) {
                    plain[at].push_str(text);
                }
            }
            Part::Call(mut data) => kept.extras.push(data.remove(EXTRA)),
            Part::Opaque(mut data) => {
                if let Some(details) = data.get_mut(DETAILS) {
                    kept.thought.insert(DETAILS.to_owned(), details.take());
                }
            }
        }
    }
    // The details say the same, and with signatures.
    if own.in_turn && kept.thought.is_empty() {
        let said = REASONING_FIELDS.into_iter().zip(plain).filter(|(_, text)| !text.is_empty());
        kept.thought.extend(said.map(|(name, text)| (name.to_owned(), Value::String(text))));
    }
    kept
}
