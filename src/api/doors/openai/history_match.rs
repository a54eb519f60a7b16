//! Finds the session of a client that names no thread, by comparing what it tells with what the log has.
//!
//! Chats that begin alike are different sessions, and so is a chat whose history was edited or whose reply was asked for again:
//! what happened in a session cannot be taken back, so the session of another history is another one.

use std::sync::Arc;

use k8sops_core::{
    ChatMessage, SessionId, SessionSummary, Timestamp, UserId, derive_title, offload_work, run_long_work,
};

use super::chat_history::{ChatHistory, ChatTurn, QUOTE_HEADING, unquoted_message};
use crate::{
    api::{
        doors::{spoken_answer::SpokenAnswer, turn_opening::MessagePlace},
        problem::ProblemDetails,
        state::ApiState,
    },
    runtime::SessionsError,
};

/// How many sessions of the user are considered, the most recently active ones.
const LISTED_SESSIONS: usize = 200;
/// How many of them are read, those whose title or newest message fits.
const READ_SESSIONS: usize = 20;
/// How many messages of a session are read. Longer conversations are not found; such clients should name their threads.
const READ_MESSAGES: usize = 1000;
/// How many characters of a reply are compared.
const COMPARED_CHARS: usize = 300;
/// How long after a message its client may send it again.
pub(in crate::api::doors) const RESEND_MINUTES: i64 = 30;
/// How the answer to a message begins that was not sent because the session waits for its user.
pub(in crate::api::doors) const NOT_SENT: &str = "Your message was not sent";

/// A message that its client sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api::doors) struct SentMessage {
    pub(in crate::api::doors) session: SessionId,
    pub(in crate::api::doors) place: MessagePlace,
}

/// A session whose log has what the client tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api::doors) struct FoundSession {
    pub(in crate::api::doors) session: SessionId,
    /// The seq of the last message of the user in the log.
    pub(in crate::api::doors) last_message_seq: u64,
}

/// Finds the session whose conversation is that of the turns before the newest message.
pub(in crate::api::doors) async fn find_session(
    state: &ApiState,
    user: &UserId,
    history: &Arc<ChatHistory>,
) -> Result<Option<FoundSession>, ProblemDetails> {
    if history.turns.is_empty() {
        return Ok(None);
    }
    let search = ConversationSearch {
        oldest: None,
        told: ChatHistory::turn_texts,
        matches: |history, logged| has_same_turns(&history.turns, logged),
    };
    find_conversation(state, user, history, search).await
}

/// Finds the session that has the newest message already, which the client sends again because it got no response.
pub(in crate::api::doors) async fn find_sent_message(
    state: &ApiState,
    user: &UserId,
    history: &Arc<ChatHistory>,
) -> Result<Option<SentMessage>, ProblemDetails> {
    // The inboxes before the logs: a message that its owner reads in between is in the log.
    let waiting = find_waiting_message(state, user, history).await?;
    let search = ConversationSearch {
        oldest: Some(Timestamp::from_millis(Timestamp::now().as_millis() - RESEND_MINUTES * 60_000)),
        told: |history| history.turn_texts() + &history.message,
        matches: |history, logged| {
            logged.split_last().is_some_and(|(newest, before)| is_newest(history, before, newest.user))
        },
    };
    let logged = find_conversation(state, user, history, search).await?;
    let logged = logged.map(|found| SentMessage {
        session: found.session,
        place: MessagePlace::Logged { seq: found.last_message_seq },
    });
    Ok(waiting.or(logged))
}

/// Finds the session whose newest message no owner has read and is the one that the client sends again.
async fn find_waiting_message(
    state: &ApiState,
    user: &UserId,
    history: &Arc<ChatHistory>,
) -> Result<Option<SentMessage>, ProblemDetails> {
    let listed = state.sessions.list_sessions(user, None, LISTED_SESSIONS).await?;
    for summary in listed.iter().filter(|summary| summary.waiting).take(READ_SESSIONS) {
        let session = summary.session_id;
        let newest = match state.sessions.list_waiting_messages(user, session).await {
            Ok(messages) => messages.into_iter().next_back(),
            Err(SessionsError::NotFound(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(newest) = newest else { continue };
        let messages = match state.sessions.list_messages(user, session, 0, READ_MESSAGES).await {
            Ok(messages) => messages,
            Err(SessionsError::NotFound(_) | SessionsError::Store(k8sops_core::StoreError::Corrupt(_))) => continue,
            Err(error) => return Err(error.into()),
        };
        let (history, run_id) = (history.clone(), newest.run_id);
        let comparing = move || is_newest(&history, &logged_turns(&messages), &newest.content);
        if offload_work(comparing).await {
            return Ok(Some(SentMessage { session, place: MessagePlace::Waiting(run_id) }));
        }
    }
    Ok(None)
}

/// How the session of a conversation is found.
#[derive(Clone, Copy)]
struct ConversationSearch {
    /// Only sessions with messages since then.
    oldest: Option<Timestamp>,
    /// What the client tells of the conversation.
    told: fn(&ChatHistory) -> String,
    matches: fn(&ChatHistory, &[LoggedTurn<'_>]) -> bool,
}

impl ConversationSearch {
    /// Returns those of the sessions that may have the conversation.
    fn likely_sessions(self, history: &ChatHistory, listed: Vec<SessionSummary>) -> Vec<SessionSummary> {
        let told = letters(&(self.told)(history));
        let title = derive_title(history.turns.first().map_or(&history.message, |turn| &turn.user));
        let is_likely = |summary: &SessionSummary| {
            let preview = letters(&summary.preview);
            summary.message_count > 0
                && self.oldest.is_none_or(|oldest| summary.updated_at >= oldest)
                && (summary.title == title
                    || summary.title.starts_with(&QUOTE_HEADING[..16])
                    || (!preview.is_empty() && told.contains(&preview)))
        };
        listed.into_iter().filter(is_likely).take(READ_SESSIONS).collect()
    }

    /// Returns the seq of the last message of the user, if the session has the conversation.
    fn find_last_message(self, history: &ChatHistory, messages: &[Arc<ChatMessage>]) -> Option<u64> {
        let logged = logged_turns(messages);
        let last = logged.last()?;
        let is_it = self.oldest.is_none_or(|oldest| last.ts >= oldest) && (self.matches)(history, &logged);
        is_it.then_some(last.seq)
    }
}

/// Compares on other threads: a client may tell megabytes.
async fn find_conversation(
    state: &ApiState,
    user: &UserId,
    history: &Arc<ChatHistory>,
    search: ConversationSearch,
) -> Result<Option<FoundSession>, ProblemDetails> {
    let listed = state.sessions.list_sessions(user, None, LISTED_SESSIONS).await?;
    let told = history.clone();
    let likely = run_long_work(history.text_bytes(), move || search.likely_sessions(&told, listed)).await;
    for summary in likely {
        let messages = match state.sessions.list_messages(user, summary.session_id, 0, READ_MESSAGES).await {
            Ok(messages) => messages,
            // Deleted meanwhile, or damaged: it hides no other.
            Err(SessionsError::NotFound(_) | SessionsError::Store(k8sops_core::StoreError::Corrupt(_))) => continue,
            Err(error) => return Err(error.into()),
        };
        let told = history.clone();
        if let Some(last_message_seq) = offload_work(move || search.find_last_message(&told, &messages)).await {
            return Ok(Some(FoundSession { session: summary.session_id, last_message_seq }));
        }
    }
    Ok(None)
}

/// A message of the user in the log, and the first text of the replies to it.
#[derive(Debug)]
struct LoggedTurn<'a> {
    seq: u64,
    ts: Timestamp,
    user: &'a str,
    reply: &'a str,
}

fn logged_turns(messages: &[Arc<ChatMessage>]) -> Vec<LoggedTurn<'_>> {
    let mut turns: Vec<LoggedTurn<'_>> = Vec::new();
    for message in messages {
        match message.as_ref() {
            ChatMessage::User(m) => turns.push(LoggedTurn { seq: m.seq, ts: m.ts, user: &m.content, reply: "" }),
            ChatMessage::Assistant(m) => {
                if let Some(turn) = turns.last_mut().filter(|turn| turn.reply.trim().is_empty()) {
                    turn.reply = &m.content;
                }
            }
            ChatMessage::Tool(_) => {}
        }
    }
    turns
}

/// Whether a message that comes after the turns of a log is the newest one of the client.
fn is_newest(history: &ChatHistory, before: &[LoggedTurn<'_>], newest: &str) -> bool {
    let is_quoting = before.is_empty() && newest.starts_with(QUOTE_HEADING);
    letters(unquoted_message(newest)) == letters(&history.message)
        && (is_quoting || has_same_turns(&history.turns, before))
}

/// Whether the log has what the client tells and nothing else.
fn has_same_turns(told: &[ChatTurn], logged: &[LoggedTurn<'_>]) -> bool {
    let mut left = logged.iter().peekable();
    let mut is_quoted = logged.first().is_some_and(|first| first.user.starts_with(QUOTE_HEADING));
    for turn in told {
        let matching = left.next_if(|logged| letters(unquoted_message(logged.user)) == letters(&turn.user));
        match matching {
            Some(logged) if may_be_reply(turn.reply.as_deref().unwrap_or_default(), logged.reply) => is_quoted = false,
            None if is_quoted || is_unlogged(turn) => {}
            _ => return false,
        }
    }
    left.peek().is_none()
}

/// Whether the client may have a turn that the log does not have: an answer to an approval, a message that was not sent, or one
/// whose request failed.
fn is_unlogged(turn: &ChatTurn) -> bool {
    SpokenAnswer::parse(&turn.user).is_some()
        || turn.reply.as_deref().is_none_or(|reply| reply.trim().is_empty() || reply.contains(NOT_SENT))
}

/// Whether what the client has of a reply may be the reply in the log: it may hold more, for example the reasoning, or be cut
/// where the client stopped.
fn may_be_reply(told: &str, logged: &str) -> bool {
    let logged: String = letters(logged).chars().take(COMPARED_CHARS).collect();
    let told = letters(told);
    told.contains(&logged) || logged.starts_with(&told.chars().take(COMPARED_CHARS).collect::<String>())
}

/// Returns letters and digits only: clients change spaces and marks.
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of the user, each with its reply.
    type Turns<'a> = Vec<(&'a str, &'a str)>;

    fn client_turns(turns: &[(&str, &str)]) -> Vec<ChatTurn> {
        let reply = |reply: &str| (!reply.is_empty()).then(|| reply.to_owned());
        turns.iter().map(|(user, text)| ChatTurn { user: (*user).to_owned(), reply: reply(text) }).collect()
    }

    #[test]
    fn repeated_message_is_the_newest_of_the_log() {
        let quoted = format!("{QUOTE_HEADING}\n- a\n\nThe new message:\nb");
        let cases: [(&str, Turns<'_>, Turns<'_>, bool); 6] = [
            ("same", vec![("a", "one")], vec![("a", "one"), ("b", "")], true),
            ("first", vec![], vec![("b", "")], true),
            ("quoted", vec![("a", "one")], vec![(&quoted, "")], true),
            ("not accepted", vec![("a", "one")], vec![("a", "one")], false),
            ("same words, not accepted", vec![("b", "one")], vec![("b", "one")], false),
            ("another chat", vec![("a", "one")], vec![("a", "two"), ("b", "")], false),
        ];
        for (name, client, log, is_it) in &cases {
            let logged: Vec<LoggedTurn<'_>> =
                log.iter().map(|(user, reply)| LoggedTurn { seq: 1, ts: Timestamp::now(), user, reply }).collect();
            let history =
                ChatHistory { turns: client_turns(client), message: "b".to_owned(), ..ChatHistory::default() };
            let (newest, before) = logged.split_last().unwrap();
            assert_eq!(is_newest(&history, before, newest.user), *is_it, "{name}");
        }
    }

    #[test]
    fn conversations_are_compared_turn_by_turn() {
        let quoted = format!("{QUOTE_HEADING}\n- a\n\nThe new message:\nb");
        let approval = "**Approval needed** … Reply `approve 0fb77b`";
        let not_sent = "Your message was not sent, because …";
        let cases: [(&str, Turns<'_>, Turns<'_>, bool); 16] = [
            ("same", vec![("a", "one")], vec![("a", "one")], true),
            ("reply cut by the client's stop", vec![("a", "the pods are")], vec![("a", "The pods are fine.")], true),
            ("stopped before the reply", vec![("a", "")], vec![("a", "The pods are fine.")], true),
            ("reasoning before the reply", vec![("a", "<details>hm</details>one")], vec![("a", "one")], true),
            ("other spaces", vec![("a  b\n", "one")], vec![("a b", "one")], true),
            ("another reply: a chat that begins alike", vec![("a", "one")], vec![("a", "two")], false),
            ("edited first message", vec![("A2", "one")], vec![("a", "one")], false),
            ("log is ahead: regenerated", vec![("a", "one")], vec![("a", "one"), ("b", "two")], false),
            ("log is behind: another chat", vec![("a", "one"), ("b", "two")], vec![("a", "one")], false),
            (
                "approval by words",
                vec![("scale", approval), ("approve 0fb77b", "done"), ("a", "one")],
                vec![("scale", ""), ("a", "one")],
                true,
            ),
            ("not sent", vec![("scale", approval), ("and now?", not_sent)], vec![("scale", "")], true),
            ("request failed", vec![("a", "one"), ("b", ""), ("c", "two")], vec![("a", "one"), ("c", "two")], true),
            ("quoted", vec![("a", "one"), ("b", "two")], vec![(quoted.as_str(), "two")], true),
            ("quoted, then more", vec![("a", "1"), ("b", "two"), ("c", "3")], vec![(&quoted, "two"), ("c", "3")], true),
            ("quoted, another end", vec![("a", "one"), ("x", "two")], vec![(quoted.as_str(), "two")], false),
            ("nothing logged", vec![("a", "one")], vec![], false),
        ];
        for (name, client, log, same) in &cases {
            let logged: Vec<LoggedTurn<'_>> =
                log.iter().map(|(user, reply)| LoggedTurn { seq: 1, ts: Timestamp::now(), user, reply }).collect();
            assert_eq!(has_same_turns(&client_turns(client), &logged), *same, "{name}");
        }
    }
}
