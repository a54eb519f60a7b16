//! The body of a request to the Messages API.

use std::{borrow::Cow, collections::BTreeSet};

use k8sops_core::{ReasoningEffort, RequestForm};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    ChatRequest, Dialect, FoundTools, ToolChoice, ToolSpec,
    prompt::{
        BEGINNING_LEFT_OUT, PromptTurn, SameModelContent, ToolExchange, UNAVAILABLE_TOOL, arguments_object,
        called_tool_names, empty_tool_schema, prompt_turns, sanitize_tool_name,
    },
    provider_blocks::{BlockFormat, ReplyPart, without_trailing_reasoning},
    quirks::ModelQuirk,
    tool_placement::FoundToolPlace,
};

/// How the body is built, in addition to the request.
pub(crate) struct MessagesPlan {
    /// The rules of the server, with what the model rejects and in the form of the request.
    pub(crate) dialect: Dialect,
    /// The form of the request.
    pub(crate) form: RequestForm,
    /// The token limit of the reply.
    pub(crate) max_tokens: u32,
    /// How the model reasons.
    pub(crate) thinking: ThinkingMode,
    /// Whether the model accepts a sampling temperature, as far as is known.
    pub(crate) takes_temperature: bool,
    /// Whether the model gets its own reasoning back.
    pub(crate) return_blocks: bool,
    /// Where the tools that a search found are described.
    pub(crate) found_tool_place: FoundToolPlace,
    /// The features to leave out.
    pub(crate) quirks: BTreeSet<ModelQuirk>,
}

/// How a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThinkingMode {
    Unknown,
    /// The model does not reason.
    No,
    /// The model decides how long it reasons.
    Adaptive,
    /// The model reasons within a token budget.
    Budget,
}

/// The highest temperature of the protocol.
pub(crate) const MAX_TEMPERATURE: f64 = 1.0;

/// Follows the results of searches. Without a text behind them, the prompt ends with the definitions of tools, after which models
/// sometimes end their turn; other clients send such a text, too.
pub(crate) const TOOLS_LOADED: &str = "(The tools are loaded.)";

/// The smallest permitted token budget for reasoning.
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
    /// Returns the quirks that would remove a parameter of this body.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let deferred = self.tools.iter().any(|tool| tool.defer_loading).then_some(ModelQuirk::NoDeferredTools);
        let temperature = self.temperature.is_some().then_some(ModelQuirk::NoTemperature);
        let thinking = self.thinking.as_ref().map(|thinking| match thinking["type"].as_str() {
            Some("disabled") => ModelQuirk::AlwaysThinks,
            _ => ModelQuirk::NoThinking,
        });
        deferred.into_iter().chain(temperature).chain(thinking).collect()
    }

    /// Returns whether the body contains data that only this model can read.
    pub(crate) fn has_returned_blocks(&self) -> bool {
        let mut blocks = self.messages.iter().flat_map(|message| &message.content);
        blocks.any(|block| matches!(block.block, ContentBlock::Thinking { .. } | ContentBlock::Opaque(_)))
    }
}

/// Marks the end of a prompt prefix that the provider caches: tools, then the system prompt, then the messages. Without
/// a mark, nothing is cached.
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
        text: Cow<'a, str>,
    },
    ToolUse {
        id: &'a str,
        name: Cow<'a, str>,
        input: Cow<'a, Map<String, Value>>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: ToolResultContent<'a>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    Thinking {
        thinking: &'a str,
        signature: Value,
    },
    /// A block that is returned unchanged.
    #[serde(untagged)]
    Opaque(Value),
}

/// The result of a tool call: its output, or the tools that a search found. A result cannot have both.
#[derive(Serialize)]
#[serde(untagged)]
enum ToolResultContent<'a> {
    Output(Cow<'a, str>),
    References(Vec<ToolReference<'a>>),
}

/// A tool that the server describes in this place.
#[derive(Serialize)]
#[serde(tag = "type", rename = "tool_reference")]
struct ToolReference<'a> {
    tool_name: &'a str,
}

impl ContentBlock<'_> {
    /// Returns whether the block can carry a cache mark.
    fn is_cacheable(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::ToolUse { .. } | Self::ToolResult { .. })
    }

    /// Returns whether the block is the result of a search, with the tools that it found.
    fn has_references(&self) -> bool {
        matches!(self, Self::ToolResult { content: ToolResultContent::References(_), .. })
    }
}

#[derive(Serialize)]
struct MessagesTool<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    input_schema: Cow<'a, Map<String, Value>>,
    /// Whether the tool is described where a search refers to it, and not in the list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    defer_loading: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

/// Returns whether a quirk changes what the request asks for.
pub(crate) fn affects_request(quirk: ModelQuirk, request: &ChatRequest) -> bool {
    match quirk {
        ModelQuirk::NoTemperature => request.temperature.is_some(),
        ModelQuirk::AlwaysThinks => request.reasoning == Some(ReasoningEffort::Off),
        ModelQuirk::NoThinking => request.reasoning.is_some(),
        _ => true,
    }
}

/// Returns the options for reasoning and its effort.
fn thinking_options(
    request: &ChatRequest,
    plan: &MessagesPlan,
    turns: &[PromptTurn<'_>],
) -> (Option<Value>, Option<Value>) {
    if plan.quirks.contains(&ModelQuirk::NoThinking) || plan.form >= RequestForm::Strict {
        return (None, None);
    }
    // By default, newer models return neither their reasoning nor the text between two calls.
    let adaptive = || Some(json!({"type": "adaptive", "display": "summarized"}));
    let requested = match request.reasoning {
        Some(ReasoningEffort::Off) if plan.quirks.contains(&ModelQuirk::AlwaysThinks) => Some(ReasoningEffort::Low),
        requested => requested,
    };
    let effort = match (plan.thinking, requested) {
        (ThinkingMode::No, _) | (ThinkingMode::Unknown | ThinkingMode::Budget, None) => return (None, None),
        (_, Some(ReasoningEffort::Off)) => return (Some(json!({"type": "disabled"})), None),
        (ThinkingMode::Adaptive, None) => return (adaptive(), None),
        (ThinkingMode::Adaptive | ThinkingMode::Unknown, Some(effort)) => {
            return (adaptive(), Some(json!({"effort": effort.as_str()})));
        }
        (ThinkingMode::Budget, Some(effort)) => effort,
    };
    // A model with a reasoning budget requires every reply of the turn to start with reasoning. Replies of other
    // models, or of other settings, do not.
    let lacks_reasoning =
        turns.iter().rev().take_while(|turn| matches!(turn, PromptTurn::Assistant { .. })).any(|turn| {
            !matches!(turn, PromptTurn::Assistant { same_model: Some(SameModelContent { parts: Some(parts), .. }), .. }
            if matches!(parts.first(), Some(ReplyPart::Reasoning(..) | ReplyPart::Opaque(_))))
        });
    let preferred = match effort {
        ReasoningEffort::Off | ReasoningEffort::Low => 4096,
        ReasoningEffort::Medium => 16_384,
        ReasoningEffort::High => 32_768,
    };
    let budget = preferred.min(plan.max_tokens / 2);
    if lacks_reasoning || budget < MIN_THINKING_BUDGET {
        return (None, None);
    }
    (Some(json!({"type": "enabled", "budget_tokens": budget})), None)
}

impl<'a> MessagesBody<'a> {
    /// Builds the body of a request.
    pub(crate) fn build(request: &'a ChatRequest, plan: &MessagesPlan) -> Self {
        let turns = prompt_turns(request, BlockFormat::AnthropicMessages, &plan.dialect);
        let (thinking, output_config) = thinking_options(request, plan, &turns);
        let offered = if plan.form == RequestForm::Bare { &[] } else { &request.tools[..] };
        let describe = |tool: &'a ToolSpec, defer_loading| MessagesTool {
            name: Cow::Borrowed(&tool.name),
            description: plan.dialect.fit_description(&tool.description),
            input_schema: Cow::Borrowed(&tool.input_schema),
            defer_loading,
            cache_control: None,
        };
        let mut tools: Vec<_> = offered.iter().map(|tool| describe(tool, false)).collect();
        // Deferred tools are no part of the cached prefix, wherever they stand.
        tools.extend(request.found_tools.specs().map(|tool| describe(tool, true)));
        let mut tools_forbidden = request.tool_choice == ToolChoice::None;
        if tools.is_empty() {
            // A conversation with tool calls is rejected unless tools are listed. All MCP servers may be disconnected
            // now.
            tools = unavailable_tools(&turns);
            tools_forbidden = true;
        }
        let tool_choice = (tools_forbidden && !tools.is_empty()).then(|| json!({"type": "none"}));
        let mut system: Vec<CachedBlock<'_>> = Vec::new();
        if !request.system.is_empty() {
            system.push(ContentBlock::Text { text: Cow::Borrowed(&request.system) }.into());
        }
        let mut messages = build_messages(turns, plan.return_blocks, &request.found_tools);
        let cache_mark = Some(CacheControl::Ephemeral);
        // Tools and system prompt are the same in all sessions. The marks on the last two user messages cover this
        // session: one mark is not enough, because a reply with many calls is longer than the provider's lookback for
        // cached prefixes.
        if let Some(last_listed) = tools.iter_mut().rfind(|tool| !tool.defer_loading) {
            last_listed.cache_control = cache_mark;
        }
        system.last_mut().into_iter().for_each(|block| block.cache_control = cache_mark);
        let user_messages = messages.iter_mut().rev().filter(|message| message.role == MessagesRole::User).take(2);
        for message in user_messages {
            if let Some(block) = message.content.iter_mut().rev().find(|block| block.block.is_cacheable()) {
                block.cache_control = cache_mark;
            }
        }
        Self {
            model: &request.model,
            max_tokens: plan.max_tokens,
            system,
            tools,
            tool_choice,
            messages,
            // A model that reasons accepts only its default temperature. The setting may be on the scale of another
            // provider, if this model is a fallback.
            temperature: request.temperature.map(|temperature| temperature.min(MAX_TEMPERATURE)).filter(|_| {
                plan.takes_temperature
                    && plan.form != RequestForm::Bare
                    && !plan.quirks.contains(&ModelQuirk::NoTemperature)
                    && thinking.is_none()
            }),
            thinking,
            output_config,
            stream: true,
        }
    }
}

/// Returns the tools that were called in `turns`, described as unavailable.
fn unavailable_tools<'a>(turns: &[PromptTurn<'a>]) -> Vec<MessagesTool<'a>> {
    let tools = called_tool_names(turns).into_iter().map(|name| MessagesTool {
        name,
        description: UNAVAILABLE_TOOL,
        input_schema: Cow::Owned(empty_tool_schema()),
        defer_loading: false,
        cache_control: None,
    });
    tools.collect()
}

/// Builds the messages. Roles alternate, the first is the user, and no message is empty.
fn build_messages<'a>(
    turns: Vec<PromptTurn<'a>>,
    return_blocks: bool,
    found_tools: &'a FoundTools,
) -> Vec<MessagesTurn<'a>> {
    let mut messages: Vec<MessagesTurn<'a>> = Vec::with_capacity(turns.len());
    let mut add = |role, blocks: Vec<ContentBlock<'a>>| {
        let blocks = blocks.into_iter().map(CachedBlock::from);
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => messages.push(MessagesTurn { role, content: blocks.collect() }),
        }
    };
    if matches!(turns.first(), Some(PromptTurn::Assistant { .. })) {
        add(MessagesRole::User, vec![ContentBlock::Text { text: Cow::Borrowed(BEGINNING_LEFT_OUT) }]);
    }
    for turn in turns {
        match turn {
            PromptTurn::User(text) => add(MessagesRole::User, vec![ContentBlock::Text { text }]),
            PromptTurn::Assistant { text, exchanges, same_model } => {
                let (uses, mut results): (Vec<_>, Vec<_>) =
                    exchanges.into_iter().map(|exchange| tool_blocks(exchange, found_tools)).unzip();
                if results.iter().any(ContentBlock::has_references) {
                    results.push(ContentBlock::Text { text: Cow::Borrowed(TOOLS_LOADED) });
                }
                let content = match same_model.filter(|_| return_blocks).and_then(|content| content.parts) {
                    Some(parts) => rebuild_reply(parts, uses),
                    None => text.map(|text| ContentBlock::Text { text }).into_iter().chain(uses).collect(),
                };
                // A reply of reasoning alone has no content for other models.
                if !content.is_empty() {
                    add(MessagesRole::Assistant, content);
                }
                if !results.is_empty() {
                    add(MessagesRole::User, results);
                }
            }
        }
    }
    messages
}

/// Rebuilds a reply of the same model block by block, because the model requires its reasoning unchanged and in its
/// place.
fn rebuild_reply<'a>(parts: Vec<ReplyPart<'a>>, uses: Vec<ContentBlock<'a>>) -> Vec<ContentBlock<'a>> {
    let mut uses = uses.into_iter();
    let blocks = without_trailing_reasoning(parts).into_iter().filter_map(|part| match part {
        ReplyPart::Text(text, _) => Some(ContentBlock::Text { text: Cow::Borrowed(text) }),
        // Reasoning without a signature is rejected.
        ReplyPart::Reasoning(thinking, mut data) => {
            Some(ContentBlock::Thinking { thinking, signature: data.remove("signature")? })
        }
        ReplyPart::Call(_) => uses.next(),
        ReplyPart::Opaque(block) => Some(ContentBlock::Opaque(block)),
    });
    blocks.collect()
}

fn tool_blocks<'a>(exchange: ToolExchange<'a>, found_tools: &'a FoundTools) -> (ContentBlock<'a>, ContentBlock<'a>) {
    let ToolExchange { call, result, is_error } = exchange;
    let id = call.id.as_str();
    let found = found_tools.find_by_search(&call.id);
    let content = if found.is_empty() {
        ToolResultContent::Output(result)
    } else {
        ToolResultContent::References(found.iter().map(|tool| ToolReference { tool_name: &tool.name }).collect())
    };
    (
        ContentBlock::ToolUse { id, name: sanitize_tool_name(&call.name), input: arguments_object(call) },
        ContentBlock::ToolResult { tool_use_id: id, content, is_error },
    )
}
