//! Frames of tool calls, approvals and requested input.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    super::{
        approval_card::render_approval,
        terminal::{
            author_name, compact_arguments, compact_json, format_bytes, format_duration, sanitize_text, truncate_chars,
        },
    },
    frame_fields::text_field,
    pending_question::{PendingQuestion, QuestionSubject},
    view::TranscriptView,
};
use crate::cli::terminal::{LineStyle, ScreenUpdate, note_line};

/// The number of characters of a tool call's arguments that are shown.
const MAX_ARGUMENTS: usize = 100;
/// The number of characters of a tool call in its lines, which fit into a usual terminal with what is said about the call.
const MAX_LABEL: usize = 58;
/// The number of lines of a failed tool's output that are shown.
const MAX_FAILURE_LINES: usize = 3;
/// The number of characters of each of these lines.
const MAX_FAILURE_LINE: usize = 200;

impl TranscriptView {
    pub(super) fn apply_approval_requested(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let question = PendingQuestion {
            subject: QuestionSubject::ToolCall,
            id: text_field(frame, "approval_id").to_owned(),
            tool_call_id: text_field(frame, "tool_call_id").to_owned(),
            name: sanitize_text(text_field(frame, "name")),
            arguments: frame["arguments"].clone(),
        };
        self.questions.push(question);
        render_approval(frame)
    }

    pub(super) fn apply_approval_resolved(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let id = text_field(frame, "approval_id");
        let name = self.questions.iter().find(|question| question.id == id).map(|question| question.name.clone());
        let name = name.map_or_else(String::new, |name| format!("{name} "));
        self.remove_question(id);
        let by = author_name(text_field(frame, "by"));
        let mut line = match text_field(frame, "decision") {
            "approve" => format!("{name}approved by {by}"),
            "deny" => format!("{name}denied by {by}"),
            "expired" => format!("{name}was not approved in time and does not run"),
            other => format!("{name}{}", sanitize_text(other)),
        };
        if !frame["arguments"].is_null() {
            let _ = write!(line, ", with changed arguments {}", compact_arguments(&frame["arguments"], MAX_ARGUMENTS));
        }
        if let Some(comment) = frame["comment"].as_str().filter(|comment| !comment.is_empty()) {
            let _ = write!(line, ": {}", sanitize_text(comment));
        }
        vec![note_line(line)]
    }

    pub(super) fn apply_input_requested(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let fields = frame["schema"]["properties"].as_object();
        let defaults = fields.into_iter().flatten().map(|(name, field)| (name.clone(), field["default"].clone()));
        let server = sanitize_text(text_field(frame, "server"));
        // The text after "asks:" comes from the server, and the line says so.
        let mut line = format!("{server} asks: {}", sanitize_text(text_field(frame, "message")));
        if let Some(url) = frame["url"].as_str() {
            let _ = write!(line, "\nopen {} if you trust it", sanitize_text(url));
        }
        for (name, field) in fields.into_iter().flatten() {
            let _ = write!(line, "\n  {}: {}", sanitize_text(name), compact_json(field, MAX_ARGUMENTS));
        }
        self.questions.push(PendingQuestion {
            subject: QuestionSubject::ServerInput,
            id: text_field(frame, "input_id").to_owned(),
            tool_call_id: text_field(frame, "tool_call_id").to_owned(),
            name: server,
            arguments: Value::Object(defaults.collect()),
        });
        vec![ScreenUpdate::Line(LineStyle::Question, line)]
    }

    pub(super) fn apply_input_resolved(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        self.remove_question(text_field(frame, "input_id"));
        let by = author_name(text_field(frame, "by"));
        vec![note_line(match text_field(frame, "action") {
            "accept" => format!("answered by {by}"),
            "decline" => format!("declined by {by}"),
            _ => "the question was not answered".to_owned(),
        })]
    }

    /// Counts an output, and returns its number, by which answers cite it and `/show` shows it. A view that does not know the
    /// outputs before has no numbers.
    pub(super) fn number_output(&mut self, number: Option<u64>, tool_call_id: &str) -> String {
        self.output_count = number.or_else(|| self.output_count.map(|count| count + 1));
        let Some(number) = self.output_count else { return String::new() };
        self.outputs.insert(number, tool_call_id.to_owned());
        format!("[{number}] ")
    }

    fn remove_question(&mut self, id: &str) {
        self.questions.retain(|question| question.id != id);
        self.sent_answers.retain(|_, answered| answered != id);
    }

    pub(super) fn apply_tool_start(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let id = text_field(frame, "tool_call_id");
        let name = sanitize_text(text_field(frame, "name"));
        let label = call_label(&name, &frame["arguments"]);
        let attempt = match frame["attempt"].as_u64() {
            Some(attempt) if attempt > 1 => format!(" (attempt {attempt})"),
            _ => String::new(),
        };
        self.running_tools.insert(id.to_owned(), name);
        self.tool_names.insert(id.to_owned(), label.clone());
        // The end of a call that only reads says enough, and the activity shows it until then.
        if frame["effect"] == "read" && attempt.is_empty() {
            return Vec::new();
        }
        vec![ScreenUpdate::Line(LineStyle::Tool, format!("{label}{attempt}"))]
    }

    pub(super) fn apply_tool_progress(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let id = text_field(frame, "tool_call_id");
        let Some(label) = self.tool_names.get(id).filter(|_| self.running_tools.contains_key(id)) else {
            return Vec::new();
        };
        let mut activity = label.split(' ').next().unwrap_or_default().to_owned();
        match (frame["progress"].as_f64(), frame["total"].as_f64()) {
            (Some(done), Some(total)) => {
                let _ = write!(activity, " {}/{}", round_to_tenth(done), round_to_tenth(total));
            }
            (Some(done), None) => drop(write!(activity, " {}", round_to_tenth(done))),
            _ => {}
        }
        if let Some(message) = frame["message"].as_str() {
            let _ = write!(activity, " {}", sanitize_text(message));
        }
        self.running_tools.insert(id.to_owned(), activity);
        Vec::new()
    }

    pub(super) fn apply_tool_end(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let id = text_field(frame, "tool_call_id");
        let status = text_field(frame, "status");
        self.running_tools.remove(id);
        // A call that ended was cancelled if it still had an open question.
        let (closed, open): (Vec<_>, Vec<_>) = self.questions.drain(..).partition(|q| q.tool_call_id == id);
        self.questions = open;
        self.sent_answers.retain(|_, answered| closed.iter().all(|question| question.id != *answered));
        let name = self.tool_names.remove(id).map_or_else(|| "tool".to_owned(), |name| sanitize_text(&name));
        let duration = frame["duration_ms"].as_u64().filter(|ms| *ms > 0).map(format_duration);
        let bytes = frame["bytes"].as_u64().filter(|_| status == "ok").map(format_bytes);
        let truncated = (frame["truncated"] == true).then(|| "truncated for the model".to_owned());
        let facts: Vec<String> = [duration, bytes, truncated].into_iter().flatten().collect();
        let outcome = match status {
            "unknown" => "outcome unknown: it may have taken effect",
            other => other,
        };
        let number = self.number_output(None, id);
        let outcome = if status == "ok" { String::new() } else { format!(": {}", sanitize_text(outcome)) };
        let mut line = format!("{number}{name}{outcome}");
        if !facts.is_empty() {
            let _ = write!(line, " · {}", facts.join(" · "));
        }
        if status != "ok" {
            let content = sanitize_text(text_field(frame, "content"));
            for output in content.lines().filter(|output| !output.trim().is_empty()).take(MAX_FAILURE_LINES) {
                let _ = write!(line, "\n  {}", truncate_chars(output, MAX_FAILURE_LINE));
            }
        }
        vec![ScreenUpdate::Line(result_style(status), line)]
    }
}

/// Returns a call by which it is told from others of its tool: `pods_log name=web-1 namespace=shop`.
fn call_label(name: &str, arguments: &Value) -> String {
    truncate_chars(format!("{name} {}", compact_arguments(arguments, MAX_ARGUMENTS)).trim_end(), MAX_LABEL)
}

/// Returns the style of a finished call with this status.
pub(super) fn result_style(status: &str) -> LineStyle {
    if status == "ok" { LineStyle::Success } else { LineStyle::Failure }
}

/// Returns a number with at most one digit after the point: a server may report seconds with nine.
fn round_to_tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
