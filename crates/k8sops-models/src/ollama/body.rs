//! The request as Ollama takes it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{ChatRequest, ToolChoice, quirks::Quirk, render, render::Turn};
use k8sops_core::ReasoningEffort;

/// The name of the protocol in what the provider wants back. It wants nothing that is not in the message.
const API: &str = "ollama_chat";

/// How the body is to be, beyond the request.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Tokens of context.
    pub(super) window: u32,
    /// How long the model is kept in memory.
    pub(super) keep_alive: Option<Value>,
    /// Whether the model takes tools.
    pub(super) tools: bool,
    /// Whether it takes a word on thinking.
    pub(super) think: bool,
    /// Whether the reply is to come in pieces.
    pub(super) stream: bool,
}

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Value>,
    options: Options,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<Value>,
}

#[derive(Serialize)]
struct Options {
    num_ctx: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Cow<'a, str>,
    },
    Assistant {
        content: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        thinking: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        content: Cow<'a, str>,
        tool_name: Cow<'a, str>,
        tool_call_id: &'a str,
    },
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: Cow<'a, str>,
    /// An object, not text.
    arguments: Cow<'a, Map<String, Value>>,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: ToolFunction<'a>,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Map<String, Value>,
}

impl Body<'_> {
    /// What of it can be left out.
    pub(super) fn optional(&self) -> Vec<Quirk> {
        let tools = (!self.tools.is_empty()).then_some(Quirk::NoTools);
        let think = self.think.is_some().then_some(Quirk::NoThinking);
        let stream = (self.stream && !self.tools.is_empty()).then_some(Quirk::NoStreamedCalls);
        stream.into_iter().chain(tools).chain(think).collect()
    }
}

/// The tools that a request offers. There is no word for "not now": they are left out.
pub(super) fn names(request: &ChatRequest) -> Vec<String> {
    match request.tool_choice {
        ToolChoice::Auto => request.tools.iter().map(|tool| tool.name.clone()).collect(),
        ToolChoice::None => Vec::new(),
    }
}

/// Whether a request asks for what a quirk leaves out.
pub(super) fn asked(quirk: Quirk, request: &ChatRequest) -> bool {
    match quirk {
        Quirk::NoThinking => request.reasoning.is_some(),
        Quirk::NoTools | Quirk::NoStreamedCalls => !request.tools.is_empty(),
        _ => false,
    }
}

/// The body of a request.
pub(super) fn of<'a>(request: &'a ChatRequest, plan: &Plan) -> Body<'a> {
    let offered = plan.tools && request.tool_choice == ToolChoice::Auto;
    let tools = request.tools.iter().filter(|_| offered).map(|tool| Tool {
        r#type: "function",
        function: ToolFunction { name: &tool.name, description: &tool.description, parameters: &tool.input_schema },
    });
    // These take a word for how much, and cannot do without; all others take yes or no.
    let in_words = request.model.starts_with("gpt-oss");
    let think = request.reasoning.filter(|_| plan.think).map(|effort| match effort {
        ReasoningEffort::Off if in_words => json!("low"),
        effort if in_words => json!(effort.as_str()),
        effort => json!(effort != ReasoningEffort::Off),
    });
    Body {
        model: &request.model,
        messages: messages(request),
        tools: tools.collect(),
        stream: plan.stream,
        think,
        options: Options { num_ctx: plan.window, temperature: request.temperature, num_predict: request.max_tokens },
        keep_alive: plan.keep_alive.clone(),
    }
}

fn messages(request: &ChatRequest) -> Vec<Message<'_>> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(Message::System { content: &request.system });
    }
    for turn in render::conversation(request, API) {
        match turn {
            Turn::User(text) => {
                // Two in a row follow a run that failed; the templates of some models lose one of them.
                if let Some(Message::User { content }) = messages.last_mut() {
                    let content = content.to_mut();
                    content.push_str("\n\n");
                    content.push_str(text);
                } else {
                    messages.push(Message::User { content: Cow::Borrowed(text) });
                }
            }
            Turn::Assistant { text, exchanges, own } => {
                // What a model thought is of use to it until it has answered.
                let thinking = own.filter(|own| own.in_turn).and_then(|own| own.reasoning);
                let tool_calls = exchanges.iter().map(|exchange| Call {
                    id: exchange.call.id.as_str(),
                    function: Function {
                        name: render::tool_name(&exchange.call.name),
                        arguments: render::arguments(exchange.call),
                    },
                });
                let tool_calls = tool_calls.collect();
                messages.push(Message::Assistant { content: text.unwrap_or_default(), thinking, tool_calls });
                messages.extend(exchanges.into_iter().map(|exchange| Message::Tool {
                    content: exchange.result,
                    tool_name: render::tool_name(&exchange.call.name),
                    tool_call_id: exchange.call.id.as_str(),
                }));
            }
        }
    }
    messages
}
