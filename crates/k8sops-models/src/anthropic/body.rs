//! The request as the Messages API takes it.

use std::{borrow::Cow, collections::BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::API;
use crate::{
    ChatRequest, ToolChoice, native,
    native::Part,
    quirks::Quirk,
    render,
    render::{Exchange, Own, Turn},
};
use k8sops_core::ReasoningEffort;

/// How the body is to be, beyond the request.
pub(super) struct Plan {
    /// The most tokens of the reply.
    pub(super) max_tokens: u32,
    /// How the model thinks.
    pub(super) thinking: Thinking,
    /// Whether it takes a sampling temperature, as far as is known.
    pub(super) takes_temperature: bool,
    /// Whether it gets back what it thought itself.
    pub(super) own_blocks: bool,
    /// What is to be left out.
    pub(super) quirks: BTreeSet<Quirk>,
}

/// How a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Unknown,
    /// Not at all.
    No,
    /// As much as it sees fit.
    Adaptive,
    /// As much as it is told.
    Budget,
}

/// The highest temperature that the protocol knows.
pub(crate) const MAX_TEMPERATURE: f64 = 1.0;

/// The least tokens that a budget for thinking may be.
const LEAST_THINKING: u32 = 1024;

#[derive(Serialize)]
pub(super) struct Body<'a> {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
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

impl Body<'_> {
    /// What of it can be left out.
    pub(super) fn optional(&self) -> Vec<Quirk> {
        let temperature = self.temperature.is_some().then_some(Quirk::NoTemperature);
        let thinking = self.thinking.as_ref().map(|thinking| match thinking["type"].as_str() {
            Some("disabled") => Quirk::AlwaysThinks,
            _ => Quirk::NoThinking,
        });
        temperature.into_iter().chain(thinking).collect()
    }

    /// Whether the model gets anything back that only it can read.
    pub(super) fn has_own_blocks(&self) -> bool {
        let mut blocks = self.messages.iter().flat_map(|message| &message.content);
        blocks.any(|block| matches!(block.block, Block::Thinking { .. } | Block::Opaque(_)))
    }
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
    Thinking {
        thinking: &'a str,
        signature: Value,
    },
    /// As it came, to go back as it came.
    #[serde(untagged)]
    Opaque(Value),
}

impl Block<'_> {
    /// Whether a mark for the cache may stand on it.
    fn takes_mark(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::ToolUse { .. } | Self::ToolResult { .. })
    }
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    input_schema: Cow<'a, Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

/// Whether a request asks for what a quirk leaves out.
pub(super) fn asked(quirk: Quirk, request: &ChatRequest) -> bool {
    match quirk {
        Quirk::NoTemperature => request.temperature.is_some(),
        Quirk::AlwaysThinks => request.reasoning == Some(ReasoningEffort::Off),
        Quirk::NoThinking => request.reasoning.is_some(),
        _ => true,
    }
}

/// What is said about thinking, and about how much of it.
fn thinking(request: &ChatRequest, plan: &Plan, turns: &[Turn<'_>]) -> (Option<Value>, Option<Value>) {
    if plan.quirks.contains(&Quirk::NoThinking) {
        return (None, None);
    }
    // Newer models show nothing of what they think, nor of what they say between two calls, unless asked to.
    let adaptive = || Some(json!({"type": "adaptive", "display": "summarized"}));
    let wish = match request.reasoning {
        Some(ReasoningEffort::Off) if plan.quirks.contains(&Quirk::AlwaysThinks) => Some(ReasoningEffort::Low),
        wish => wish,
    };
    let effort = match (plan.thinking, wish) {
        (Thinking::No, _) | (Thinking::Unknown | Thinking::Budget, None) => return (None, None),
        (_, Some(ReasoningEffort::Off)) => return (Some(json!({"type": "disabled"})), None),
        (Thinking::Adaptive, None) => return (adaptive(), None),
        (Thinking::Adaptive | Thinking::Unknown, Some(effort)) => {
            return (adaptive(), Some(json!({"effort": effort.as_str()})));
        }
        (Thinking::Budget, Some(effort)) => effort,
    };
    // A model that thinks within a budget wants each reply of the turn to begin with what it thought, which those of another
    // model, or of another setting, do not.
    let unthought = turns.iter().rev().take_while(|turn| matches!(turn, Turn::Assistant { .. })).any(|turn| {
        !matches!(turn, Turn::Assistant { own: Some(Own { parts: Some(parts), .. }), .. }
            if matches!(parts.first(), Some(Part::Reasoning(..) | Part::Opaque(_))))
    });
    let wanted = match effort {
        ReasoningEffort::Off | ReasoningEffort::Low => 4096,
        ReasoningEffort::Medium => 16_384,
        ReasoningEffort::High => 32_768,
    };
    let budget = wanted.min(plan.max_tokens / 2);
    if unthought || budget < LEAST_THINKING {
        return (None, None);
    }
    (Some(json!({"type": "enabled", "budget_tokens": budget})), None)
}

/// The body of a request.
pub(super) fn of<'a>(request: &'a ChatRequest, plan: &Plan) -> Body<'a> {
    let turns = render::conversation(request, API);
    let (thinking, output_config) = thinking(request, plan, &turns);
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
    let mut messages = messages(turns, plan.own_blocks);
    let marked = Some(CacheControl::Ephemeral);
    // The same in all sessions: the tools, and the tools with the system prompt. Then what this session has said until its
    // last call and until now: a reply with many calls is longer than the provider looks back for what it knows.
    tools.last_mut().into_iter().for_each(|tool| tool.cache_control = marked);
    system.last_mut().into_iter().for_each(|block| block.cache_control = marked);
    let said = messages.iter_mut().rev().filter(|message| message.role == Role::User).take(2);
    for message in said {
        if let Some(block) = message.content.iter_mut().rev().find(|block| block.block.takes_mark()) {
            block.cache_control = marked;
        }
    }
    Body {
        model: &request.model,
        max_tokens: plan.max_tokens,
        system,
        tools,
        tool_choice,
        messages,
        // A model that thinks takes no other temperature than its own. Where this one stands in for a model of another
        // provider, the setting may be of that one's scale.
        temperature: request
            .temperature
            .map(|temperature| temperature.min(MAX_TEMPERATURE))
            .filter(|_| plan.takes_temperature && !plan.quirks.contains(&Quirk::NoTemperature) && thinking.is_none()),
        thinking,
        output_config,
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
fn messages<'a>(turns: Vec<Turn<'a>>, own_blocks: bool) -> Vec<WireMessage<'a>> {
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
            Turn::Assistant { text, exchanges, own } => {
                let (uses, results): (Vec<_>, Vec<_>) = exchanges.into_iter().map(exchange).unzip();
                let said = match own.filter(|_| own_blocks).and_then(|own| own.parts) {
                    Some(parts) => as_given(parts, uses),
                    None => text.map(|text| Block::Text { text }).into_iter().chain(uses).collect(),
                };
                // What a model thought and did not say is nothing to one that does not read it.
                if !said.is_empty() {
                    add(Role::Assistant, said);
                }
                if !results.is_empty() {
                    add(Role::User, results);
                }
            }
        }
    }
    messages
}

/// A reply of this very model, block by block as it gave it: it wants its thinking back unchanged, and in its place.
fn as_given<'a>(parts: Vec<Part<'a>>, uses: Vec<Block<'a>>) -> Vec<Block<'a>> {
    let mut uses = uses.into_iter();
    let blocks = native::without_last_thoughts(parts).into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(Block::Text { text }),
        // Without its signature it would be refused.
        Part::Reasoning(thinking, mut data) => Some(Block::Thinking { thinking, signature: data.remove("signature")? }),
        Part::Call(_) => uses.next(),
        Part::Opaque(block) => Some(Block::Opaque(block)),
    });
    blocks.collect()
}

fn exchange(exchange: Exchange<'_>) -> (Block<'_>, Block<'_>) {
    let Exchange { call, result, is_error } = exchange;
    let id = call.id.as_str();
    (
        Block::ToolUse { id, name: render::tool_name(&call.name), input: render::arguments(call) },
        Block::ToolResult { tool_use_id: id, content: result, is_error },
    )
}
