//! The state of a session's transcript.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    super::{
        service::ModelSelection,
        terminal::{InputSource, compact_json, format_count, format_duration, sanitize_text},
    },
    frame_fields::{list_field, text_field},
    pending_question::PendingQuestion,
    reply_preview::ReplyPreview,
};
use crate::cli::terminal::{LineStyle, ScreenUpdate, failure_line, note_line};

/// The most characters of the arguments of a lost call that are shown.
const MAX_ARGUMENT_CHARS: usize = 60;

/// What the session is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RunPhase {
    #[default]
    Idle,
    /// A message is logged, and its run has not started.
    Queued,
    Running,
    /// The model of the run streams its reasoning.
    Reasoning,
}

/// A session as the terminal shows it.
#[derive(Default)]
pub(in crate::cli) struct TranscriptView {
    /// The seq of the newest event shown.
    pub(super) last_seq: u64,
    /// The newest seq of the log as of the last `hello`. The stream catches up until it reaches this seq.
    pub(super) head_seq: u64,
    pub(super) connected: bool,
    /// The message that the model is writing.
    pub(super) preview: Option<ReplyPreview>,
    /// Messages that are finished or discarded: a late preview of one is not shown.
    pub(super) closed_messages: BTreeSet<String>,
    /// The newest message of a user.
    pub(super) last_message: Option<String>,
    /// The id of the newest reply.
    pub(super) last_reply: Option<String>,
    /// The number of tool outputs of the session so far, if it is known.
    pub(super) output_count: Option<u64>,
    /// The calls of these outputs, by their number.
    pub(super) outputs: BTreeMap<u64, String>,
    /// The tool calls in words, by their id.
    pub(super) tool_names: BTreeMap<String, String>,
    /// The running tool calls by their id, with the text for the spinner.
    pub(super) running_tools: BTreeMap<String, String>,
    pub(super) questions: Vec<PendingQuestion>,
    /// The question ids that were answered here, by the id of the command. A question whose answer is rejected is asked
    /// again.
    pub(super) sent_answers: BTreeMap<String, String>,
    /// Messages sent here that have not come back as `user_message`.
    pub(super) unconfirmed_messages: BTreeSet<String>,
    /// Messages that the terminal shows already, because they were typed there.
    pub(super) echoed_messages: BTreeSet<String>,
    /// The store has lost events, and the snapshot of what is left has not come yet.
    pub(super) lost_events: bool,
    pub(super) phase: RunPhase,
    pub(super) model: Option<ModelSelection>,
    pub(super) activity: Option<String>,
}

impl TranscriptView {
    /// Records that a message was sent. A message from the terminal is not printed again.
    pub(in crate::cli) fn record_sent_message(&mut self, command_id: &str, source: InputSource) {
        self.unconfirmed_messages.insert(command_id.to_owned());
        if source == InputSource::Terminal {
            self.echoed_messages.insert(command_id.to_owned());
        }
    }

    /// Records that the connection is lost. The activity is unknown until it is back.
    pub(in crate::cli) fn mark_connection_lost(&mut self) -> Vec<ScreenUpdate> {
        self.connected = false;
        self.update_activity()
    }

    /// Returns whether the view waits for the service: for a run, for a sent message, or to catch up.
    #[must_use]
    pub(in crate::cli) fn is_busy(&self) -> bool {
        !self.connected || self.is_catching_up() || self.is_in_run()
    }

    /// Returns whether a run is in progress or about to start.
    #[must_use]
    pub(in crate::cli) fn is_in_run(&self) -> bool {
        self.phase != RunPhase::Idle || !self.unconfirmed_messages.is_empty()
    }

    /// Returns the oldest question that was not answered here, once it is certain that it is still open. `answerable` says which
    /// of them the user may not answer.
    #[must_use]
    pub(in crate::cli) fn next_question(&self, answerable: &BTreeMap<String, bool>) -> Option<&PendingQuestion> {
        if !self.connected || self.is_catching_up() {
            return None;
        }
        let is_open = |question: &&PendingQuestion| {
            answerable.get(&question.id) != Some(&false)
                && !self.sent_answers.values().any(|answered| *answered == question.id)
        };
        self.questions.iter().find(is_open)
    }

    /// Returns a question, if it is still open.
    #[must_use]
    pub(in crate::cli) fn pending_question(&self, id: &str) -> Option<&PendingQuestion> {
        self.questions.iter().find(|question| question.id == id)
    }

    /// Records that an answer to a question was sent.
    pub(in crate::cli) fn record_answer(&mut self, question_id: &str, command_id: &str) {
        self.sent_answers.insert(command_id.to_owned(), question_id.to_owned());
    }

    /// Returns the newest message of a user.
    #[must_use]
    pub(in crate::cli) fn last_message(&self) -> Option<&str> {
        self.last_message.as_deref()
    }

    /// Returns the id of the newest reply.
    #[must_use]
    pub(in crate::cli) fn last_reply(&self) -> Option<&str> {
        self.last_reply.as_deref()
    }

    /// Returns the number and the call of an output, or of the newest one.
    #[must_use]
    pub(in crate::cli) fn find_output(&self, number: Option<u64>) -> Option<(u64, &str)> {
        let number = number.or_else(|| self.outputs.keys().next_back().copied())?;
        self.outputs.get(&number).map(|call| (number, call.as_str()))
    }

    /// Returns the model of the session, if it is known.
    #[must_use]
    pub(in crate::cli) fn current_model(&self) -> Option<&ModelSelection> {
        self.model.as_ref()
    }

    /// Applies the next frame and returns what to show.
    pub(in crate::cli) fn apply_frame(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        if let Some(seq) = frame["seq"].as_u64().filter(|_| frame["type"] != "ack") {
            // The stream repeats nothing, unless a client connects with an old cursor.
            if seq <= self.last_seq {
                return Vec::new();
            }
            self.last_seq = seq;
        }
        let mut updates = self.render_frame(frame);
        updates.extend(self.update_activity());
        updates
    }

    fn is_catching_up(&self) -> bool {
        self.last_seq < self.head_seq
    }

    fn render_frame(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        match text_field(frame, "type") {
            "hello" => self.apply_hello(frame),
            "snapshot" => self.apply_snapshot(frame),
            "gap" => self.apply_gap(frame),
            "log_truncated" => render_log_truncated(frame),
            "session_created" => {
                self.output_count = Some(0);
                self.apply_settings(frame);
                Vec::new()
            }
            "settings_changed" => {
                self.apply_settings(frame);
                let model = self.model.iter().map(|m| note_line(format!("model: {}/{}", m.provider, m.model)));
                model.collect()
            }
            "title_changed" => render_title_change(frame),
            "user_message" => self.apply_user_message(frame),
            "run_started" => {
                self.phase = RunPhase::Running;
                Vec::new()
            }
            "token" => self.apply_token(frame),
            "reasoning" => {
                self.phase = RunPhase::Reasoning;
                Vec::new()
            }
            "assistant_message" => self.apply_assistant_message(frame),
            "approval_requested" => self.apply_approval_requested(frame),
            "approval_resolved" => self.apply_approval_resolved(frame),
            "input_requested" => self.apply_input_requested(frame),
            "input_resolved" => self.apply_input_resolved(frame),
            "tool_start" => self.apply_tool_start(frame),
            "tool_progress" => self.apply_tool_progress(frame),
            "tool_end" => self.apply_tool_end(frame),
            "context_compacted" => {
                let tokens = |field: &str| format_count(frame[field].as_u64().unwrap_or_default());
                let before = tokens("tokens_before");
                let after = tokens("tokens_after");
                vec![note_line(format!("older turns were summarized: {before} tokens reduced to {after}"))]
            }
            "memory_recalled" => render_memories("recalled", frame),
            "memory_saved" => render_memories("remembered", frame),
            "run_recovered" => self.apply_run_recovered(frame),
            "run_finished" => self.apply_run_finished(frame),
            "run_failed" => self.apply_run_failed(frame),
            "warning" => self.apply_warning(frame),
            "error" => {
                let command_id = text_field(frame, "command_id");
                self.unconfirmed_messages.remove(command_id);
                self.echoed_messages.remove(command_id);
                self.sent_answers.remove(command_id);
                vec![ScreenUpdate::Line(LineStyle::Failure, sanitize_text(text_field(frame, "message")))]
            }
            _ => Vec::new(),
        }
    }

    fn apply_run_finished(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let mut facts = match text_field(frame, "outcome") {
            "cancelled" => vec!["cancelled".to_owned()],
            "limit" => vec!["stopped at a limit".to_owned()],
            _ => Vec::new(),
        };
        facts.extend(frame["duration_ms"].as_u64().map(format_duration));
        let usage = &frame["usage"];
        if let (Some(input), Some(output)) = (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64())
            && input + output > 0
        {
            facts.push(format!("{} tokens in, {} out", format_count(input), format_count(output)));
        }
        facts.extend(usage["cost_usd"].as_f64().filter(|cost| *cost > 0.0).map(|cost| format!("${cost:.4}")));
        let mut updates = self.end_run();
        updates.push(note_line(facts.join(" · ")));
        updates
    }

    fn apply_run_failed(&mut self, frame: &Value) -> Vec<ScreenUpdate> {
        let code = sanitize_text(text_field(frame, "code"));
        let message = sanitize_text(text_field(frame, "message"));
        let retryable = if frame["retryable"] == true { " (the same message may succeed later)" } else { "" };
        let mut updates = self.end_run();
        updates.push(ScreenUpdate::Line(LineStyle::Failure, format!("{code}: {message}{retryable}")));
        updates
    }

    fn end_run(&mut self) -> Vec<ScreenUpdate> {
        self.phase = RunPhase::Idle;
        self.running_tools.clear();
        self.questions.clear();
        self.sent_answers.clear();
        let updates = self.abandon_preview();
        self.tool_names.clear();
        updates
    }

    /// Returns the new activity for the spinner, if it has changed.
    fn update_activity(&mut self) -> Vec<ScreenUpdate> {
        let activity = if !self.connected || !self.questions.is_empty() {
            None
        } else if self.running_tools.len() > 1 {
            let names: Vec<_> = self.running_tools.values().map(String::as_str).collect();
            Some(format!("{} tools: {}", names.len(), names.join(", ")))
        } else if let Some(running) = self.running_tools.values().next() {
            Some(running.clone())
        } else if self.preview.as_ref().is_some_and(ReplyPreview::is_visible) {
            None
        } else {
            match self.phase {
                RunPhase::Reasoning => Some("reasoning".to_owned()),
                RunPhase::Running => Some("thinking".to_owned()),
                RunPhase::Queued => Some("waiting".to_owned()),
                RunPhase::Idle => (!self.unconfirmed_messages.is_empty()).then(|| "waiting".to_owned()),
            }
        };
        if activity == self.activity {
            return Vec::new();
        }
        self.activity.clone_from(&activity);
        vec![ScreenUpdate::Activity(activity)]
    }
}

fn render_title_change(frame: &Value) -> Vec<ScreenUpdate> {
    // A title that the service made from the first message is no news to its author.
    if text_field(frame, "by") == "system" {
        return Vec::new();
    }
    vec![note_line(format!("title: {}", sanitize_text(text_field(frame, "title"))))]
}

fn render_log_truncated(frame: &Value) -> Vec<ScreenUpdate> {
    let lost = frame["lost"].as_u64().unwrap_or_default();
    let words = match lost {
        0 => "the store failed over or was restarted; the newest events may be lost".to_owned(),
        lost => format!("{lost} events were stored and are lost; what they showed is void"),
    };
    let mut updates = vec![failure_line(words)];
    for call in list_field(frame, "lost_calls") {
        let name = sanitize_text(text_field(call, "name"));
        let arguments = match &call["arguments"] {
            Value::Null => String::new(),
            arguments => format!(" {}", compact_json(arguments, MAX_ARGUMENT_CHARS)),
        };
        updates.push(failure_line(format!("this call was sent, and its record is lost: {name}{arguments}")));
    }
    updates
}

fn render_memories(verb: &str, frame: &Value) -> Vec<ScreenUpdate> {
    let content = |memory| sanitize_text(text_field(memory, "content"));
    list_field(frame, "memories").map(|memory| note_line(format!("{verb}: {}", content(memory)))).collect()
}
