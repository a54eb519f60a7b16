//! What a list of sessions shows of one, and the words that it is shown by.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EventBody, RunId, SessionEvent, SessionId, SessionSettings, Timestamp, TokenUsage, UserId};

/// Characters of a title that is made from a message.
const TITLE_CHARS: usize = 60;
/// Characters of the preview in a list of sessions.
const PREVIEW_CHARS: usize = 160;

/// What a list of sessions shows of one: small, and of the same size however long the conversation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionSummary {
    /// The session.
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its title; empty until somebody gives one or the first message makes one.
    pub title: String,
    /// The beginning of the newest message of the user or the model.
    pub preview: String,
    /// Messages of the user and the model so far.
    pub message_count: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its newest event was logged.
    pub updated_at: Timestamp,
    /// The seq of its newest event.
    pub last_seq: u64,
    /// Its settings.
    pub settings: SessionSettings,
    /// The run in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_run: Option<RunId>,
    /// What all its model calls used.
    pub usage: TokenUsage,
    /// Whether something was said since the conversation was last looked at for memories.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_learn: bool,
    /// Whether a message is in the inbox, whose run has not begun. Not of the log: a store says it of the instant at which it
    /// is asked, and a fold never does.
    #[serde(skip)]
    pub waiting: bool,
}

impl SessionSummary {
    /// The summary after the log's first event; `None` when `event` is not one that begins a session.
    #[must_use]
    pub fn begin(event: &SessionEvent) -> Option<Self> {
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
            waiting: false,
        })
    }

    /// Whether a message is being answered, or is about to be.
    #[must_use]
    pub fn is_processing(&self) -> bool {
        self.open_run.is_some() || self.waiting
    }

    /// Whether the log says that there is something to do: a run to go on with, or memories to find.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.open_run.is_some() || self.to_learn
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &SessionEvent) {
        debug_assert_eq!(event.seq, self.last_seq + 1, "a projection takes the log's events in their order, each once");
        self.last_seq = event.seq;
        self.updated_at = event.ts;
        match &event.body {
            EventBody::SettingsChanged(e) => self.settings.clone_from(&e.settings),
            EventBody::TitleChanged(e) => self.title.clone_from(&e.title),
            EventBody::UserMessage(e) => {
                self.message_count += 1;
                self.preview = one_line(&e.content, PREVIEW_CHARS);
            }
            EventBody::AssistantMessage(e) => {
                self.message_count += 1;
                self.usage += e.usage;
                if !e.content.trim().is_empty() {
                    self.preview = one_line(&e.content, PREVIEW_CHARS);
                }
            }
            EventBody::ContextCompacted(e) => self.usage += e.usage,
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

/// A session's title, made from its first message.
#[must_use]
pub fn title_from(message: &str) -> String {
    one_line(message, TITLE_CHARS)
}

/// The beginning of a text with its white space folded, at most `max` characters, with `…` where something was cut.
fn one_line(text: &str, max: usize) -> String {
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
    fn a_title_is_one_line_of_bounded_length_cut_between_words() {
        assert_eq!(title_from("  why is\n payments   down? "), "why is payments down?");
        let long = title_from(&"word ".repeat(40));
        assert!(long.chars().count() <= TITLE_CHARS + 1 && long.ends_with("word…"), "{long}");
        let one = title_from(&"ä".repeat(200));
        assert_eq!(one.chars().count(), TITLE_CHARS);
    }
}
