//! What a person reads when the store has lost a part of the session.

use serde_json::Value;

use super::{
    super::terminal::{sanitize_text, truncate_chars},
    frame_fields::{list_field, text_field},
    view::TranscriptView,
};
use crate::cli::terminal::{ScreenUpdate, failure_line, note_line};

/// The number of characters of a message by which it is recognized.
const EXCERPT_CHARS: usize = 60;

impl TranscriptView {
    pub(super) fn apply_gap(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        if text_field(frame, "reason") != "log_truncated" {
            return vec![note_line("older events of this session are no longer kept")];
        }
        self.lost_events = true;
        let mut updates = self.abandon_preview();
        updates.push(failure_line("the store has lost the newest events of this session"));
        updates
    }

    /// Says where the session is after a loss, because the screen shows more than is left.
    pub(super) fn render_what_is_left(&mut self, snapshot: &Value) -> Option<ScreenUpdate> {
        if !std::mem::take(&mut self.lost_events) {
            return None;
        }
        // A message that was sent may be lost, and would be waited for.
        self.unconfirmed_messages.clear();
        let words = |message: &Value| sanitize_text(text_field(message, "content"));
        let is_said = |message: &&Value| {
            matches!(text_field(message, "role"), "user" | "assistant") && !words(message).trim().is_empty()
        };
        let messages: Vec<&Value> = list_field(snapshot, "messages").filter(is_said).collect();
        let line = match messages.last() {
            Some(message) => {
                let sign = if text_field(message, "role") == "user" { "> " } else { "" };
                let excerpt = truncate_chars(words(message).lines().next().unwrap_or_default(), EXCERPT_CHARS);
                format!("the session continues after: {sign}{excerpt}")
            }
            None => "the session continues without messages".to_owned(),
        };
        Some(note_line(line))
    }

    pub(super) fn apply_warning(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        if text_field(frame, "code") == "message_lost" {
            self.unconfirmed_messages.clear();
        }
        vec![failure_line(format!("warning: {}", sanitize_text(text_field(frame, "message"))))]
    }
}
