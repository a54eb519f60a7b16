//! The request as the Messages API takes it.

use std::{borrow::Cow, collections::BTreeSet};

use k8sops_core::ReasoningEffort;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    ChatRequest, ToolChoice,
    prompt::{PromptTurn, SameModelContent, ToolExchange, arguments_object, prompt_turns, sanitize_tool_name},
    provider_blocks::{BlockFormat, ReplyPart, without_trailing_reasoning},
    quirks::ModelQuirk,
};

/// How the body is to be, beyond the request.
pub(crate) struct MessagesPlan {
    /// The most tokens of the reply.
    pub(crate) max_tokens: u32,
    /// How the model thinks.
    pub(crate) thinking: ThinkingMode,
    /// Whether it takes a sampling temperature, as far as is known.
    pub(crate) takes_temperature: bool,
    /// Whether it gets back what it thought itself.
    pub(crate) return_blocks: bool,
    /// What is to be left out.
    pub(crate) quirks: BTreeSet<ModelQuirk>,
}

/// How a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThinkingMode {
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
const MIN_THINKING_BUDGET: u32 = 1024;

#[derive(Serialize)]
pub(crate) struct MessagesBody<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<CachedBlock<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<MessagesTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    messages: Vec<MessagesTurn<'a>>,
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
enum MessagesRole {
    User,
    Assistant,
}

#[derive(Serialize)]
struct MessagesTurn<'a> {
    role: MessagesRole,
    content: Vec<CachedBlock<'a>>,
}

impl MessagesBody<'_> {
    /// What of it can be left out.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let temperature = self.temperature.is_some().then_some(ModelQuirk::NoTemperature);
        let thinking = self.thinking.as_ref().map(|thinking| match thinking["type"].as_str() {
            Some("disabled") => ModelQuirk::AlwaysThinks,
            _ => ModelQuirk::NoThinking,
        });
        temperature.into_iter().chain(thinking).collect()
    }

    /// Whether the model gets anything back that only it can read.
    pub(crate) fn has_returned_blocks(&self) -> bool {
        let mut blocks = self.messages.iter().flat_map(|message| &message.content);
        blocks.any(|block| matches!(block.block, ContentBlock::Thinking { .. } | ContentBlock::Opaque(_)))
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
    block: ContentBlock<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

impl<'a> From<ContentBlock<'a>> for CachedBlock<'a> {
    fn from(block: ContentBlock<'a>) -> Self {
        Self { block, cache_control: None }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ContentBlock<'a> {
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

impl ContentBlock<'_> {
    /// Whether a mark for the cache may stand on it.
    fn is_cacheable(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::ToolUse { .. } | Self::ToolResult { .. })
    }
}

#[derive(Serialize)]
struct MessagesTool<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    input_schema: Cow<'a, Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

/// Whether a request asks for what a quirk leaves out.
pub(crate) fn affects_request(quirk: ModelQuirk, request: &ChatRequest) -> bool {
    match quirk {
        ModelQuirk::NoTemperature => request.temperature.is_some(),
        ModelQuirk::AlwaysThinks => request.reasoning == Some(ReasoningEffort::Off),
        ModelQuirk::NoThinking => request.reasoning.is_some(),
        _ => true,
    }
}

/// What is said about thinking, and about how much of it.
fn thinking_options(
    request: &ChatRequest,
    plan: &MessagesPlan,
    turns: &[PromptTurn<'_>],
) -> (Option<Value>, Option<Value>) {
    if plan.quirks.contains(&ModelQuirk::NoThinking) {
        return (None, None);
    }
    // Newer models show nothing of what they think, nor of what they say between two calls, unless asked to.
    let adaptive = || Some(json!({"type": "adaptive", "display": "summarized"}));
    let wish = match request.reasoning {
        Some(ReasoningEffort::Off) if plan.quirks.contains(&ModelQuirk::AlwaysThinks) => Some(ReasoningEffort::Low),
        wish => wish,
    };
    let effort = match (plan.thinking, wish) {
        (ThinkingMode::No, _) | (ThinkingMode::Unknown | ThinkingMode::Budget, None) => return (None, None),
        (_, Some(ReasoningEffort::Off)) => return (Some(json!({"type": "disabled"})), None),
        (ThinkingMode::Adaptive, None) => return (adaptive(), None),
        (ThinkingMode::Adaptive | ThinkingMode::Unknown, Some(effort)) => {
            return (adaptive(), Some(json!({"effort": effort.as_str()})));
        }
        (ThinkingMode::Budget, Some(effort)) => effort,
    };
    // A model that thinks within a budget wants each reply of the turn to begin with what it thought, which those of another
    // model, or of another setting, do not.
    let unthought = turns.iter().rev().take_while(|turn| matches!(turn, PromptTurn::Assistant { .. })).any(|turn| {
        !matches!(turn, PromptTurn::Assistant { own: Some(SameModelContent { parts: Some(parts), .. }), .. }
            if matches!(parts.first(), Some(ReplyPart::Reasoning(..) | ReplyPart::Opaque(_))))
    });
    let wanted = match effort {
        ReasoningEffort::Off | ReasoningEffort::Low => 4096,
        ReasoningEffort::Medium => 16_384,
        ReasoningEffort::High => 32_768,
    };
    let budget = wanted.min(plan.max_tokens / 2);
    if unthought || budget < MIN_THINKING_BUDGET {
        return (None, None);
    }
    (Some(json!({"type": "enabled", "budget_tokens": budget})), None)
}

impl<'a> MessagesBody<'a> {
    /// The body of a request.
    pub(crate) fn build(request: &'a ChatRequest, plan: &MessagesPlan) -> Self {
        let turns = prompt_turns(request, BlockFormat::AnthropicMessages);
        let (thinking, output_config) = thinking_options(request, plan, &turns);
        let mut tools: Vec<_> = request
            .tools
            .iter()
            .map(|tool| MessagesTool {
                name: Cow::Borrowed(&tool.name),
                description: &tool.description,
                input_schema: Cow::Borrowed(&tool.input_schema),
                cache_control: None,
            })
            .collect();
        let mut forbidden = request.tool_choice == ToolChoice::None;
        if tools.is_empty() {
            // A conversation with tool calls in it is refused unless tools are listed; all servers may be away just now.
            tools = unavailable_tools(&turns);
            forbidden = true;
        }
        let tool_choice = (forbidden && !tools.is_empty()).then(|| json!({"type": "none"}));
        let mut system: Vec<CachedBlock<'_>> = Vec::new();
        if !request.system.is_empty() {
            system.push(ContentBlock::Text { text: &request.system }.into());
        }
        let mut messages = build_messages(turns, plan.return_blocks);
        let marked = Some(CacheControl::Ephemeral);
        // The same in all sessions: the tools, and the tools with the system prompt. Then what this session has said until its
        // last call and until now: a reply with many calls is longer than the provider looks back for what it knows.
        tools.last_mut().into_iter().for_each(|tool| tool.cache_control = marked);
        system.last_mut().into_iter().for_each(|block| block.cache_control = marked);
        let said = messages.iter_mut().rev().filter(|message| message.role == MessagesRole::User).take(2);
        for message in said {
            if let Some(block) = message.content.iter_mut().rev().find(|block| block.block.is_cacheable()) {
                block.cache_control = marked;
            }
        }
        Self {
            model: &request.model,
            max_tokens: plan.max_tokens,
            system,
            tools,
            tool_choice,
            messages,
            // A model that thinks takes no other temperature than its own. Where this one stands in for a model of another
            // provider, the setting may be of that one's scale.
            temperature: request.temperature.map(|temperature| temperature.min(MAX_TEMPERATURE)).filter(|_| {
                plan.takes_temperature && !plan.quirks.contains(&ModelQuirk::NoTemperature) && thinking.is_none()
            }),
            thinking,
            output_config,
            stream: true,
        }
    }
}

/// The tools that were called in `turns`, as ones that are no longer there.
fn unavailable_tools<'a>(turns: &[PromptTurn<'a>]) -> Vec<MessagesTool<'a>> {
    let calls = turns.iter().flat_map(|turn| match turn {
        PromptTurn::User(_) => &[],
        PromptTurn::Assistant { exchanges, .. } => exchanges.as_slice(),
    });
    let names: BTreeSet<_> = calls.map(|exchange| sanitize_tool_name(&exchange.call.name)).collect();
    let schema = Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), json!({}))]);
    names
        .into_iter()
        .map(|name| MessagesTool {
            name,
            description: "Not available now.",
            input_schema: Cow::Owned(schema.clone()),
            cache_control: None,
        })
        .collect()
}

/// The messages: roles take turns, the user begins, and no block is empty.
fn build_messages<'a>(turns: Vec<PromptTurn<'a>>, return_blocks: bool) -> Vec<MessagesTurn<'a>> {
    let mut messages: Vec<MessagesTurn<'a>> = Vec::with_capacity(turns.len());
    let mut add = |role, blocks: Vec<ContentBlock<'a>>| {
        let blocks = blocks.into_iter().map(CachedBlock::from);
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => messages.push(MessagesTurn { role, content: blocks.collect() }),
        }
    };
    if matches!(turns.first(), Some(PromptTurn::Assistant { .. })) {
        add(MessagesRole::User, vec![ContentBlock::Text { text: "(The beginning of the conversation is left out.)" }]);
    }
    for turn in turns {
        match turn {
            PromptTurn::User(text) => add(MessagesRole::User, vec![ContentBlock::Text { text }]),
            PromptTurn::Assistant { text, exchanges, own } => {
                let (uses, results): (Vec<_>, Vec<_>) = exchanges.into_iter().map(tool_blocks).unzip();
                let said = match own.filter(|_| return_blocks).and_then(|own| own.parts) {
                    Some(parts) => rebuild_reply(parts, uses),
                    None => text.map(|text| ContentBlock::Text { text }).into_iter().chain(uses).collect(),
                };
                // What a model thought and did not say is nothing to one that does not read it.
                if !said.is_empty() {
                    add(MessagesRole::Assistant, said);
                }
                if !results.is_empty() {
                    add(MessagesRole::User, results);
                }
            }
        }
    }
    messages
}

/// A reply of this very model, block by block as it gave it: it wants its thinking back unchanged, and in its place.
fn rebuild_reply<'a>(parts: Vec<ReplyPart<'a>>, uses: Vec<ContentBlock<'a>>) -> Vec<ContentBlock<'a>> {
    let mut uses = uses.into_iter();
    let blocks = without_trailing_reasoning(parts).into_iter().filter_map(|part| match part {
        ReplyPart::Text(text) => Some(ContentBlock::Text { text }),
        // Without its signature it would be refused.
        ReplyPart::Reasoning(thinking, mut data) => {
            Some(ContentBlock::Thinking { thinking, signature: data.remove("signature")? })
        }
        ReplyPart::Call(_) => uses.next(),
        ReplyPart::Opaque(block) => Some(ContentBlock::Opaque(block)),
    });
    blocks.collect()
}

fn tool_blocks(exchange: ToolExchange<'_>) -> (ContentBlock<'_>, ContentBlock<'_>) {
    let ToolExchange { call, result, is_error } = exchange;
    let id = call.id.as_str();
    (
        ContentBlock::ToolUse { id, name: sanitize_tool_name(&call.name), input: arguments_object(call) },
        ContentBlock::ToolResult { tool_use_id: id, content: result, is_error },
    )
}
