//! Chat completions: OpenAI, and every server that speaks like it (vLLM, llama.cpp, LM Studio, …).

mod reply;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use http::header;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ChatModel, ChatRequest, ModelError, ReplyStream, ToolChoice,
    http::Endpoint,
    render::{self, Turn},
    sse,
};
use crate::config::ProviderConfig;

/// A provider that speaks OpenAI's chat completions.
pub struct OpenAi {
    endpoint: Endpoint,
}

impl OpenAi {
    /// The provider that `config` describes. Nothing is sent, and nothing checked, before the first call.
    #[must_use]
    pub fn new(config: &ProviderConfig) -> Self {
        Self { endpoint: Endpoint::new(config) }
    }

    fn headers(&self) -> Result<http::HeaderMap, ModelError> {
        self.endpoint.authorise(|_, key| vec![(header::AUTHORIZATION, format!("Bearer {key}"))])
    }
}

#[async_trait]
impl ChatModel for OpenAi {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let call = self.endpoint.call(&request.model);
        let headers = self.headers()?;
        // OpenAI's newer models refuse `max_tokens`; many other servers know nothing else.
        let limit = if self.endpoint.is_at("api.openai.com") { Limit::Completion } else { Limit::Plain };
        let body = body(&request, limit);
        let events = self.endpoint.post(&call, &["chat", "completions"], headers, &body).await?;
        Ok(sse::reply_stream(events, reply::Assembler::new(call)))
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.endpoint.check(model, &["models"], &["chat", "completions"], self.headers()?).await
    }
}

/// The name by which the server knows the limit on the reply.
#[derive(Clone, Copy)]
enum Limit {
    Plain,
    Completion,
}

#[derive(Serialize)]
struct Body<'a> {
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
    stream: bool,
    stream_options: StreamOptions,
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

fn body(request: &ChatRequest, limit: Limit) -> Body<'_> {
    let tools: Vec<_> = request
        .tools
        .iter()
        .map(|tool| WireTool {
            r#type: "function",
            function: WireToolSpec { name: &tool.name, description: &tool.description, parameters: &tool.input_schema },
        })
        .collect();
    let forbidden = request.tool_choice == ToolChoice::None && !tools.is_empty();
    let (max_tokens, max_completion_tokens) = match limit {
        Limit::Plain => (request.max_tokens, None),
        Limit::Completion => (None, request.max_tokens),
    };
    Body {
        model: &request.model,
        messages: messages(request),
        tools,
        tool_choice: forbidden.then_some("none"),
        temperature: request.temperature,
        max_tokens,
        max_completion_tokens,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
    }
}

fn messages(request: &ChatRequest) -> Vec<WireMessage<'_>> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(WireMessage::System { content: &request.system });
    }
    for turn in render::conversation(&request.messages) {
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
            Turn::Assistant { text, exchanges } => {
                let tool_calls = exchanges
                    .iter()
                    .map(|exchange| WireCall {
                        id: exchange.call.id.as_str(),
                        r#type: "function",
                        function: WireFunction {
                            name: render::tool_name(&exchange.call.name),
                            arguments: serde_json::to_string(&render::arguments(exchange.call))
                                .expect("a map with text keys is always JSON"),
                        },
                    })
                    .collect();
                messages.push(WireMessage::Assistant { content: text, tool_calls });
                messages.extend(exchanges.into_iter().map(|exchange| WireMessage::Tool {
                    tool_call_id: exchange.call.id.as_str(),
                    content: exchange.result,
                }));
            }
        }
    }
    messages
}
