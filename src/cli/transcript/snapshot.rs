//! Frames that describe the session as a whole: `hello`, `snapshot`, settings.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::{service::ModelSelection, terminal::sanitize_text},
    frame_fields::{list_field, text_field},
    messages::render_user_message,
    tool_calls::result_style,
    view::{RunPhase, TranscriptView},
};
use crate::cli::terminal::{ScreenUpdate, note_line};

/// The number of messages of a snapshot that are shown. Older ones are only counted.
const MAX_SNAPSHOT_MESSAGES: usize = 12;

impl TranscriptView {
    pub(super) fn apply_hello(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        self.connected = true;
        self.head_seq = frame["last_seq"].as_u64().unwrap_or(0);
        // Events up to the head are still to come and will set the phase. Without any, the status is what is known.
        if self.last_seq >= self.head_seq && frame["status"]["is_processing"] == false {
            self.phase = RunPhase::Idle;
        }
        Vec::new()
    }

    pub(super) fn apply_settings(&mut self, frame: &Value) {
        let field = |key: &str| sanitize_text(text_field(&frame["settings"], key));
        self.model = Some(ModelSelection { provider: field("provider"), model: field("model") });
    }

    pub(super) fn apply_snapshot(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let shown_seq = self.last_seq;
        self.last_seq = self.last_seq.max(frame["as_of_seq"].as_u64().unwrap_or(0));
        self.apply_settings(frame);
        self.output_count.get_or_insert(0);
        let mut updates: Vec<ScreenUpdate> = self.render_what_is_left(frame).into_iter().collect();
        let mut unanswered = self.render_snapshot_messages(frame, shown_seq, &mut updates);
        self.preview = None;
        self.running_tools.clear();
        let running = frame["open_run"].is_string();
        self.phase = if running { RunPhase::Running } else { RunPhase::Idle };
        self.questions.clear();
        for approval in list_field(frame, "pending_approvals") {
            unanswered.remove(text_field(approval, "tool_call_id"));
            updates.extend(self.apply_approval_requested(approval));
        }
        for input in list_field(frame, "pending_inputs") {
            updates.extend(self.apply_input_requested(input));
        }
        if running {
            self.running_tools = unanswered;
        }
        updates
    }

    /// Shows the messages after `shown_seq`. Returns the tool calls without a result, by their id.
    fn render_snapshot_messages(
        &mut self,
        frame: &Value,
        shown_seq: u64,
        updates: &mut Vec<ScreenUpdate>,
    ) -> BTreeMap<String, String> {
        let is_new = |message: &&Value| message["seq"].as_u64().unwrap_or(0) > shown_seq;
        let messages: Vec<&Value> = list_field(frame, "messages").filter(is_new).collect();
        let hidden = messages.len().saturating_sub(MAX_SNAPSHOT_MESSAGES);
        if hidden > 0 {
            updates.push(note_line(format!("… {hidden} older messages")));
        }
        let mut unanswered = BTreeMap::new();
        for (index, message) in messages.into_iter().enumerate() {
            let visible = index >= hidden;
            match text_field(message, "role") {
                "user" if visible => {
                    self.last_message = Some(text_field(message, "content").to_owned());
                    updates.push(render_user_message(message));
                }
                "assistant" => {
                    let content = sanitize_text(text_field(message, "content"));
                    if visible && !content.trim().is_empty() {
                        updates.push(ScreenUpdate::Text(content.trim_end().to_owned() + "\n"));
                        updates.push(ScreenUpdate::EndOfText);
                    }
                    self.last_reply = Some(text_field(message, "message_id").to_owned());
                    for call in list_field(message, "tool_calls") {
                        let id = text_field(call, "id").to_owned();
                        let name = sanitize_text(text_field(call, "name"));
                        unanswered.insert(id.clone(), name.clone());
                        self.tool_names.insert(id, name);
                    }
                }
                "tool" => {
                    unanswered.remove(text_field(message, "tool_call_id"));
                    let number = self.number_output(message["number"].as_u64(), text_field(message, "tool_call_id"));
                    if visible {
                        let name = sanitize_text(text_field(message, "name"));
                        let status = text_field(message, "status");
                        let line = format!("{number}{name} {}", sanitize_text(status));
                        updates.push(ScreenUpdate::Line(result_style(status), line));
                    }
                }
                _ => {}
            }
        }
        unanswered
    }
}
