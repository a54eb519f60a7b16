//! Shrinks a conversation to what a model accepts: old tool outputs become stubs, then whole turns are dropped.

use std::sync::Arc;

use k8sops_core::{ChatMessage, ToolMessage};

/// Lower bound of the average bytes per token of cluster output.
const BYTES_PER_TOKEN: usize = 3;
/// Above the limit, outputs become stubs until this share of it is reached: low enough that the beginning of the prompt stays
/// the same for many calls, so that providers can cache it.
const TARGET_SHARE: (usize, usize) = (2, 3);
/// Minimum size in bytes of an output that becomes a stub.
const MIN_STUBBED_BYTES: usize = 512;
/// Number of newest messages whose outputs stay: the model has just requested them.
const KEPT_NEWEST: usize = 4;

/// Returns the messages with old tool outputs replaced by stubs that say where they can be read. `limit` is in tokens. It is
/// a fold from the beginning, so that a stub stays a stub in later calls.
pub(crate) fn with_stubs(messages: &[Arc<ChatMessage>], limit: usize) -> Vec<Arc<ChatMessage>> {
    let full = limit.saturating_mul(BYTES_PER_TOKEN);
    let roomy = full / TARGET_SHARE.1 * TARGET_SHARE.0;
    let mut fitted = messages.to_vec();
    let mut size = 0;
    let mut next = 0;
    for at in 0..fitted.len() {
        size += message_bytes(&fitted[at]);
        if size <= full {
            continue;
        }
        while size > roomy && next + KEPT_NEWEST <= at {
            if let Some(stub) = stub(&fitted[next]) {
                size = size - message_bytes(&fitted[next]) + message_bytes(&stub);
                fitted[next] = stub;
            }
            next += 1;
        }
    }
    fitted
}

/// Estimates the bytes of a conversation in a request.
pub(crate) fn conversation_bytes(messages: &[Arc<ChatMessage>]) -> usize {
    messages.iter().map(|message| message_bytes(message)).sum()
}

/// Truncates a conversation that a model rejected as too long to `room` bytes: first tool outputs become stubs, the oldest
/// first, then whole turns are dropped, then the first steps of the current turn. `None` when the user's newest message and
/// the newest step alone are larger.
pub(crate) fn truncate_to_bytes(messages: &[Arc<ChatMessage>], room: usize) -> Option<Vec<Arc<ChatMessage>>> {
    let mut squeezed = messages.to_vec();
    let mut left = conversation_bytes(&squeezed);
    for message in &mut squeezed {
        if left <= room {
            return Some(squeezed);
        }
        if let Some(stub) = stub(message) {
            left = left - message_bytes(message) + message_bytes(&stub);
            *message = stub;
        }
    }
    let newest = squeezed.iter().rposition(|m| matches!(**m, ChatMessage::User(_))).unwrap_or(0);
    let is_reply = |m: &Arc<ChatMessage>| matches!(**m, ChatMessage::Assistant(_));
    let last_step = squeezed.iter().rposition(is_reply).filter(|at| *at > newest).unwrap_or(squeezed.len());
    // Turns start with a user message and steps with a reply, so that a call keeps its results.
    let begins = |at: usize, message: &ChatMessage| match message {
        ChatMessage::User(_) => at <= newest,
        ChatMessage::Assistant(_) => at > newest,
        ChatMessage::Tool(_) => false,
    };
    let (mut old, mut early) = (0, newest + 1);
    for (at, message) in squeezed.iter().enumerate() {
        if begins(at, message) && left <= room {
            break;
        }
        match at {
            _ if at < newest => old = at + 1,
            _ if at > newest && at < last_step => early = at + 1,
            _ => continue,
        }
        left -= message_bytes(message);
    }
    if left > room {
        return None;
    }
    squeezed.drain(newest + 1..early.max(newest + 1).min(squeezed.len()));
    squeezed.drain(..old);
    Some(squeezed)
}

fn message_bytes(message: &ChatMessage) -> usize {
    match message {
        ChatMessage::User(m) => m.content.len(),
        ChatMessage::Assistant(m) => {
            m.content.len()
                + m.tool_calls.iter().map(|call| call.arguments.to_string().len() + 64).sum::<usize>()
                + m.provider_data
                    .as_ref()
                    .map_or(0, |data| data.estimated_bytes() + m.reasoning.as_ref().map_or(0, String::len))
        }
        ChatMessage::Tool(m) => m.content.len(),
    }
}

fn stub(message: &ChatMessage) -> Option<Arc<ChatMessage>> {
    let ChatMessage::Tool(tool) = message else { return None };
    if tool.content.len() <= MIN_STUBBED_BYTES {
        return None;
    }
    let content = format!(
        "[left out to make room: {} bytes. read_output(call={:?}) shows them again, search_output finds lines in them.]",
        tool.content.len(),
        tool.tool_call_id.as_str()
    );
    Some(Arc::new(ChatMessage::Tool(ToolMessage { content, ..tool.clone() })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8sops_core::{
        AssistantMessage, MessageId, StopReason, Timestamp, TokenUsage, ToolCall, ToolStatus, UserMessage,
    };

    fn conversation(turns: usize) -> Vec<Arc<ChatMessage>> {
        let turn = |n: usize| {
            let user = UserMessage { seq: 1, ..UserMessage::unlogged(format!("{n}?")) };
            let tool = ToolMessage {
                tool_call_id: format!("call_{n}").parse().unwrap(),
                seq: 2,
                ts: Timestamp::now(),
                number: n as u64 + 1,
                name: "logs".into(),
                status: ToolStatus::Ok,
                content: format!("{n}").repeat(3_000),
            };
            [Arc::new(ChatMessage::User(user)), Arc::new(ChatMessage::Tool(tool))]
        };
        (0..turns).flat_map(turn).collect()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let messages = conversation(5);
        assert_eq!(with_stubs(&messages, 100_000), messages);
    }

    #[test]
    fn the_oldest_results_make_room_and_the_newest_stay() {
        let messages = conversation(100);
        let fitted = with_stubs(&messages, 22_500);
        assert!(fitted.iter().map(|m| message_bytes(m)).sum::<usize>() <= 90_000 / 4 * 3);
        assert_eq!(fitted.len(), messages.len());
        assert_eq!(fitted[199], messages[199]);
        let ChatMessage::Tool(first) = fitted[1].as_ref() else { panic!("a result") };
        assert!(first.content.contains("read_output(call=\"call_0\")"), "{}", first.content);
    }

    #[test]
    fn the_beginning_stays_the_same_from_call_to_call_for_the_most_part() {
        let messages = conversation(200);
        let (mut changed, mut before) = (0, Vec::new());
        for end in 1..=messages.len() {
            let now = with_stubs(&messages[..end], 37_500);
            changed += usize::from(now[..before.len()] != before[..]);
            before = now;
        }
        assert!(changed < 40, "changed {changed} times in {} calls", messages.len());
    }

    fn reply(n: usize) -> Arc<ChatMessage> {
        let call = ToolCall {
            id: format!("step_{n}").parse().unwrap(),
            name: "look".into(),
            arguments: serde_json::json!({"pad": "x".repeat(200)}),
        };
        Arc::new(ChatMessage::Assistant(AssistantMessage {
            message_id: MessageId::new(),
            seq: 1,
            ts: Timestamp::now(),
            run_id: None,
            content: String::new(),
            reasoning: None,
            tool_calls: vec![call],
            citations: Vec::new(),
            stop_reason: StopReason::ToolUse,
            provider: None,
            model: None,
            provider_data: None,
            usage: TokenUsage::default(),
        }))
    }

    fn result(n: usize) -> Arc<ChatMessage> {
        Arc::new(ChatMessage::Tool(ToolMessage {
            tool_call_id: format!("step_{n}").parse().unwrap(),
            seq: 2,
            ts: Timestamp::now(),
            number: n as u64 + 1,
            name: "look".into(),
            status: ToolStatus::Ok,
            content: "y".repeat(400),
        }))
    }

    #[test]
    fn a_conversation_that_is_too_long_for_a_model_is_cut_where_it_hurts_least() {
        // Old turns, and a turn of many steps.
        let mut messages = conversation(6);
        messages.truncate(11);
        messages.extend((0..8).flat_map(|n| [reply(n), result(n)]));
        let all = conversation_bytes(&messages);
        let newest = &messages[10];
        let mut before = all;
        for room in (0..=all).rev().step_by(97) {
            let Some(cut) = truncate_to_bytes(&messages, room) else {
                assert!(room < 1_200, "{room} is room for the newest message and step");
                continue;
            };
            assert!(conversation_bytes(&cut) <= room, "{} in {room}", conversation_bytes(&cut));
            assert!(conversation_bytes(&cut) <= before);
            before = conversation_bytes(&cut);
            assert!(cut.contains(newest), "the question stays");
            assert_eq!(cut[cut.len() - 1], messages[messages.len() - 1], "and so does what came last");
            assert!(matches!(*cut[0], ChatMessage::User(_)), "it begins with the user");
            for message in &cut {
                if let ChatMessage::Tool(result) = &**message {
                    let called = |m: &Arc<ChatMessage>| matches!(&**m, ChatMessage::Assistant(m) if m.tool_calls.iter().any(|c| c.id == result.tool_call_id));
                    assert_eq!(cut.iter().any(called), messages.iter().any(called), "a result has its call");
                }
            }
        }
        assert!(before < 1_300, "{before}");
        assert_eq!(truncate_to_bytes(&messages, 10), None);
    }
}
