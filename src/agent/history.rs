//! The conversation as it fits the model: old outputs of tools are left out when there is no room for them.

use std::sync::Arc;

use crate::session::{Message, ToolMessage};

/// Bytes that are surely no less than a token, on average over what clusters print.
const BYTES_PER_TOKEN: usize = 3;
/// Shares of the window: above the first, outputs are left out until the second is reached. Far enough apart that the
/// beginning of the prompt stays the same for many calls, and providers can cache it.
const FULL: (usize, usize) = (3, 4);
const ROOMY: (usize, usize) = (1, 2);
/// A result that is no longer than this is not worth leaving out.
const SMALL: usize = 512;
/// Results of the newest messages stay, whatever their size: the model has asked for them just now.
const NEWEST: usize = 4;

/// The messages, with old results of tools replaced by a word of where they can be read. A fold over the conversation from
/// its beginning, so that what was left out for one call is left out for the next one too.
pub(super) fn fitted(messages: &[Arc<Message>], context_window: Option<u32>) -> Vec<Arc<Message>> {
    let Some(window) = context_window.and_then(|tokens| usize::try_from(tokens).ok()) else { return messages.to_vec() };
    let bytes = window.saturating_mul(BYTES_PER_TOKEN);
    let (full, roomy) = (bytes / FULL.1 * FULL.0, bytes / ROOMY.1 * ROOMY.0);
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

fn weight(message: &Message) -> usize {
    match message {
        Message::User(m) => m.content.len(),
        Message::Assistant(m) => {
            m.content.len() + m.tool_calls.iter().map(|call| call.arguments.to_string().len() + 64).sum::<usize>()
        }
        Message::Tool(m) => m.content.len(),
    }
}

fn stub(message: &Message) -> Option<Arc<Message>> {
    let Message::Tool(tool) = message else { return None };
    if tool.content.len() <= SMALL {
        return None;
    }
    let content = format!(
        "[left out to make room: {} bytes. read_output(call={:?}) shows them again, search_output finds lines in them.]",
        tool.content.len(),
        tool.tool_call_id.as_str()
    );
    Some(Arc::new(Message::Tool(ToolMessage { content, ..tool.clone() })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{MessageId, Timestamp, ToolStatus, UserMessage};

    fn conversation(turns: usize) -> Vec<Arc<Message>> {
        let turn = |n: usize| {
            let user =
                UserMessage { message_id: MessageId::new(), seq: 1, ts: Timestamp::now(), content: format!("{n}?") };
            let tool = ToolMessage {
                tool_call_id: format!("call_{n}").parse().unwrap(),
                seq: 2,
                ts: Timestamp::now(),
                name: "logs".into(),
                status: ToolStatus::Ok,
                content: format!("{n}").repeat(3_000),
            };
            [Arc::new(Message::User(user)), Arc::new(Message::Tool(tool))]
        };
        (0..turns).flat_map(turn).collect()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let messages = conversation(5);
        assert_eq!(fitted(&messages, Some(100_000)), messages);
        assert_eq!(fitted(&messages, None), messages);
    }

    #[test]
    fn the_oldest_results_make_room_and_the_newest_stay() {
        let messages = conversation(100);
        let fitted = fitted(&messages, Some(30_000));
        assert!(fitted.iter().map(|m| weight(m)).sum::<usize>() <= 90_000 / 4 * 3);
        assert_eq!(fitted.len(), messages.len());
        assert_eq!(fitted[199], messages[199]);
        let Message::Tool(first) = fitted[1].as_ref() else { panic!("a result") };
        assert!(first.content.contains("read_output(call=\"call_0\")"), "{}", first.content);
    }

    #[test]
    fn the_beginning_stays_the_same_from_call_to_call_for_the_most_part() {
        let messages = conversation(200);
        let (mut changed, mut before) = (0, Vec::new());
        for end in 1..=messages.len() {
            let now = fitted(&messages[..end], Some(50_000));
            changed += usize::from(now[..before.len()] != before[..]);
            before = now;
        }
        assert!(changed < 40, "changed {changed} times in {} calls", messages.len());
    }
}
