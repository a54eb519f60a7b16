//! Anthropic's Messages API, and servers that speak it.

mod reply;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    ChatModel, ChatRequest, ModelError, ReplyStream, ToolChoice,
    http::Endpoint,
    render::{self, Exchange, Turn},
    sse,
};
use crate::config::ProviderConfig;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
/// The API wants a limit on every reply; this one where neither the request nor the catalog has one.
const DEFAULT_MAX_TOKENS: u32 = 4096;

/// A provider that speaks Anthropic's Messages API.
pub struct Anthropic {
    endpoint: Endpoint,
    max_output_tokens: HashMap<String, u32>,
}

impl Anthropic {
    /// The provider that `config` describes. Nothing is sent, and nothing checked, before the first call.
    #[must_use]
    pub fn new(config: &ProviderConfig) -> Self {
        let models = config.models.iter();
        let max_output_tokens = models.filter_map(|m| Some((m.id.clone(), m.max_output_tokens?))).collect();
        Self { endpoint: Endpoint::new(config), max_output_tokens }
    }

    fn headers(&self) -> Result<http::HeaderMap, ModelError> {
        let mut headers = self.endpoint.authorise(|endpoint, key| {
            let mut headers = vec![(API_KEY, key.to_owned())];
            // Anthropic takes a bearer token for OAuth and refuses a key there; proxies and other servers often look
            // there only.
            if !endpoint.is_at("api.anthropic.com") {
                headers.push((header::AUTHORIZATION, format!("Bearer {key}")));
            }
            headers
        })?;
        headers.extend([VERSION]);
        Ok(headers)
    }
}

#[async_trait]
impl ChatModel for Anthropic {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let call = self.endpoint.call(&request.model);
        let headers = self.headers()?;
        let catalog = self.max_output_tokens.get(&request.model).copied();
        let max_tokens = request.max_tokens.or(catalog).unwrap_or(DEFAULT_MAX_TOKENS);
        let events = self.endpoint.post(&call, &["v1", "messages"], headers, &body(&request, max_tokens)).await?;
        Ok(sse::reply_stream(events, reply::Assembler::new(call)))
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.endpoint.check(model, &["v1", "models"], &["v1", "messages"], self.headers()?).await
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<CachedBlock<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: Role,
    content: Vec<CachedBlock<'a>>,
}

/// Says that all that stands before and here is to be kept for the next request that begins with the same: tools, then
/// the system prompt, then the messages. Nothing is cached without it.
#[derive(Clone, Copy, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum CacheControl {
    Ephemeral,
}

#[derive(Serialize)]
struct CachedBlock<'a> {
    #[serde(flatten)]
    block: Block<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

impl<'a> From<Block<'a>> for CachedBlock<'a> {
    fn from(block: Block<'a>) -> Self {
        Self { block, cache_control: None }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: Cow<'a, str>,
        input: Cow<'a, Map<String, Value>>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Cow<'a, str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    input_schema: Cow<'a, Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

fn body(request: &ChatRequest, max_tokens: u32) -> Body<'_> {
    let turns = render::conversation(&request.messages);
    let mut tools: Vec<_> = request
        .tools
        .iter()
        .map(|tool| WireTool {
            name: Cow::Borrowed(&tool.name),
            description: &tool.description,
            input_schema: Cow::Borrowed(&tool.input_schema),
            cache_control: None,
        })
        .collect();
    let mut forbidden = request.tool_choice == ToolChoice::None;
    if tools.is_empty() {
        // A conversation with tool calls in it is refused unless tools are listed; all servers may be away just now.
        tools = gone(&turns);
        forbidden = true;
    }
    let tool_choice = (forbidden && !tools.is_empty()).then(|| json!({"type": "none"}));
    let mut system: Vec<CachedBlock<'_>> = Vec::new();
    if !request.system.is_empty() {
        system.push(Block::Text { text: &request.system }.into());
    }
    let mut messages = messages(turns);
    // What is the same in all sessions, and what is the same in the next step of this one.
    let fixed = match system.last_mut() {
        Some(block) => Some(&mut block.cache_control),
        None => tools.last_mut().map(|tool| &mut tool.cache_control),
    };
    let said = messages.last_mut().and_then(|message| message.content.last_mut()).map(|block| &mut block.cache_control);
    for mark in fixed.into_iter().chain(said) {
        *mark = Some(CacheControl::Ephemeral);
    }
    Body {
        model: &request.model,
        max_tokens,
        system,
        tools,
        tool_choice,
        messages,
        temperature: request.temperature,
        stream: true,
    }
}

/// The tools that were called in `turns`, as ones that are no longer there.
fn gone<'a>(turns: &[Turn<'a>]) -> Vec<WireTool<'a>> {
    let calls = turns.iter().flat_map(|turn| match turn {
        Turn::User(_) => &[],
        Turn::Assistant { exchanges, .. } => exchanges.as_slice(),
    });
    let names: BTreeSet<_> = calls.map(|exchange| render::tool_name(&exchange.call.name)).collect();
    let schema = Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), json!({}))]);
    names
        .into_iter()
        .map(|name| WireTool {
            name,
            description: "Not available now.",
            input_schema: Cow::Owned(schema.clone()),
            cache_control: None,
        })
        .collect()
}

/// The messages: roles take turns, the user begins, and no block is empty.
fn messages<'a>(turns: Vec<Turn<'a>>) -> Vec<WireMessage<'a>> {
    let mut messages: Vec<WireMessage<'a>> = Vec::with_capacity(turns.len());
    let mut add = |role, blocks: Vec<Block<'a>>| {
        let blocks = blocks.into_iter().map(CachedBlock::from);
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => messages.push(WireMessage { role, content: blocks.collect() }),
        }
    };
    if matches!(turns.first(), Some(Turn::Assistant { .. })) {
        add(Role::User, vec![Block::Text { text: "(The beginning of the conversation is left out.)" }]);
    }
    for turn in turns {
        match turn {
            Turn::User(text) => add(Role::User, vec![Block::Text { text }]),
            Turn::Assistant { text, exchanges } => {
                let text = text.map(|text| Block::Text { text }).into_iter();
                let (uses, results): (Vec<_>, Vec<_>) = exchanges.into_iter().map(exchange).unzip();
                add(Role::Assistant, text.chain(uses).collect());
                if !results.is_empty() {
                    add(Role::User, results);
                }
            }
        }
    }
    messages
}

fn exchange(exchange: Exchange<'_>) -> (Block<'_>, Block<'_>) {
    let Exchange { call, result, is_error } = exchange;
    let id = call.id.as_str();
    (
        Block::ToolUse { id, name: render::tool_name(&call.name), input: render::arguments(call) },
        Block::ToolResult { tool_use_id: id, content: result, is_error },
    )
}
