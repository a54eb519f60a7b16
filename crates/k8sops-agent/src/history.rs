//! Shrinks a conversation to what a model accepts: old tool outputs and attachments become stubs, then whole turns are dropped.

use std::{io, sync::Arc};

use k8sops_core::{ChatMessage, MessageAttachment, ToolCallId, ToolMessage, UserMessage};
use serde_json::Value;

/// Lower bound of the average bytes per token of cluster output.
const BYTES_PER_TOKEN: usize = 3;
/// Above the limit, outputs become stubs until this share of it is reached: low enough that the beginning of the prompt stays
/// the same for many calls, so that providers can cache it.
const TARGET_SHARE: (usize, usize) = (2, 3);
/// Minimum size in bytes of an output that becomes a stub.
const MIN_STUBBED_BYTES: usize = 512;
/// Number of newest messages whose outputs stay: the model has just requested them.
const KEPT_NEWEST: usize = 4;

/// Returns the messages with old tool outputs replaced by stubs that say where they can be read, and that `stub` returns.
/// `limit` is in tokens. It is a fold from the beginning, so that a stub stays a stub in later calls.
pub(crate) fn with_stubs(
    messages: &[Arc<ChatMessage>],
    limit: usize,
    mut stub: impl FnMut(&Arc<ChatMessage>) -> Option<Arc<ChatMessage>>,
) -> Vec<Arc<ChatMessage>> {
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

/// Replaces outputs and attachments by stubs, the oldest first, until a conversation has `room` bytes; returns how many it has.
pub(crate) fn stub_to_bytes(messages: &mut [Arc<ChatMessage>], room: usize) -> usize {
    let mut left = conversation_bytes(messages);
    for message in messages {
        if left <= room {
            break;
        }
        if let Some(stub) = stub_message(message) {
            left = left - message_bytes(message) + message_bytes(&stub);
            *message = stub;
        }
    }
    left
}

/// Truncates a conversation that a model rejected as too long to `room` bytes: first tool outputs become stubs, the oldest
/// first, then whole turns are dropped, then the first steps of the current turn. `None` when the user's newest message and
/// the newest step alone are larger.
pub(crate) fn truncate_to_bytes(messages: &[Arc<ChatMessage>], room: usize) -> Option<Vec<Arc<ChatMessage>>> {
    let mut squeezed = messages.to_vec();
    let mut left = stub_to_bytes(&mut squeezed, room);
    if left <= room {
        return Some(squeezed);
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
        ChatMessage::User(m) => {
            let attachments: usize =
                m.attachments.iter().map(|attachment| attachment.text.len() + attachment.name.len()).sum();
            let recalled: usize = m.recalled.iter().map(|note| note.content.len()).sum();
            m.content.len() + attachments + recalled
        }
        ChatMessage::Assistant(m) => {
            m.content.len()
                + m.tool_calls.iter().map(|call| json_bytes(&call.arguments) + 64).sum::<usize>()
                + m.provider_data
                    .as_ref()
                    .map_or(0, |data| data.estimated_bytes() + m.reasoning.as_ref().map_or(0, String::len))
        }
        ChatMessage::Tool(m) => m.content.len(),
    }
}

/// Returns the length of a value as JSON.
fn json_bytes(value: &Value) -> usize {
    struct Length(usize);
    impl io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    // A value is always JSON, and a count never fails.
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}

/// Returns a message with its output or its attachments replaced by stubs; `None` if that saves nothing.
pub(crate) fn stub_message(message: &ChatMessage) -> Option<Arc<ChatMessage>> {
    match message {
        ChatMessage::Tool(tool) => {
            let content = stub_text(&tool.content, &tool.tool_call_id)?;
            Some(Arc::new(ChatMessage::Tool(ToolMessage { content, ..tool.clone() })))
        }
        ChatMessage::User(user) => {
            let stubs: Vec<_> = user
                .attachments
                .iter()
                .map(|attachment| stub_text(&attachment.text, &attachment.attachment_id))
                .collect();
            if stubs.iter().all(Option::is_none) {
                return None;
            }
            let attachments = user.attachments.iter().zip(stubs).map(|(attachment, stub)| match stub {
                Some(text) => MessageAttachment { text, ..attachment.clone() },
                None => attachment.clone(),
            });
            let attachments = attachments.collect();
            Some(Arc::new(ChatMessage::User(UserMessage { attachments, ..user.clone() })))
        }
        ChatMessage::Assistant(_) => None,
    }
}

fn stub_text(text: &str, call: &ToolCallId) -> Option<String> {
    (text.len() > MIN_STUBBED_BYTES).then(|| {
        format!(
            "[left out to make room: {} bytes. read_output(call={:?}) shows them again, search_output finds lines in them.]",
            text.len(),
            call.as_str()
        )
    })
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
        assert_eq!(with_stubs(&messages, 100_000, |message| stub_message(message)), messages);
    }

    #[test]
    fn the_oldest_results_make_room_and_the_newest_stay() {
        let messages = conversation(100);
        let fitted = with_stubs(&messages, 22_500, |message| stub_message(message));
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
            let now = with_stubs(&messages[..end], 37_500, |message| stub_message(message));
            changed += usize::from(now[..before.len()] != before[..]);
            before = now;
        }
        assert!(changed < 40, "changed {changed} times in {} calls", messages.len());
    }

    #[test]
    fn old_attachment_makes_room_and_the_question_stays() {
        let attachment = MessageAttachment {
            attachment_id: "file_1".parse().unwrap(),
            name: "app.log".into(),
            media_type: "text/plain".into(),
            text: "x".repeat(5_000),
            bytes: 5_000,
            truncated: false,
        };
        let asked = UserMessage { attachments: vec![attachment], ..UserMessage::unlogged("what is wrong here?") };
        let messages = [Arc::new(ChatMessage::User(asked))];
        let mut cut = messages.to_vec();
        stub_to_bytes(&mut cut, 1_000);
        let ChatMessage::User(asked) = &*cut[0] else { panic!("{cut:?}") };
        assert_eq!(asked.content, "what is wrong here?");
        assert!(asked.attachments[0].text.contains("5000 bytes. read_output(call=\"file_1\")"), "{asked:?}");
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
            feedback: None,
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
