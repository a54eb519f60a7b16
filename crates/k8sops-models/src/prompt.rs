//! What both providers say alike: the conversation in a form that no provider refuses, and how a tool's outcome reads.
//!
//! [`conversation`] is the last line of defence of a promise: no tool call is ever sent without its result, and no result
//! without its call. A provider answers either with an error, and the session would be stuck for good, since its history
//! cannot be taken back. So the shape that the providers get here cannot say such a thing at all.

use std::{borrow::Cow, collections::HashMap};

use k8sops_core::{ChatMessage, ToolCall, ToolMessage, ToolStatus};
use serde_json::{Map, Value};

use crate::{
    ChatRequest,
    provider_blocks::{BlockFormat, ReplyPart, split_reply_parts},
};

/// The longest tool name that every provider accepts.
const TOOL_NAME_CHARS: usize = 64;
/// Said in place of a result that is not there.
const NO_RESULT: &str = "[unknown: no result was recorded]";

/// A part of the conversation.
#[derive(Debug, PartialEq)]
pub(crate) enum PromptTurn<'a> {
    /// What the user said.
    User(&'a str),
    /// What the model said, and the tools it called, each with its result. Never without either, or something of its own.
    Assistant {
        /// Not blank, if there.
        text: Option<&'a str>,
        /// In the order in which the model asked.
        exchanges: Vec<ToolExchange<'a>>,
        /// Present when the very model that is asked now said it.
        own: Option<SameModelContent<'a>>,
    },
}

/// What a model said itself.
#[derive(Debug, PartialEq)]
pub(crate) struct SameModelContent<'a> {
    /// As its provider gave it, if that is known in the protocol that is spoken now.
    pub(crate) parts: Option<Vec<ReplyPart<'a>>>,
    /// What it thought.
    pub(crate) reasoning: Option<&'a str>,
    /// Whether it was said since the user's newest message.
    pub(crate) in_current_turn: bool,
}

/// A tool call with its result.
#[derive(Debug, PartialEq)]
pub(crate) struct ToolExchange<'a> {
    pub(crate) call: &'a ToolCall,
    /// What the model reads.
    pub(crate) result: Cow<'a, str>,
    /// Whether the result is anything but the tool's answer.
    pub(crate) is_error: bool,
}

/// The conversation of a request as turns for a provider that speaks `api`, mended: a call without a result has one that says so, results stand behind their call in
/// the order of the calls, and what belongs to no call, repeats an id or says nothing is left out.
pub(crate) fn prompt_turns<'a>(request: &'a ChatRequest, format: BlockFormat) -> Vec<PromptTurn<'a>> {
    let messages = &request.messages;
    let newest = messages.iter().rposition(|message| matches!(**message, ChatMessage::User(_))).unwrap_or(0);
    let mut turns: Vec<PromptTurn<'_>> = Vec::with_capacity(messages.len());
    // Where the call of an id stands (turn, exchange), until its result is found.
    let mut open: HashMap<&str, Option<(usize, usize)>> = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        match &**message {
            ChatMessage::User(message) => {
                if !message.content.trim().is_empty() {
                    turns.push(PromptTurn::User(&message.content));
                }
            }
            ChatMessage::Assistant(message) => {
                let mut exchanges = Vec::with_capacity(message.tool_calls.len());
                for call in &message.tool_calls {
                    // Anthropic refuses an id that occurs twice; ours are unique, and this keeps a damaged log usable.
                    if open.contains_key(call.id.as_str()) {
                        continue;
                    }
                    open.insert(call.id.as_str(), Some((turns.len(), exchanges.len())));
                    exchanges.push(ToolExchange { call, result: Cow::Borrowed(NO_RESULT), is_error: true });
                }
                let text = Some(message.content.as_str()).filter(|text| !text.trim().is_empty());
                let same = message.provider.as_ref() == Some(&request.provider)
                    && message.model.as_ref() == Some(&request.model)
                    && exchanges.len() == message.tool_calls.len();
                let own = same.then(|| SameModelContent {
                    parts: split_reply_parts(message, format),
                    reasoning: message.reasoning.as_deref(),
                    in_current_turn: at > newest,
                });
                let opaque = own.as_ref().and_then(|own| own.parts.as_ref()).is_some_and(|parts| !parts.is_empty());
                if text.is_some() || !exchanges.is_empty() || opaque {
                    turns.push(PromptTurn::Assistant { text, exchanges, own });
                }
            }
            ChatMessage::Tool(message) => {
                let place = open.get_mut(message.tool_call_id.as_str()).and_then(Option::take);
                let Some((turn, exchange)) = place else { continue };
                if let PromptTurn::Assistant { exchanges, .. } = &mut turns[turn] {
                    exchanges[exchange].result = render_tool_result(message);
                    exchanges[exchange].is_error = message.status != ToolStatus::Ok;
                }
            }
        }
    }
    turns
}

/// What the model reads of a tool's outcome: a line that says how the call ended, unless the tool answered, and the output
/// in a fence. The line is what keeps a model from taking "not known" for "done" or for "not done"; the fence shows it what
/// is data, and what it says is nobody's word but the output's.
pub(crate) fn render_tool_result(message: &ToolMessage) -> Cow<'_, str> {
    let line = match message.status {
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
        return Cow::Borrowed(line);
    }
    let (tool, gap) = (sanitize_tool_name(&message.name), if line.is_empty() { "" } else { "\n" });
    let data = escape_fences(&message.content);
    Cow::Owned(format!("{line}{gap}<{FENCE_TAG} tool=\"{tool}\">\n{data}\n</{FENCE_TAG}>"))
}

/// The element that outputs of tools stand in.
const FENCE_TAG: &str = "tool_output";

/// A text that neither ends nor begins a fence, however it is spelt.
fn escape_fences(text: &str) -> Cow<'_, str> {
    let fence = |at: usize| {
        let rest = text[at + 1..].trim_start_matches([' ', '\t', '\n', '\r', '/']);
        rest.get(..FENCE_TAG.len()).is_some_and(|name| name.eq_ignore_ascii_case(FENCE_TAG))
    };
    let mut places = text.match_indices('<').map(|(at, _)| at).filter(|at| fence(*at)).peekable();
    if places.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let (mut clean, mut done) = (String::with_capacity(text.len() + 16), 0);
    for at in places {
        clean.push_str(&text[done..at]);
        clean.push_str("&lt;");
        done = at + 1;
    }
    clean.push_str(&text[done..]);
    Cow::Owned(clean)
}

/// The arguments of a past call as an object. Where the model wrote something else it is kept inside one: Anthropic takes
/// objects only, and several compatible servers fail on arguments that they cannot parse.
pub(crate) fn arguments_object(call: &ToolCall) -> Cow<'_, Map<String, Value>> {
    match &call.arguments {
        Value::Object(arguments) => Cow::Borrowed(arguments),
        other => Cow::Owned(Map::from_iter([("invalid_arguments".to_owned(), other.clone())])),
    }
}

/// The name of a past call, made safe: the model may have called a tool that does not exist, by a name that the provider
/// does not take back.
pub(crate) fn sanitize_tool_name(name: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() {
        Cow::Borrowed("unnamed")
    } else if name.chars().all(safe) && name.len() <= TOOL_NAME_CHARS {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.chars().take(TOOL_NAME_CHARS).map(|c| if safe(c) { c } else { '_' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::test_support::{assistant_message, chat_request, tool_call, tool_message, user_message};

    #[test]
    fn calls_and_results_are_paired() {
        let messages = [
            user_message("do it"),
            tool_message("stray", ToolStatus::Ok, "nobody asked"),
            assistant_message("", vec![tool_call("a", "x", json!({})), tool_call("b", "y", json!({}))]),
            user_message("well?"),
            tool_message("b", ToolStatus::Ok, "late"),
            tool_message("b", ToolStatus::Ok, "twice"),
        ];
        let asked = chat_request(messages.to_vec());
        let turns = prompt_turns(&asked, BlockFormat::ChatCompletions);
        let PromptTurn::Assistant { text: None, exchanges, .. } = &turns[1] else { panic!("{turns:?}") };
        let seen: Vec<_> = exchanges.iter().map(|e| (e.call.id.as_str(), &*e.result, e.is_error)).collect();
        assert_eq!(seen, [("a", NO_RESULT, true), ("b", "<tool_output tool=\"x\">\nlate\n</tool_output>", false)]);
        assert_eq!(turns.len(), 3);
    }

    #[test]
    fn tool_status_is_the_first_line() {
        let read = |status, content| match &*tool_message("a", status, content) {
            ChatMessage::Tool(message) => render_tool_result(message).into_owned(),
            _ => unreachable!(),
        };
        assert_eq!(read(ToolStatus::Ok, "[fine]\n"), "<tool_output tool=\"x\">\n[fine]\n\n</tool_output>");
        assert_eq!(
            read(ToolStatus::Error, "no such pod"),
            "[error]\n<tool_output tool=\"x\">\nno such pod\n</tool_output>"
        );
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
            assert_eq!(escape_fences(text), clean);
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
        let turns = prompt_turns(&asked, BlockFormat::ChatCompletions);
            let mut ids = HashSet::new();
            for turn in &turns {
                match turn {
                    PromptTurn::User(text) => prop_assert!(!text.trim().is_empty()),
                    PromptTurn::Assistant { text, exchanges, .. } => {
                        prop_assert!(text.is_some() || !exchanges.is_empty());
                        prop_assert!(text.is_none_or(|t| !t.trim().is_empty()));
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
