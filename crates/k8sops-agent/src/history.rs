//! The conversation as it fits the model: old outputs of tools are left out when there is no room for them.

use std::sync::Arc;

use k8sops_core::{ChatMessage, ToolMessage};

/// Bytes that are surely no less than a token, on average over what clusters print.
const BYTES_PER_TOKEN: usize = 3;
/// Above the limit, outputs are left out until this share of it is reached: far enough below that the beginning of the prompt
/// stays the same for many calls, and providers can cache it.
const ROOMY: (usize, usize) = (2, 3);
/// A result that is no longer than this is not worth leaving out.
const SMALL: usize = 512;
/// Results of the newest messages stay, whatever their size: the model has asked for them just now.
const NEWEST: usize = 4;

/// The messages, with old results of tools replaced by a word of where they can be read. A fold over the conversation from
/// its beginning, so that what was left out for one call is left out for the next one too. `limit` is in tokens.
pub(super) fn fitted(messages: &[Arc<ChatMessage>], limit: usize) -> Vec<Arc<ChatMessage>> {
    let full = limit.saturating_mul(BYTES_PER_TOKEN);
    let roomy = full / ROOMY.1 * ROOMY.0;
    let mut fitted = messages.to_vec();
    let mut size = 0;
    let mut next = 0;
    for at in 0..fitted.len() {
        size += weight(&fitted[at]);
        if size <= full {
            continue;
        }
        while size > roomy && next + NEWEST <= at {
            if let Some(stub) = stub(&fitted[next]) {
                size = size - weight(&fitted[next]) + weight(&stub);
                fitted[next] = stub;
            }
            next += 1;
        }
    }
    fitted
}

/// About how many bytes a conversation takes in a request.
pub(super) fn size(messages: &[Arc<ChatMessage>]) -> usize {
    messages.iter().map(|message| weight(message)).sum()
}

/// The messages cut down to `room` bytes, for a model that has said that they are too many: first the outputs of tools are
/// left out, the oldest first, then whole turns, then the first steps of this one. `None`: the user's newest message and the
/// newest step alone are more than that.
pub(super) fn squeezed(messages: &[Arc<ChatMessage>], room: usize) -> Option<Vec<Arc<ChatMessage>>> {
    let mut squeezed = messages.to_vec();
    let mut left = size(&squeezed);
    for message in &mut squeezed {
        if left <= room {
            return Some(squeezed);
        }
        if let Some(stub) = stub(message) {
            left = left - weight(message) + weight(&stub);
            *message = stub;
        }
    }
    let newest = squeezed.iter().rposition(|m| matches!(**m, ChatMessage::User(_))).unwrap_or(0);
    let is_reply = |m: &Arc<ChatMessage>| matches!(**m, ChatMessage::Assistant(_));
    let last_step = squeezed.iter().rposition(is_reply).filter(|at| *at > newest).unwrap_or(squeezed.len());
    // Turns begin with the user, and steps with a reply: a call is never parted from its results.
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
        left -= weight(message);
    }
    if left > room {
        return None;
    }
    squeezed.drain(newest + 1..early.max(newest + 1).min(squeezed.len()));
    squeezed.drain(..old);
    Some(squeezed)
}

fn weight(message: &ChatMessage) -> usize {
    match message {
        ChatMessage::User(m) => m.content.len(),
        ChatMessage::Assistant(m) => {
            m.content.len()
                + m.tool_calls.iter().map(|call| call.arguments.to_string().len() + 64).sum::<usize>()
                + m.provider_data.as_ref().map_or(0, |data| data.weight() + m.reasoning.as_ref().map_or(0, String::len))
        }
        ChatMessage::Tool(m) => m.content.len(),
    }
}

fn stub(message: &ChatMessage) -> Option<Arc<ChatMessage>> {
    let ChatMessage::Tool(tool) = message else { return None };
    if tool.content.len() <= SMALL {
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
        assert_eq!(fitted(&messages, 100_000), messages);
    }

    #[test]
    fn the_oldest_results_make_room_and_the_newest_stay() {
        let messages = conversation(100);
        let fitted = fitted(&messages, 22_500);
        assert!(fitted.iter().map(|m| weight(m)).sum::<usize>() <= 90_000 / 4 * 3);
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
            let now = fitted(&messages[..end], 37_500);
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
        let all = size(&messages);
        let newest = &messages[10];
        let mut before = all;
        for room in (0..=all).rev().step_by(97) {
            let Some(cut) = squeezed(&messages, room) else {
                assert!(room < 1_200, "{room} is room for the newest message and step");
                continue;
            };
            assert!(size(&cut) <= room, "{} in {room}", size(&cut));
            assert!(size(&cut) <= before);
            before = size(&cut);
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
        assert_eq!(squeezed(&messages, 10), None);
    }
}
