//! Frames of messages: what users and models say.

use serde_json::Value;

use super::{
    super::terminal::{format_bytes, sanitize_text},
    frame_fields::{list_field, text_field},
    reply_preview::ReplyPreview,
    view::{RunPhase, TranscriptView},
};
use crate::cli::terminal::{LineStyle, ScreenUpdate, note_line};

impl TranscriptView {
    pub(super) fn apply_user_message(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let command_id = text_field(frame, "command_id");
        self.last_message = Some(text_field(frame, "content").to_owned());
        self.unconfirmed_messages.remove(command_id);
        if self.phase == RunPhase::Idle {
            self.phase = RunPhase::Queued;
        }
        if self.echoed_messages.remove(command_id) {
            return Vec::new();
        }
        vec![render_user_message(frame)]
    }

    pub(super) fn apply_token(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let id = text_field(frame, "message_id");
        if self.closed_messages.contains(id) {
            return Vec::new();
        }
        self.end_reasoning();
        let mut updates = self.start_preview(id);
        if let Some(preview) = &mut self.preview {
            let offset = frame["offset"].as_u64().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
            updates.extend(preview.apply_token(offset, text_field(frame, "content")));
        }
        updates
    }

    pub(super) fn apply_assistant_message(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let id = text_field(frame, "message_id");
        let mut updates = self.start_preview(id);
        if let Some(mut preview) = self.preview.take() {
            updates.extend(preview.replace_text(text_field(frame, "content")));
            if preview.ends_mid_line() {
                updates.push(ScreenUpdate::Text("\n".to_owned()));
            }
            updates.push(ScreenUpdate::EndOfText);
        }
        self.end_reasoning();
        self.closed_messages.insert(id.to_owned());
        self.last_reply = Some(id.to_owned());
        for call in list_field(frame, "tool_calls") {
            self.tool_names.insert(text_field(call, "id").to_owned(), text_field(call, "name").to_owned());
        }
        match text_field(frame, "stop_reason") {
            "max_tokens" => updates.push(note_line("the reply was truncated at the token limit")),
            "refusal" => updates.push(note_line("the model or its provider's content filter refused to continue")),
            "cancelled" => updates.push(note_line("cancelled here")),
            _ => {}
        }
        updates
    }

    pub(super) fn apply_run_recovered(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let superseded: Vec<&str> = list_field(frame, "superseded").filter_map(Value::as_str).collect();
        let discarded = self.preview.take_if(|preview| superseded.contains(&preview.message_id.as_str()));
        self.closed_messages.extend(superseded.into_iter().map(str::to_owned));
        let mut line = format!("interrupted ({}), resuming", sanitize_text(text_field(frame, "reason")));
        if discarded.is_some_and(|preview| preview.is_visible()) {
            line += "; the unfinished text above is discarded";
        }
        self.phase = RunPhase::Running;
        self.running_tools.clear();
        vec![note_line(line)]
    }

    /// Makes `id` the message that is being written. Another unfinished message is abandoned.
    fn start_preview(&mut self, id: &str) -> Vec<ScreenUpdate> {
        if self.preview.as_ref().is_some_and(|preview| preview.message_id == id) {
            return Vec::new();
        }
        let updates = self.abandon_preview();
        self.preview = Some(ReplyPreview::new(id.to_owned()));
        updates
    }

    /// Ends the message that is being written without its final text.
    pub(super) fn abandon_preview(&mut self) -> Vec<ScreenUpdate> {
        match self.preview.take() {
            Some(preview) if preview.is_visible() => {
                self.closed_messages.insert(preview.message_id);
                vec![note_line("the text above is incomplete")]
            }
            _ => Vec::new(),
        }
    }

    /// Returns to the running phase, because the model writes text after its reasoning.
    fn end_reasoning(&mut self) {
        if self.phase == RunPhase::Reasoning {
            self.phase = RunPhase::Running;
        }
    }
}

/// Renders a message of a user, with the names of what is attached.
pub(super) fn render_user_message(message: &Value) -> ScreenUpdate {
    let mut line = format!("> {}", sanitize_text(text_field(message, "content")));
    for attachment in list_field(message, "attachments") {
        let size = format_bytes(attachment["bytes"].as_u64().unwrap_or(0));
        line += &format!("\n  + {} ({size})", sanitize_text(text_field(attachment, "name")));
    }
    ScreenUpdate::Line(LineStyle::User, line)
}
