//! The conversation in a form that every provider accepts, and the text in which a model reads the result of a tool
//! call.
//!
//! [`prompt_turns`] guarantees that no tool call is sent without its result, and no result without its call. A provider
//! rejects both, and since the history of a session cannot be changed, the session could never continue. The types of
//! this module cannot represent such a conversation.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use k8sops_core::{ChatMessage, RequestForm, ToolCall, ToolMessage, ToolStatus};
use serde_json::{Map, Value, json};

use crate::{
    ChatRequest, Dialect, ReasoningReturn,
    provider_blocks::{BlockFormat, ReplyPart, split_reply_parts},
};

/// The longest tool name that every provider accepts.
const MAX_TOOL_NAME_CHARS: usize = 64;
/// The description of a tool that is listed only because it was called before.
pub(crate) const UNAVAILABLE_TOOL: &str = "Not available now.";
/// The first message of a conversation whose beginning was cut off.
pub(crate) const BEGINNING_LEFT_OUT: &str = "(The beginning of the conversation is left out.)";
/// Stands for a reply between the results of tools and the user's next message, where a server requires one.
const BRIDGE_TEXT: &str = "(The results are noted.)";
/// Stands for the text of a reply that only called tools.
pub(crate) const CALLS_TEXT: &str = "(I use tools.)";
/// Stands for a message of the user after a reply that continues.
const CONTINUE_TEXT: &str = "(Please continue.)";
/// The text for a result without output.
const NO_OUTPUT: &str = "[no output]";
/// The text for a missing result.
const MISSING_RESULT: &str = "[unknown: no result was recorded]";

/// A part of the conversation.
#[derive(Debug, PartialEq)]
pub(crate) enum PromptTurn<'a> {
    /// A message of the user.
    User(Cow<'a, str>),
    /// A reply of a model and its tool calls with their results. It has text, calls or content of the same model.
    Assistant {
        /// The text, if it is not blank.
        text: Option<Cow<'a, str>>,
        /// The tool calls in the order in which the model wrote them.
        exchanges: Vec<ToolExchange<'a>>,
        /// What only the model of this request can read, if that model wrote the reply.
        same_model: Option<SameModelContent<'a>>,
    },
}

/// What a reply contains beyond text and tool calls, for the model that wrote it.
#[derive(Debug, PartialEq)]
pub(crate) struct SameModelContent<'a> {
    /// The parts of the reply as the provider sent them, if they were recorded from the protocol of this request.
    pub(crate) parts: Option<Vec<ReplyPart<'a>>>,
    /// The reasoning.
    pub(crate) reasoning: Option<&'a str>,
    /// Whether the reply follows the latest message of the user.
    pub(crate) in_current_turn: bool,
}

/// A tool call with its result.
#[derive(Debug, PartialEq)]
pub(crate) struct ToolExchange<'a> {
    pub(crate) call: &'a ToolCall,
    /// The text that the model reads.
    pub(crate) result: Cow<'a, str>,
    /// Whether the status is any other than `ok`.
    pub(crate) is_error: bool,
}

/// Converts the messages of a request to turns, for a provider that speaks `format` in this dialect and in the form of the
/// request. A call without a result gets one
/// that says so. Results follow their call in the order of the calls. Results without a call, repeated ids and empty
/// messages are omitted.
pub(crate) fn prompt_turns<'a>(
    request: &'a ChatRequest,
    format: BlockFormat,
    dialect: &Dialect,
) -> Vec<PromptTurn<'a>> {
    let mut turns = paired_turns(request, format);
    if request.form >= RequestForm::Strict {
        turns = without_same_model_content(turns, dialect.reasoning);
    }
    if request.form >= RequestForm::Plain {
        turns = with_calls_as_text(turns);
    } else if !dialect.parallel_calls {
        turns = with_single_calls(turns);
    }
    if dialect.alternating_roles { with_alternating_roles(turns) } else { turns }
}

/// Pairs calls and results.
fn paired_turns(request: &ChatRequest, format: BlockFormat) -> Vec<PromptTurn<'_>> {
    let messages = &request.messages;
    let latest_user_message =
        messages.iter().rposition(|message| matches!(**message, ChatMessage::User(_))).unwrap_or(0);
    let mut turns: Vec<PromptTurn<'_>> = Vec::with_capacity(messages.len());
    // The positions of calls whose result is not found yet: id to (turn, exchange).
    let mut open_calls: HashMap<&str, Option<(usize, usize)>> = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        match &**message {
            ChatMessage::User(message) => {
                if !message.content.trim().is_empty() {
                    turns.push(PromptTurn::User(Cow::Borrowed(&message.content)));
                }
            }
            ChatMessage::Assistant(message) => {
                let mut exchanges = Vec::with_capacity(message.tool_calls.len());
                for call in &message.tool_calls {
                    // Anthropic rejects repeated ids. Ours are unique: this keeps a session with a damaged log usable.
                    if open_calls.contains_key(call.id.as_str()) {
                        continue;
                    }
                    open_calls.insert(call.id.as_str(), Some((turns.len(), exchanges.len())));
                    exchanges.push(ToolExchange { call, result: Cow::Borrowed(MISSING_RESULT), is_error: true });
                }
                let text = Some(message.content.as_str()).filter(|text| !text.trim().is_empty()).map(Cow::Borrowed);
                let is_same_model = message.provider.as_ref() == Some(&request.provider)
                    && message.model.as_ref() == Some(&request.model)
                    && exchanges.len() == message.tool_calls.len();
                let same_model = is_same_model.then(|| SameModelContent {
                    parts: split_reply_parts(message, format),
                    reasoning: message.reasoning.as_deref(),
                    in_current_turn: at > latest_user_message,
                });
                let has_parts = same_model
                    .as_ref()
                    .and_then(|content| content.parts.as_ref())
                    .is_some_and(|parts| !parts.is_empty());
                if text.is_some() || !exchanges.is_empty() || has_parts {
                    turns.push(PromptTurn::Assistant { text, exchanges, same_model });
                }
            }
            ChatMessage::Tool(message) => {
                let position = open_calls.get_mut(message.tool_call_id.as_str()).and_then(Option::take);
                let Some((turn, exchange)) = position else { continue };
                if let PromptTurn::Assistant { exchanges, .. } = &mut turns[turn] {
                    exchanges[exchange].result = render_tool_result(message);
                    exchanges[exchange].is_error = message.status != ToolStatus::Ok;
                }
            }
        }
    }
    turns
}

/// Removes what only the model that wrote a reply can read. Its plain reasoning stays if the server requires it.
fn without_same_model_content(turns: Vec<PromptTurn<'_>>, returned: ReasoningReturn) -> Vec<PromptTurn<'_>> {
    let keeps_reasoning = matches!(returned, ReasoningReturn::WithCalls | ReasoningReturn::Always);
    let simplified = turns.into_iter().filter_map(|turn| match turn {
        PromptTurn::Assistant { text: None, exchanges, .. } if exchanges.is_empty() => None,
        PromptTurn::Assistant { text, exchanges, same_model } => {
            let reasoning = same_model.filter(|_| keeps_reasoning);
            let same_model = reasoning.map(|content| SameModelContent { parts: None, ..content });
            Some(PromptTurn::Assistant { text, exchanges, same_model })
        }
        user @ PromptTurn::User(_) => Some(user),
    });
    simplified.collect()
}

/// Writes tool calls and their results as text. Both stand in a message of the user, so that the model does not learn to write
/// its own calls as text.
fn with_calls_as_text(turns: Vec<PromptTurn<'_>>) -> Vec<PromptTurn<'_>> {
    let mut plain = Vec::with_capacity(turns.len() * 2);
    for turn in turns {
        match turn {
            PromptTurn::Assistant { text, exchanges, same_model } if !exchanges.is_empty() => {
                let text = text.unwrap_or(Cow::Borrowed(CALLS_TEXT));
                plain.push(PromptTurn::Assistant { text: Some(text), exchanges: Vec::new(), same_model });
                let results = exchanges.iter().map(|ToolExchange { call, result, .. }| {
                    format!("Result of {} {}:\n{result}", sanitize_tool_name(&call.name), json!(arguments_object(call)))
                });
                plain.push(PromptTurn::User(results.collect::<Vec<_>>().join("\n\n").into()));
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Gives each tool call a message of its own.
fn with_single_calls(turns: Vec<PromptTurn<'_>>) -> Vec<PromptTurn<'_>> {
    let mut single = Vec::with_capacity(turns.len());
    for turn in turns {
        match turn {
            PromptTurn::Assistant { mut text, exchanges, same_model } if exchanges.len() > 1 => {
                let content = same_model.map(|content| (content.reasoning, content.in_current_turn));
                single.extend(exchanges.into_iter().map(|exchange| PromptTurn::Assistant {
                    text: text.take(),
                    exchanges: vec![exchange],
                    same_model: content.map(|(reasoning, in_current_turn)| SameModelContent {
                        parts: None,
                        reasoning,
                        in_current_turn,
                    }),
                }));
            }
            other => single.push(other),
        }
    }
    single
}

/// Lets the user begin and end, and merges messages of one role. Results of tools stand between two replies.
fn with_alternating_roles(turns: Vec<PromptTurn<'_>>) -> Vec<PromptTurn<'_>> {
    let mut alternating: Vec<PromptTurn<'_>> = Vec::with_capacity(turns.len() + 2);
    for turn in turns {
        match (alternating.last_mut(), turn) {
            (Some(PromptTurn::User(text)), PromptTurn::User(more)) => append_paragraph(text, &more),
            (Some(PromptTurn::Assistant { exchanges, .. }), user @ PromptTurn::User(_)) if !exchanges.is_empty() => {
                let text = Some(Cow::Borrowed(BRIDGE_TEXT));
                alternating.push(PromptTurn::Assistant { text, exchanges: Vec::new(), same_model: None });
                alternating.push(user);
            }
            (
                Some(PromptTurn::Assistant { text: Some(text), exchanges, same_model }),
                PromptTurn::Assistant { text: more, exchanges: calls, same_model: content },
            ) if exchanges.is_empty() => {
                if let Some(more) = more {
                    append_paragraph(text, &more);
                }
                *exchanges = calls;
                // The parts of one reply do not describe two.
                *same_model = content.map(|content| SameModelContent { parts: None, ..content });
            }
            (None, assistant @ PromptTurn::Assistant { .. }) => {
                alternating.push(PromptTurn::User(Cow::Borrowed(BEGINNING_LEFT_OUT)));
                alternating.push(assistant);
            }
            (_, turn) => alternating.push(turn),
        }
    }
    if matches!(alternating.last(), Some(PromptTurn::Assistant { exchanges, .. }) if exchanges.is_empty()) {
        alternating.push(PromptTurn::User(Cow::Borrowed(CONTINUE_TEXT)));
    }
    alternating
}

fn append_paragraph(text: &mut Cow<'_, str>, more: &str) {
    let text = text.to_mut();
    text.push_str("\n\n");
    text.push_str(more);
}

/// Returns an id of nine letters and digits for the id of a tool call: always the same for the same id.
pub(crate) fn short_call_id(id: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a with a final mix: the ids of one conversation differ in a few bits only.
    let mut hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    let digits = (0..9).map(|_| {
        let digit = usize::try_from(hash % 62).unwrap_or_default();
        hash /= 62;
        char::from(ALPHABET[digit])
    });
    digits.collect()
}

/// Returns the names of the tools that were called in `turns`.
pub(crate) fn called_tool_names<'a>(turns: &[PromptTurn<'a>]) -> BTreeSet<Cow<'a, str>> {
    let calls = turns.iter().flat_map(|turn| match turn {
        PromptTurn::User(_) => &[],
        PromptTurn::Assistant { exchanges, .. } => exchanges.as_slice(),
    });
    calls.map(|exchange| sanitize_tool_name(&exchange.call.name)).collect()
}

/// Returns the schema of a tool without arguments.
pub(crate) fn empty_tool_schema() -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), json!({}))])
}

/// Returns the text in which the model reads the result of a tool call: the status, unless it is `ok`, and the output
/// in a fence with its number. The status keeps the model from taking an unknown outcome for a success or a failure. The fence marks
/// the output as data, which cannot give instructions.
pub(crate) fn render_tool_result(message: &ToolMessage) -> Cow<'_, str> {
    let status = match message.status {
        // Some servers reject a blank text.
        ToolStatus::Ok if message.content.trim().is_empty() => return Cow::Borrowed(NO_OUTPUT),
        ToolStatus::Ok => "",
        ToolStatus::Error => "[error]",
        ToolStatus::Denied => "[denied by the user or by policy: the call was not run]",
        ToolStatus::Cancelled => "[cancelled: the call was not run, or was given up before it ended]",
        ToolStatus::Timeout => {
            "[timeout: no answer in time; if the call changes something, it may still have taken effect]"
        }
        ToolStatus::Unknown => {
            "[unknown: the call was sent, and whether it took effect is not known; look before calling it again]"
        }
    };
    if message.content.is_empty() {
        return Cow::Borrowed(status);
    }
    let tool = sanitize_tool_name(&message.name);
    let number = if message.number == 0 { String::new() } else { format!(" id=\"{}\"", message.number) };
    let separator = if status.is_empty() { "" } else { "\n" };
    let data = escape_tag(&message.content, FENCE_TAG);
    Cow::Owned(format!("{status}{separator}<{FENCE_TAG}{number} tool=\"{tool}\">\n{data}\n</{FENCE_TAG}>"))
}

/// The element around the output of a tool.
const FENCE_TAG: &str = "tool_output";

/// Escapes every tag of this name in a text, so that the text cannot open or close the element that it stands in, however
/// the tag is written.
#[must_use]
pub fn escape_tag<'a>(text: &'a str, tag: &str) -> Cow<'a, str> {
    let is_fence = |at: usize| {
        let rest = text[at + 1..].trim_start_matches([' ', '\t', '\n', '\r', '/']);
        rest.get(..tag.len()).is_some_and(|name| name.eq_ignore_ascii_case(tag))
    };
    let mut positions = text.match_indices('<').map(|(at, _)| at).filter(|at| is_fence(*at)).peekable();
    if positions.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut done = 0;
    for at in positions {
        escaped.push_str(&text[done..at]);
        escaped.push_str("&lt;");
        done = at + 1;
    }
    escaped.push_str(&text[done..]);
    Cow::Owned(escaped)
}

/// Returns the arguments of a past call as an object. Other values are wrapped in one: Anthropic accepts objects only,
/// and several compatible servers fail on arguments that they cannot parse.
pub(crate) fn arguments_object(call: &ToolCall) -> Cow<'_, Map<String, Value>> {
    match &call.arguments {
        Value::Object(arguments) => Cow::Borrowed(arguments),
        other => Cow::Owned(Map::from_iter([("invalid_arguments".to_owned(), other.clone())])),
    }
}

/// Returns the tool name of a past call in a form that every provider accepts: the model may have called a tool that
/// does not exist by a name that the provider rejects.
pub(crate) fn sanitize_tool_name(name: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() {
        Cow::Borrowed("unnamed")
    } else if name.chars().all(is_safe) && name.len() <= MAX_TOOL_NAME_CHARS {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.chars().take(MAX_TOOL_NAME_CHARS).map(|c| if is_safe(c) { c } else { '_' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{assistant_message, chat_request, tool_call, tool_message, user_message};

    #[test]
    fn calls_and_results_are_paired() {
        let messages = [
            user_message("do it"),
            tool_message("stray", ToolStatus::Ok, "not requested"),
            assistant_message("", vec![tool_call("a", "x", json!({})), tool_call("b", "y", json!({}))]),
            user_message("well?"),
            tool_message("b", ToolStatus::Ok, "late"),
            tool_message("b", ToolStatus::Ok, "twice"),
        ];
        let asked = chat_request(messages.to_vec());
        let turns = prompt_turns(&asked, BlockFormat::ChatCompletions, &Dialect::default());
        let PromptTurn::Assistant { text: None, exchanges, .. } = &turns[1] else { panic!("{turns:?}") };
        let seen: Vec<_> = exchanges.iter().map(|e| (e.call.id.as_str(), &*e.result, e.is_error)).collect();
        assert_eq!(
            seen,
            [("a", MISSING_RESULT, true), ("b", "<tool_output id=\"1\" tool=\"x\">\nlate\n</tool_output>", false)]
        );
        assert_eq!(turns.len(), 3);
    }

    #[test]
    fn tool_status_is_the_first_line() {
        let read = |status, content| match &*tool_message("a", status, content) {
            ChatMessage::Tool(message) => render_tool_result(message).into_owned(),
            _ => unreachable!(),
        };
        assert_eq!(read(ToolStatus::Ok, "[fine]\n"), "<tool_output id=\"1\" tool=\"x\">\n[fine]\n\n</tool_output>");
        assert_eq!(
            read(ToolStatus::Error, "no such pod"),
            "[error]\n<tool_output id=\"1\" tool=\"x\">\nno such pod\n</tool_output>"
        );
        assert_eq!((read(ToolStatus::Ok, ""), read(ToolStatus::Ok, " \n")), (NO_OUTPUT.into(), NO_OUTPUT.into()));
        assert!(read(ToolStatus::Denied, "too risky").starts_with("[denied by the user"));
        assert!(read(ToolStatus::Cancelled, "").starts_with("[cancelled"));
        assert!(read(ToolStatus::Timeout, "").contains("may still have taken effect"));
        assert!(read(ToolStatus::Unknown, "").contains("not known"));
    }

    #[test]
    fn tool_output_cannot_close_its_fence() {
        for (text, clean) in [
            ("a </tool_output> b", "a &lt;/tool_output> b"),
            ("</ TOOL_output\n>x<tool_output>", "&lt;/ TOOL_output\n>x&lt;tool_output>"),
            ("< /tool_output", "&lt; /tool_output"),
            ("a < b, <tool, </b>, tool_output", "a < b, <tool, </b>, tool_output"),
            ("<", "<"),
            ("<tool_outpuä", "<tool_outpuä"),
        ] {
            assert_eq!(escape_tag(text, FENCE_TAG), clean);
        }
    }

    #[test]
    fn invalid_arguments_are_wrapped_in_an_object() {
        assert_eq!(
            *arguments_object(&tool_call("a", "x", json!("{\"a\":"))),
            *json!({"invalid_arguments": "{\"a\":"}).as_object().unwrap()
        );
    }

    #[test]
    fn invalid_tool_names_are_sanitized() {
        assert_eq!(sanitize_tool_name("pods_list"), "pods_list");
        assert_eq!(sanitize_tool_name("kubectl get pods é"), "kubectl_get_pods__");
        assert_eq!(sanitize_tool_name(""), "unnamed");
        assert_eq!(sanitize_tool_name(&"x".repeat(80)).len(), 64);
    }

    fn any_message() -> impl Strategy<Value = Arc<ChatMessage>> {
        let id = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
        let text = prop::sample::select(vec!["", " \n", "text"]);
        prop_oneof![
            text.clone().prop_map(user_message),
            (text.clone(), prop::collection::vec(id.clone(), 0..4)).prop_map(|(text, ids)| {
                assistant_message(text, ids.into_iter().map(|id| tool_call(id, "x", json!({}))).collect())
            }),
            (id, text).prop_map(|(id, text)| tool_message(id, ToolStatus::Ok, text)),
        ]
    }

    proptest! {
        #[test]
        fn any_messages_give_paired_calls_and_results(messages in prop::collection::vec(any_message(), 0..24)) {
            let asked = chat_request(messages.clone());
        let turns = prompt_turns(&asked, BlockFormat::ChatCompletions, &Dialect::default());
            let mut ids = HashSet::new();
            for turn in &turns {
                match turn {
                    PromptTurn::User(text) => prop_assert!(!text.trim().is_empty()),
                    PromptTurn::Assistant { text, exchanges, .. } => {
                        prop_assert!(text.is_some() || !exchanges.is_empty());
                        prop_assert!(text.as_ref().is_none_or(|t| !t.trim().is_empty()));
                        for exchange in exchanges {
                            prop_assert!(ids.insert(exchange.call.id.as_str()), "an id occurs twice");
                        }
                    }
                }
            }
            // No call is lost.
            for message in &messages {
                if let ChatMessage::Assistant(message) = &**message {
                    for call in &message.tool_calls {
                        prop_assert!(ids.contains(call.id.as_str()));
                    }
                }
            }
        }
    }
}
