//! The conversation as the client tells it.

use super::completion_request::RequestMessage;

/// Sent for a client that asks to continue the last reply: it sends no new message.
const CONTINUE: &str = "Continue.";
/// How a message begins that quotes the messages before it.
pub(super) const QUOTE_HEADING: &str = "Earlier messages of this conversation, which is not in your history:";
/// What separates the quoted messages from the new one.
const QUOTE_END: &str = "\n\nThe new message:\n";

/// A conversation: the turns before the newest message, and that message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::api::doors) struct ChatHistory {
    pub(in crate::api::doors) turns: Vec<ChatTurn>,
    /// The newest message of the user.
    pub(in crate::api::doors) message: String,
    /// How many parts of it are no text.
    pub(in crate::api::doors) unread_parts: usize,
    /// All that the system messages say.
    pub(in crate::api::doors) instructions: String,
}

/// A message of the user and the reply to it, as the client has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::api::doors) struct ChatTurn {
    pub(in crate::api::doors) user: String,
    pub(in crate::api::doors) reply: Option<String>,
}

impl ChatHistory {
    /// Reads the messages of a request. Returns `None` if the user said nothing.
    pub(in crate::api::doors) fn from_messages(messages: &[RequestMessage]) -> Option<Self> {
        let mut history = Self::default();
        let mut unread_parts = 0;
        for message in messages {
            let read = message.text();
            match message.role.as_str() {
                "user" => {
                    unread_parts = read.unread_parts;
                    history.turns.push(ChatTurn { user: read.text, reply: None });
                }
                "assistant" => {
                    let Some(turn) = history.turns.last_mut() else { continue };
                    let reply = turn.reply.get_or_insert_default();
                    if !reply.is_empty() {
                        reply.push('\n');
                    }
                    reply.push_str(&read.text);
                }
                "system" | "developer" => {
                    history.instructions.push_str(&read.text);
                    history.instructions.push('\n');
                }
                _ => {}
            }
        }
        if history.turns.last()?.reply.is_some() {
            CONTINUE.clone_into(&mut history.message);
        } else {
            history.message = history.turns.pop()?.user;
            history.unread_parts = unread_parts;
        }
        (!history.message.trim().is_empty()).then_some(history)
    }

    /// Returns how long the texts are together.
    pub(super) fn text_bytes(&self) -> usize {
        let turns = self.turns.iter().map(|turn| turn.user.len() + turn.reply.as_ref().map_or(0, String::len));
        turns.sum::<usize>() + self.message.len()
    }

    /// Returns the texts of all turns before the newest message.
    pub(super) fn turn_texts(&self) -> String {
        self.turns.iter().flat_map(|turn| [Some(turn.user.as_str()), turn.reply.as_deref()]).flatten().collect()
    }

    /// Returns the message for a session that does not have the turns before it: it quotes what the user said, as much as fits
    /// into `max_bytes`.
    ///
    /// Replies are not quoted. They may hold what tools returned, which must not come back as the words of the user.
    pub(in crate::api::doors) fn message_with_quotes(&self, max_bytes: usize) -> String {
        let mut left = max_bytes.saturating_sub(QUOTE_HEADING.len() + QUOTE_END.len() + self.message.len());
        let mut quotes = Vec::new();
        for turn in self.turns.iter().rev() {
            let quote = format!("\n- {}", turn.user.trim().replace('\n', "\n  "));
            left = match left.checked_sub(quote.len()) {
                Some(left) => left,
                None => break,
            };
            quotes.push(quote);
        }
        if quotes.is_empty() {
            return self.message.clone();
        }
        quotes.reverse();
        format!("{QUOTE_HEADING}{}{QUOTE_END}{}", quotes.concat(), self.message)
    }
}

/// Returns the new message of a text that quotes others; the text itself if it quotes none.
pub(in crate::api::doors) fn unquoted_message(text: &str) -> &str {
    let quoted = text.strip_prefix(QUOTE_HEADING).and_then(|rest| rest.split_once(QUOTE_END));
    quoted.map_or(text, |(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(messages: &str) -> Option<ChatHistory> {
        ChatHistory::from_messages(&serde_json::from_str::<Vec<RequestMessage>>(messages).unwrap())
    }

    fn turn(user: &str, reply: Option<&str>) -> ChatTurn {
        ChatTurn { user: user.into(), reply: reply.map(str::to_owned) }
    }

    #[test]
    fn last_message_of_the_user_is_the_new_one() {
        let found = history(
            r#"[{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": null, "tool_calls": []}, {"role": "tool", "content": "x"},
                {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "user", "content": "d"}]"#,
        )
        .unwrap();
        assert_eq!(found.turns, [turn("a", Some("b")), turn("c", None)]);
        assert_eq!((&*found.message, &*found.instructions), ("d", "be brief\n"));
        let found = history(r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "half"}]"#).unwrap();
        assert_eq!((&found.turns[..], &*found.message), (&[turn("a", Some("half"))][..], "Continue."));
        for nothing in ["[]", r#"[{"role": "system", "content": "x"}]"#, r#"[{"role": "user", "content": " "}]"#] {
            assert_eq!(history(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn quotes_hold_what_the_user_said_and_fit() {
        let found = history(
            r#"[{"role": "user", "content": "first\nline"}, {"role": "assistant", "content": "secret reply"},
                {"role": "user", "content": "second"}, {"role": "assistant", "content": "x"},
                {"role": "user", "content": "new"}]"#,
        )
        .unwrap();
        let text = found.message_with_quotes(10_000);
        assert_eq!(text, format!("{QUOTE_HEADING}\n- first\n  line\n- second{QUOTE_END}new"));
        assert_eq!(unquoted_message(&text), "new");
        let fits = QUOTE_HEADING.len() + QUOTE_END.len() + "new".len() + "\n- second".len();
        assert_eq!(found.message_with_quotes(fits), format!("{QUOTE_HEADING}\n- second{QUOTE_END}new"));
        assert_eq!(found.message_with_quotes(fits - 1), "new");
        assert_eq!(unquoted_message("plain"), "plain");
    }
}
