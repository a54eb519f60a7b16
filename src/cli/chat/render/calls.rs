//! Approvals and tool calls, as far as they are shown.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    super::text::{clean, compact, cut, duration, pretty, size},
    About, Op, Question, Tone, View, note, text,
};

/// Characters of a tool call's arguments in its line.
const ARGUMENTS: usize = 100;
/// Lines of a failed tool's output that are shown.
const FAILURE_LINES: usize = 3;

impl View {
    pub(super) fn approval_requested(&mut self, frame: &Value) -> Vec<Op> {
        let approval = Question {
            about: About::Running,
            id: text(frame, "approval_id").to_owned(),
            tool_call_id: text(frame, "tool_call_id").to_owned(),
            name: clean(text(frame, "name")),
            arguments: frame["arguments"].clone(),
        };
        // The arguments in full: nobody may be asked to approve what was cut off.
        let line = format!(
            "{} wants to run and is {} ({})\n{}",
            approval.name,
            clean(text(frame, "effect")),
            clean(text(frame, "reason")),
            pretty(&approval.arguments),
        );
        self.approvals.push(approval);
        let mut ops = vec![Op::Line(Tone::Ask, line)];
        if let Some(preview) = frame["preview"].as_str().filter(|preview| !preview.trim().is_empty()) {
            ops.push(note(format!("what it would do:\n{}", clean(preview))));
        }
        ops
    }

    pub(super) fn input_requested(&mut self, frame: &Value) -> Vec<Op> {
        let fields = frame["schema"]["properties"].as_object();
        let begin = fields.into_iter().flatten().map(|(name, field)| (name.clone(), field["default"].clone()));
        let server = clean(text(frame, "server"));
        // All but the first words is the server's, and shown as such.
        let mut line = format!("{server} asks: {}", clean(text(frame, "message")));
        if let Some(url) = frame["url"].as_str() {
            let _ = write!(line, "\nopen {} if you trust it", clean(url));
        }
        for (name, field) in fields.into_iter().flatten() {
            let _ = write!(line, "\n  {}: {}", clean(name), compact(field, ARGUMENTS));
        }
        self.approvals.push(Question {
            about: About::Input,
            id: text(frame, "input_id").to_owned(),
            tool_call_id: text(frame, "tool_call_id").to_owned(),
            name: server,
            arguments: Value::Object(begin.collect()),
        });
        vec![Op::Line(Tone::Ask, line)]
    }

    pub(super) fn input_resolved(&mut self, frame: &Value) -> Vec<Op> {
        let id = text(frame, "input_id");
        self.approvals.retain(|a| a.id != id);
        self.answers.retain(|_, answered| answered != id);
        let by = clean(text(frame, "by"));
        vec![note(match text(frame, "action") {
            "accept" => format!("answered by {by}"),
            "decline" => format!("declined by {by}"),
            _ => "the question was not answered".to_owned(),
        })]
    }

    pub(super) fn approval_resolved(&mut self, frame: &Value) -> Vec<Op> {
        let id = text(frame, "approval_id");
        let name = self.approvals.iter().find(|a| a.id == id).map_or_else(String::new, |a| format!("{} ", a.name));
        self.approvals.retain(|a| a.id != id);
        self.answers.retain(|_, answered| answered != id);
        let by = clean(text(frame, "by"));
        let mut line = match text(frame, "decision") {
            "approve" => format!("{name}approved by {by}"),
            "deny" => format!("{name}denied by {by}"),
            "expired" => format!("{name}was not answered in time and does not run"),
            other => format!("{name}{}", clean(other)),
        };
        if !frame["arguments"].is_null() {
            let _ = write!(line, ", with changed arguments {}", compact(&frame["arguments"], ARGUMENTS));
        }
        if let Some(comment) = frame["comment"].as_str().filter(|c| !c.is_empty()) {
            let _ = write!(line, ": {}", clean(comment));
        }
        vec![note(line)]
    }

    pub(super) fn tool_start(&mut self, frame: &Value) -> Vec<Op> {
        let (id, name) = (text(frame, "tool_call_id"), clean(text(frame, "name")));
        self.running.insert(id.to_owned(), name.clone());
        self.calls.insert(id.to_owned(), name.clone());
        let again = match frame["attempt"].as_u64() {
            Some(attempt) if attempt > 1 => format!(" (attempt {attempt})"),
            _ => String::new(),
        };
        vec![Op::Line(Tone::Tool, format!("{name} {}{again}", compact(&frame["arguments"], ARGUMENTS)))]
    }

    pub(super) fn tool_progress(&mut self, frame: &Value) -> Vec<Op> {
        let id = text(frame, "tool_call_id");
        let Some(name) = self.calls.get(id).filter(|_| self.running.contains_key(id)) else { return Vec::new() };
        let mut said = name.clone();
        match (frame["progress"].as_f64(), frame["total"].as_f64()) {
            (Some(done), Some(total)) => drop(write!(said, " {done}/{total}")),
            (Some(done), None) => drop(write!(said, " {done}")),
            _ => {}
        }
        if let Some(message) = frame["message"].as_str() {
            let _ = write!(said, " {}", clean(message));
        }
        self.running.insert(id.to_owned(), said);
        Vec::new()
    }

    pub(super) fn tool_end(&mut self, frame: &Value) -> Vec<Op> {
        let (id, status) = (text(frame, "tool_call_id"), text(frame, "status"));
        self.running.remove(id);
        // A call that ended needs no approval any more: it was cancelled while it waited for it.
        let (over, open) = self.approvals.drain(..).partition(|approval| approval.tool_call_id == id);
        self.approvals = open;
        self.answers.retain(|_, answered| over.iter().all(|approval: &Question| approval.id != *answered));
        let name = self.calls.remove(id).map_or_else(|| "tool".to_owned(), |name| clean(&name));
        let took = frame["duration_ms"].as_u64().filter(|ms| *ms > 0).map(duration);
        let bytes = frame["bytes"].as_u64().filter(|_| status == "ok").map(size);
        let cut_off = (frame["truncated"] == true).then(|| "cut for the model".to_owned());
        let facts: Vec<String> = [took, bytes, cut_off].into_iter().flatten().collect();
        let said = match status {
            "unknown" => "outcome not known: it may have taken effect",
            other => other,
        };
        let mut line = format!("{name} {}", clean(said));
        if !facts.is_empty() {
            let _ = write!(line, " · {}", facts.join(" · "));
        }
        if status != "ok" {
            for output in clean(text(frame, "content")).lines().filter(|l| !l.trim().is_empty()).take(FAILURE_LINES) {
                let _ = write!(line, "\n  {}", cut(output, 200));
            }
        }
        vec![Op::Line(tone_of(status), line)]
    }
}

/// The look of a call that ended so.
pub(super) fn tone_of(status: &str) -> Tone {
    if status == "ok" { Tone::Good } else { Tone::Bad }
}
