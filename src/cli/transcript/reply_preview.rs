//! The preview of the message that the model is writing.

use super::super::terminal::sanitize_text;
use crate::cli::terminal::{ScreenUpdate, note_line};

/// The message that the model is writing.
pub(super) struct ReplyPreview {
    pub(super) message_id: String,
    /// The text by the rules of `token`.
    text: String,
    /// The part of the message that is on the screen.
    printed: String,
    /// Whether `printed` is the whole text, so that more text can be appended to the screen.
    up_to_date: bool,
}

impl ReplyPreview {
    pub(super) fn new(message_id: String) -> Self {
        Self { message_id, text: String::new(), printed: String::new(), up_to_date: true }
    }

    /// Returns whether a part of the message is on the screen.
    pub(super) fn is_visible(&self) -> bool {
        !self.printed.is_empty()
    }

    /// Returns whether the screen is in the middle of a line.
    pub(super) fn ends_mid_line(&self) -> bool {
        self.is_visible() && !self.printed.ends_with('\n')
    }

    /// Applies a `token`: `offset: 0` starts a new text, the length of the text so far appends.
    pub(super) fn apply_token(&mut self, offset: usize, content: &str) -> Vec<ScreenUpdate> {
        if offset == 0 {
            return self.replace_text(content);
        }
        if offset != self.text.len() {
            // Within a connection there are no gaps. If there is one, the final message fills it.
            return Vec::new();
        }
        self.text.push_str(content);
        if self.up_to_date {
            let more = sanitize_text(content);
            self.printed.push_str(&more);
            return vec![ScreenUpdate::Text(more)];
        }
        self.print_remaining_text()
    }

    /// Replaces the text and prints what is not on the screen yet.
    pub(super) fn replace_text(&mut self, text: &str) -> Vec<ScreenUpdate> {
        text.clone_into(&mut self.text);
        self.print_remaining_text()
    }

    fn print_remaining_text(&mut self) -> Vec<ScreenUpdate> {
        let text = sanitize_text(&self.text);
        self.up_to_date = true;
        let updates = if let Some(more) = text.strip_prefix(&self.printed) {
            if more.is_empty() {
                return Vec::new();
            }
            vec![ScreenUpdate::Text(more.to_owned())]
        } else if self.printed.starts_with(&text) {
            // After reconnecting, the preview may start with less than the old connection had shown.
            self.up_to_date = false;
            return Vec::new();
        } else {
            vec![note_line("the text above is superseded; the current text is:"), ScreenUpdate::Text(text.clone())]
        };
        self.printed = text;
        updates
    }
}
