//! What a list of sessions shows of each session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    event::{EventBody, SessionEvent, SessionOrigin, SessionWarning},
    ids::{RunId, SessionId, UserId},
    message::TokenUsage,
    settings::SessionSettings,
    time::Timestamp,
};

/// The most characters of a title that is derived from a message.
const TITLE_CHARS: usize = 60;
/// The most characters of the preview in a list of sessions.
const PREVIEW_CHARS: usize = 160;

/// What a list of sessions shows of each session. Its size does not depend on the length of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionSummary {
    /// The id of the session.
    pub session_id: SessionId,
    /// The user who owns the session.
    pub user_id: UserId,
    /// The title; empty until one is set, or derived from the first message.
    pub title: String,
    /// The beginning of the newest message of the user or the model.
    pub preview: String,
    /// The number of messages of the user and the model so far.
    pub message_count: u64,
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the newest event was logged.
    pub updated_at: Timestamp,
    /// The seq of the newest event.
    pub last_seq: u64,
    /// The settings.
    pub settings: SessionSettings,
    /// The run in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_run: Option<RunId>,
    /// Tokens and cost of all model calls.
    pub usage: TokenUsage,
    /// Whether the conversation has messages from which memories were not extracted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_learn: bool,
    /// What the session was opened for.
    #[serde(default, skip_serializing_if = "SessionOrigin::is_user")]
    pub origin: SessionOrigin,
    /// Whether the inbox has a message whose run has not started. Not part of the log: the store sets it as of the instant
    /// at which the summary is read.
    #[serde(skip)]
    pub waiting: bool,
}

impl SessionSummary {
    /// The summary after a log's first event; `None` if `event` is not a `session_created`.
    #[must_use]
    pub fn from_first_event(event: &SessionEvent) -> Option<Self> {
        let EventBody::SessionCreated(created) = &event.body else { return None };
        Some(Self {
            session_id: event.session_id,
            user_id: created.user_id.clone(),
            title: created.title.clone().unwrap_or_default(),
            preview: String::new(),
            message_count: 0,
            created_at: event.ts,
            updated_at: event.ts,
            last_seq: event.seq,
            settings: created.settings.clone(),
            open_run: None,
            usage: TokenUsage::default(),
            to_learn: false,
            origin: created.origin,
            waiting: false,
        })
    }

    /// Whether a message is being answered, or waits to be.
    #[must_use]
    pub fn is_processing(&self) -> bool {
        self.open_run.is_some() || self.waiting
    }

    /// Whether the log has work for an owner: a run to resume, or memories to extract.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.open_run.is_some() || self.to_learn
    }

    /// Applies the next event.
    pub fn apply_event(&mut self, event: &SessionEvent) {
        debug_assert!(event.body.may_follow(self.last_seq, event.seq), "events are applied in order, each once");
        self.last_seq = event.seq;
        self.updated_at = event.ts;
        match &event.body {
            EventBody::SettingsChanged(e) => self.settings.clone_from(&e.settings),
            EventBody::TitleChanged(e) => self.title.clone_from(&e.title),
            EventBody::UserMessage(e) => {
                self.message_count += 1;
                self.preview = truncate_to_line(&e.content, PREVIEW_CHARS);
            }
            EventBody::AssistantMessage(e) => {
                self.message_count += 1;
                self.usage += e.usage;
                if !e.content.trim().is_empty() {
                    self.preview = truncate_to_line(&e.content, PREVIEW_CHARS);
                }
            }
            EventBody::ContextCompacted(e) => self.usage += e.usage,
            EventBody::Warning(SessionWarning { dropped_call: Some(call), .. }) => self.usage += call.usage,
            EventBody::MemorySaved(e) => {
                self.usage += e.usage;
                self.to_learn = false;
            }
            EventBody::RunStarted(e) => {
                self.open_run = event.run_id;
                self.to_learn |= e.memory;
            }
            EventBody::RunFinished(_) | EventBody::RunFailed(_) => self.open_run = None,
            _ => {}
        }
    }
}

/// Derives a session's title from its first message.
#[must_use]
pub fn derive_title(message: &str) -> String {
    truncate_to_line(message, TITLE_CHARS)
}

/// The beginning of a text as one line of at most `max` characters, with `…` where it was cut.
fn truncate_to_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut left = max;
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        let length = word.chars().count();
        if length + gap > left {
            if line.is_empty() {
                line.extend(word.chars().take(max.saturating_sub(1)));
            }
            line.push('…');
            return line;
        }
        if gap == 1 {
            line.push(' ');
        }
        line.push_str(word);
        left -= length + gap;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_is_one_line_cut_between_words() {
        assert_eq!(derive_title("  why is\n payments   down? "), "why is payments down?");
        let long = derive_title(&"word ".repeat(40));
        assert!(long.chars().count() <= TITLE_CHARS + 1 && long.ends_with("word…"), "{long}");
        let one_word = derive_title(&"ä".repeat(200));
        assert_eq!(one_word.chars().count(), TITLE_CHARS);
    }
}
