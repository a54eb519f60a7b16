//! The body of a request to Ollama.

use std::borrow::Cow;

use k8sops_core::ReasoningEffort;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    ChatRequest, Dialect, ToolChoice,
    prompt::{PromptTurn, arguments_object, prompt_turns, sanitize_tool_name},
    provider_blocks::BlockFormat,
    quirks::ModelQuirk,
};

/// How the body is built, in addition to the request.
#[derive(Debug, Clone)]
pub(crate) struct OllamaPlan {
    /// The rules of the server, in the form of the request.
    pub(crate) dialect: Dialect,
    /// The context length in tokens.
    pub(crate) window: u32,
    /// How long the model stays loaded.
    pub(crate) keep_alive: Option<Value>,
    /// Whether the model supports tools.
    pub(crate) tools: bool,
    /// Whether the model accepts an option for reasoning.
    pub(crate) think: bool,
    /// Whether the reply is streamed.
    pub(crate) stream: bool,
}

#[derive(Serialize)]
pub(crate) struct OllamaBody<'a> {
    model: &'a str,
    messages: Vec<OllamaMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<OllamaTool<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Value>,
    options: OllamaRequestOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<Value>,
}

#[derive(Serialize)]
struct OllamaRequestOptions {
    num_ctx: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum OllamaMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Cow<'a, str>,
    },
    Assistant {
        content: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thinking: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<OllamaToolCall<'a>>,
    },
    Tool {
        content: Cow<'a, str>,
        tool_name: Cow<'a, str>,
        tool_call_id: &'a str,
    },
}

#[derive(Serialize)]
struct OllamaToolCall<'a> {
    id: &'a str,
    function: OllamaFunctionCall<'a>,
}

#[derive(Serialize)]
struct OllamaFunctionCall<'a> {
    name: Cow<'a, str>,
    /// An object rather than text.
    arguments: Cow<'a, Map<String, Value>>,
}

#[derive(Serialize)]
struct OllamaTool<'a> {
    r#type: &'static str,
    function: OllamaToolFunction<'a>,
}

#[derive(Serialize)]
struct OllamaToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Map<String, Value>,
}

impl OllamaBody<'_> {
    /// Returns the quirks that would remove a parameter of this body.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let tools = (!self.tools.is_empty()).then_some(ModelQuirk::NoTools);
        let think = self.think.is_some().then_some(ModelQuirk::NoThinking);
        let stream = (self.stream && !self.tools.is_empty()).then_some(ModelQuirk::NoStreamedCalls);
        stream.into_iter().chain(tools).chain(think).collect()
    }
}

/// Returns whether a quirk changes what the request asks for.
pub(crate) fn affects_request(quirk: ModelQuirk, request: &ChatRequest) -> bool {
    match quirk {
        ModelQuirk::NoThinking => request.reasoning.is_some(),
        ModelQuirk::NoTools | ModelQuirk::NoStreamedCalls => !request.tools.is_empty(),
        _ => false,
    }
}

impl<'a> OllamaBody<'a> {
    /// Builds the body of a request.
    pub(crate) fn build(request: &'a ChatRequest, plan: &OllamaPlan) -> Self {
        let offered = plan.tools && request.tool_choice == ToolChoice::Auto;
        let tools = request.tools.iter().filter(|_| offered).map(|tool| OllamaTool {
            r#type: "function",
            function: OllamaToolFunction {
                name: &tool.name,
                description: plan.dialect.fit_description(&tool.description),
                parameters: &tool.input_schema,
            },
        });
        // These models take an effort and always reason. All others take a boolean.
        let takes_effort = request.model.starts_with("gpt-oss");
        let think = request.reasoning.filter(|_| plan.think).map(|effort| match effort {
            ReasoningEffort::Off if takes_effort => json!("low"),
            effort if takes_effort => json!(effort.as_str()),
            effort => json!(effort != ReasoningEffort::Off),
        });
        Self {
            model: &request.model,
            messages: build_messages(request, &plan.dialect),
            tools: tools.collect(),
            stream: plan.stream,
            think,
            options: OllamaRequestOptions {
                num_ctx: plan.window,
                temperature: request.temperature,
                num_predict: request.max_tokens,
            },
            keep_alive: plan.keep_alive.clone(),
        }
    }
}

fn build_messages<'a>(request: &'a ChatRequest, dialect: &Dialect) -> Vec<OllamaMessage<'a>> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(OllamaMessage::System { content: &request.system });
    }
    for turn in prompt_turns(request, BlockFormat::OllamaChat, dialect) {
        match turn {
            PromptTurn::User(text) => {
                // Two user messages in a row follow a failed run. The templates of some models lose one of them.
                if let Some(OllamaMessage::User { content }) = messages.last_mut() {
                    let content = content.to_mut();
                    content.push_str("\n\n");
                    content.push_str(&text);
                } else {
                    messages.push(OllamaMessage::User { content: text });
                }
            }
            PromptTurn::Assistant { text, exchanges, same_model } => {
                // Reasoning is useful to the model until it has answered.
                let thinking =
                    same_model.filter(|content| content.in_current_turn).and_then(|content| content.reasoning);
                let tool_calls = exchanges.iter().map(|exchange| OllamaToolCall {
                    id: exchange.call.id.as_str(),
                    function: OllamaFunctionCall {
                        name: sanitize_tool_name(&exchange.call.name),
                        arguments: arguments_object(exchange.call),
                    },
                });
                let tool_calls = tool_calls.collect();
                messages.push(OllamaMessage::Assistant { content: text.unwrap_or_default(), thinking, tool_calls });
                messages.extend(exchanges.into_iter().map(|exchange| OllamaMessage::Tool {
                    content: exchange.result,
                    tool_name: sanitize_tool_name(&exchange.call.name),
                    tool_call_id: exchange.call.id.as_str(),
                }));
            }
        }
    }
    messages
}
