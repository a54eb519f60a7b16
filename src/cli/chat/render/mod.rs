//! From frames to what is shown: a pure state machine, so that every sequence of frames can be tried without a terminal.
//!
//! It knows the contract's few rules (a `token` with offset 0 begins its text anew, an `assistant_message` is the last
//! word, `run_recovered` voids previews) and makes of them output that is only ever appended: what was printed cannot be
//! taken back, so what turns out to be void is said to be. Unknown types and fields are skipped: the contract grows.

mod calls;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::calls::tone_of;
use super::text::{clean, count, duration};

/// Messages of a snapshot that are shown; what is older is counted.
const SNAPSHOT_MESSAGES: usize = 12;

/// The look of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// What the user said.
    User,
    /// A tool at work.
    Tool,
    /// It went well.
    Good,
    /// It did not.
    Bad,
    /// A question to the user.
    Ask,
    /// An aside.
    Note,
}

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// More text of the model; may end in the middle of a line.
    Text(String),
    /// One or more whole lines, on a new line.
    Line(Tone, String),
    /// What is going on now, for the spinner; `None`: nothing.
    Activity(Option<String>),
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Whether a call may run.
    Running,
    /// Something that its server wants to know in the middle of a call.
    Input,
}

/// A tool call that waits for the user's word.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What it is about.
    pub about: About,
    /// The id to answer to.
    pub id: String,
    /// The call that it is for.
    pub tool_call_id: String,
    /// The tool.
    pub name: String,
    /// The exact arguments that approval lets through; for an input, an answer to begin with.
    pub arguments: Value,
}

/// The message that the model is writing.
struct Open {
    message_id: String,
    /// The text by the rules of `token`.
    text: String,
    /// What is on the screen of it.
    printed: String,
    /// Whether the two are the same, so that more text can simply be shown.
    in_step: bool,
}

/// What the session is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    #[default]
    Idle,
    /// A message is logged and its run has not begun.
    Queued,
    /// A run.
    Run,
    /// A run whose model thinks aloud.
    Reasoning,
}

/// A session as the terminal shows it.
#[derive(Default)]
pub struct View {
    /// The seq of the newest event shown.
    last_seq: u64,
    /// The head as of the newest `hello`; up to it the stream is catching up.
    head: u64,
    connected: bool,
    open: Option<Open>,
    /// Messages that are over or void: a preview of them that comes late is not shown.
    closed: BTreeSet<String>,
    /// Names of tool calls by their id.
    calls: BTreeMap<String, String>,
    /// Tool calls that run, with what is said of them.
    running: BTreeMap<String, String>,
    approvals: Vec<Question>,
    /// Approvals that were answered here, by the id of the command; one that is refused is asked for again.
    answers: BTreeMap<String, String>,
    /// Own messages that have not come back as `user_message`.
    awaited: BTreeSet<String>,
    /// Own messages that the terminal shows already, because they were typed there.
    typed: BTreeSet<String>,
    phase: Phase,
    model: Option<(String, String)>,
    activity: Option<String>,
}

impl View {
    /// Notes that a message of this client is on its way. With `typed` the terminal shows its text already.
    pub fn sent(&mut self, command_id: &str, typed: Typed) {
        self.awaited.insert(command_id.to_owned());
        if typed == Typed::Yes {
            self.typed.insert(command_id.to_owned());
        }
    }

    /// Notes that the connection is lost; what is going on is not known until it is back.
    pub fn lost(&mut self) -> Vec<Op> {
        self.connected = false;
        self.running_changed()
    }

    /// Whether there is something to wait for: a run, a message on its way, or the end of the catching up.
    #[must_use]
    pub fn busy(&self) -> bool {
        !self.connected || self.last_seq < self.head || self.in_run()
    }

    /// Whether a run is in progress, or about to be.
    #[must_use]
    pub fn in_run(&self) -> bool {
        self.phase != Phase::Idle || !self.awaited.is_empty()
    }

    /// The approval that waits longest and was not answered here, once it is known to be still open.
    #[must_use]
    pub fn approval(&self) -> Option<&Question> {
        let open = |a: &&Question| !self.answers.values().any(|answered| *answered == a.id);
        self.approvals.iter().find(open).filter(|_| self.connected && self.last_seq >= self.head)
    }

    /// An approval, if it still waits.
    #[must_use]
    pub fn pending(&self, id: &str) -> Option<&Question> {
        self.approvals.iter().find(|approval| approval.id == id)
    }

    /// Notes that an answer to an approval is on its way.
    pub fn answered(&mut self, approval_id: &str, command_id: &str) {
        self.answers.insert(command_id.to_owned(), approval_id.to_owned());
    }

    /// The session's provider and model.
    #[must_use]
    pub fn model(&self) -> Option<(&str, &str)> {
        self.model.as_ref().map(|(provider, model)| (provider.as_str(), model.as_str()))
    }

    /// Takes in the next frame.
    pub fn frame(&mut self, frame: &Value) -> Vec<Op> {
        if let Some(seq) = frame["seq"].as_u64().filter(|_| frame["type"] != "ack") {
            // The stream repeats nothing; if a client connects with an old cursor all the same, it sees nothing twice.
            if seq <= self.last_seq {
                return Vec::new();
            }
            self.last_seq = seq;
        }
        let mut ops = self.shown(frame);
        ops.extend(self.running_changed());
        ops
    }

    fn shown(&mut self, frame: &Value) -> Vec<Op> {
        match text(frame, "type") {
            "hello" => self.hello(frame),
            "snapshot" => self.snapshot(frame),
            "gap" => vec![note("older events of this session are no longer kept")],
            "session_created" | "settings_changed" => self.settings(frame),
            "title_changed" => {
                // One made from the first message tells its author nothing new.
                let made = text(frame, "by") == "system";
                if made { Vec::new() } else { vec![note(format!("title: {}", clean(text(frame, "title"))))] }
            }
            "user_message" => self.user_message(frame),
            "run_started" => {
                self.phase = Phase::Run;
                Vec::new()
            }
            "token" => self.token(frame),
            "reasoning" => {
                self.phase = Phase::Reasoning;
                Vec::new()
            }
            "assistant_message" => self.assistant_message(frame),
            "approval_requested" => self.approval_requested(frame),
            "approval_resolved" => self.approval_resolved(frame),
            "input_requested" => self.input_requested(frame),
            "input_resolved" => self.input_resolved(frame),
            "tool_start" => self.tool_start(frame),
            "tool_progress" => self.tool_progress(frame),
            "tool_end" => self.tool_end(frame),
            "context_compacted" => {
                let tokens = |field: &str| count(frame[field].as_u64().unwrap_or_default());
                let (before, after) = (tokens("tokens_before"), tokens("tokens_after"));
                vec![note(format!("older turns were summarised: {before} tokens became {after}"))]
            }
            "memory_recalled" => memories("recalled", frame),
            "memory_saved" => memories("remembered", frame),
            "run_recovered" => self.run_recovered(frame),
            "run_finished" => self.run_finished(frame),
            "run_failed" => {
                let again = if frame["retryable"] == true { " (the same message may succeed later)" } else { "" };
                let line = format!("{}: {}{again}", clean(text(frame, "code")), clean(text(frame, "message")));
                let mut ops = self.run_over();
                ops.push(Op::Line(Tone::Bad, line));
                ops
            }
            "warning" => vec![Op::Line(Tone::Bad, format!("warning: {}", clean(text(frame, "message"))))],
            "error" => {
                self.awaited.remove(text(frame, "command_id"));
                self.typed.remove(text(frame, "command_id"));
                self.answers.remove(text(frame, "command_id"));
                vec![Op::Line(Tone::Bad, clean(text(frame, "message")))]
            }
            _ => Vec::new(),
        }
    }

    fn hello(&mut self, frame: &Value) -> Vec<Op> {
        self.connected = true;
        self.head = frame["last_seq"].as_u64().unwrap_or(0);
        // Events up to the head are still to come and will say it themselves; without any, this is what is known.
        if self.last_seq >= self.head && frame["status"]["is_processing"] == false {
            self.phase = Phase::Idle;
        }
        Vec::new()
    }

    fn settings(&mut self, frame: &Value) -> Vec<Op> {
        let settings = &frame["settings"];
        self.model = Some((clean(text(settings, "provider")), clean(text(settings, "model"))));
        if text(frame, "type") == "session_created" {
            return Vec::new();
        }
        vec![note(format!("model: {}/{}", clean(text(settings, "provider")), clean(text(settings, "model"))))]
    }

    fn snapshot(&mut self, frame: &Value) -> Vec<Op> {
        let seen = self.last_seq;
        self.last_seq = self.last_seq.max(frame["as_of_seq"].as_u64().unwrap_or(0));
        self.settings(frame);
        let messages = frame["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let new: Vec<&Value> = messages.iter().filter(|m| m["seq"].as_u64().unwrap_or(0) > seen).collect();
        let hidden = new.len().saturating_sub(SNAPSHOT_MESSAGES);
        let mut ops = Vec::new();
        if hidden > 0 {
            ops.push(note(format!("… {hidden} older messages")));
        }
        let mut unanswered = BTreeMap::new();
        for (index, message) in new.into_iter().enumerate() {
            let shown = index >= hidden;
            match text(message, "role") {
                "user" if shown => ops.push(Op::Line(Tone::User, format!("> {}", clean(text(message, "content"))))),
                "assistant" => {
                    let content = clean(text(message, "content"));
                    if shown && !content.trim().is_empty() {
                        ops.push(Op::Line(Tone::Plain, content));
                    }
                    for call in calls_of(message) {
                        unanswered.insert(text(call, "id").to_owned(), text(call, "name").to_owned());
                        self.calls.insert(text(call, "id").to_owned(), text(call, "name").to_owned());
                    }
                }
                "tool" => {
                    unanswered.remove(text(message, "tool_call_id"));
                    if shown {
                        let line = format!("{} {}", clean(text(message, "name")), clean(text(message, "status")));
                        ops.push(Op::Line(tone_of(text(message, "status")), line));
                    }
                }
                _ => {}
            }
        }
        self.open = None;
        self.running.clear();
        let running = frame["open_run"].is_string();
        self.phase = if running { Phase::Run } else { Phase::Idle };
        self.approvals.clear();
        for pending in frame["pending_approvals"].as_array().map(Vec::as_slice).unwrap_or_default() {
            unanswered.remove(text(pending, "tool_call_id"));
            ops.extend(self.approval_requested(pending));
        }
        for pending in frame["pending_inputs"].as_array().map(Vec::as_slice).unwrap_or_default() {
            ops.extend(self.input_requested(pending));
        }
        if running {
            self.running = unanswered;
        }
        ops
    }

    fn user_message(&mut self, frame: &Value) -> Vec<Op> {
        let command = text(frame, "command_id");
        self.awaited.remove(command);
        if self.phase == Phase::Idle {
            self.phase = Phase::Queued;
        }
        if self.typed.remove(command) {
            return Vec::new();
        }
        vec![Op::Line(Tone::User, format!("> {}", clean(text(frame, "content"))))]
    }

    fn token(&mut self, frame: &Value) -> Vec<Op> {
        let id = text(frame, "message_id");
        if self.closed.contains(id) {
            return Vec::new();
        }
        self.thought();
        let mut ops = self.open_message(id);
        let Some(open) = &mut self.open else { return ops };
        let offset = frame["offset"].as_u64().and_then(|o| usize::try_from(o).ok()).unwrap_or(0);
        let content = text(frame, "content");
        if offset == 0 {
            content.clone_into(&mut open.text);
        } else if offset == open.text.len() {
            open.text.push_str(content);
            if open.in_step {
                let more = clean(content);
                open.printed.push_str(&more);
                ops.push(Op::Text(more));
                return ops;
            }
        } else {
            // Within a connection there are no holes; where one is all the same, the whole message fills it.
            return ops;
        }
        ops.extend(open.catch_up());
        ops
    }

    /// The model says something after it has thought.
    fn thought(&mut self) {
        if self.phase == Phase::Reasoning {
            self.phase = Phase::Run;
        }
    }

    /// Makes `id` the message that is being written; another that is open is over.
    fn open_message(&mut self, id: &str) -> Vec<Op> {
        if self.open.as_ref().is_some_and(|open| open.message_id == id) {
            return Vec::new();
        }
        let ops = self.close_open("the text above was not finished");
        self.open =
            Some(Open { message_id: id.to_owned(), text: String::new(), printed: String::new(), in_step: true });
        ops
    }

    /// Ends the open message without its last word.
    fn close_open(&mut self, why: &str) -> Vec<Op> {
        match self.open.take() {
            Some(open) if !open.printed.is_empty() => {
                self.closed.insert(open.message_id);
                vec![note(why.to_owned())]
            }
            _ => Vec::new(),
        }
    }

    fn assistant_message(&mut self, frame: &Value) -> Vec<Op> {
        let id = text(frame, "message_id");
        let mut ops = self.open_message(id);
        if let Some(open) = &mut self.open {
            text(frame, "content").clone_into(&mut open.text);
            ops.extend(open.catch_up());
            if !open.printed.is_empty() && !open.printed.ends_with('\n') {
                ops.push(Op::Text("\n".to_owned()));
            }
        }
        self.open = None;
        self.thought();
        self.closed.insert(id.to_owned());
        for call in calls_of(frame) {
            self.calls.insert(text(call, "id").to_owned(), text(call, "name").to_owned());
        }
        match text(frame, "stop_reason") {
            "max_tokens" => ops.push(note("the reply was cut off at the limit of tokens")),
            "refusal" => ops.push(note("the model, or its provider's filter, would not go on")),
            "cancelled" => ops.push(note("cancelled here")),
            _ => {}
        }
        ops
    }

    fn run_recovered(&mut self, frame: &Value) -> Vec<Op> {
        let superseded: Vec<&str> =
            frame["superseded"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let void = self.open.as_ref().is_some_and(|open| superseded.contains(&open.message_id.as_str()));
        self.closed.extend(superseded.into_iter().map(str::to_owned));
        let mut line = format!("interrupted ({}), going on", clean(text(frame, "reason")));
        if void && self.open.take().is_some_and(|open| !open.printed.is_empty()) {
            line += "; the unfinished text above is void";
        }
        self.phase = Phase::Run;
        self.running.clear();
        vec![note(line)]
    }

    fn run_finished(&mut self, frame: &Value) -> Vec<Op> {
        let mut facts = match text(frame, "outcome") {
            "cancelled" => vec!["cancelled".to_owned()],
            "limit" => vec!["stopped at a limit".to_owned()],
            _ => Vec::new(),
        };
        facts.extend(frame["duration_ms"].as_u64().map(duration));
        let usage = &frame["usage"];
        if let (Some(input), Some(output)) = (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64())
            && input + output > 0
        {
            facts.push(format!("{} tokens in, {} out", count(input), count(output)));
        }
        facts.extend(usage["cost_usd"].as_f64().filter(|cost| *cost > 0.0).map(|cost| format!("${cost:.4}")));
        let mut ops = self.run_over();
        ops.push(note(facts.join(" · ")));
        ops
    }

    fn run_over(&mut self) -> Vec<Op> {
        self.phase = Phase::Idle;
        self.running.clear();
        self.approvals.clear();
        self.answers.clear();
        let ops = self.close_open("the text above was not finished");
        self.calls.clear();
        ops
    }

    /// The spinner's new words, if they have changed.
    fn running_changed(&mut self) -> Vec<Op> {
        let now = if !self.connected || !self.approvals.is_empty() {
            None
        } else if self.running.len() > 1 {
            let names: Vec<_> = self.running.values().map(String::as_str).collect();
            Some(format!("{} tools: {}", names.len(), names.join(", ")))
        } else if let Some(said) = self.running.values().next() {
            Some(said.clone())
        } else if self.open.as_ref().is_some_and(|open| !open.printed.is_empty()) {
            None
        } else {
            match self.phase {
                Phase::Reasoning => Some("reasoning".to_owned()),
                Phase::Run => Some("thinking".to_owned()),
                Phase::Queued => Some("waiting".to_owned()),
                Phase::Idle => (!self.awaited.is_empty()).then(|| "waiting".to_owned()),
            }
        };
        if now == self.activity {
            return Vec::new();
        }
        self.activity.clone_from(&now);
        vec![Op::Activity(now)]
    }
}

/// Whether a message's text stands in the terminal already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// It was typed there.
    Yes,
    /// It came through a pipe.
    No,
}

impl Open {
    /// Shows what is not on the screen yet.
    fn catch_up(&mut self) -> Vec<Op> {
        let text = clean(&self.text);
        self.in_step = true;
        let ops = if let Some(more) = text.strip_prefix(&self.printed) {
            if more.is_empty() {
                return Vec::new();
            }
            vec![Op::Text(more.to_owned())]
        } else if self.printed.starts_with(&text) {
            // A new connection begins with what there was so far, which may be less than the old one had shown.
            self.in_step = false;
            return Vec::new();
        } else {
            vec![note("the text above is void, this is how it reads now:"), Op::Text(text.clone())]
        };
        self.printed = text;
        ops
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn calls_of(message: &Value) -> impl Iterator<Item = &Value> {
    message["tool_calls"].as_array().into_iter().flatten()
}

/// What was recalled, or is remembered from now on; nothing to say when there is nothing.
fn memories(verb: &str, frame: &Value) -> Vec<Op> {
    let memories = frame["memories"].as_array().into_iter().flatten();
    memories.map(|memory| note(format!("{verb}: {}", clean(text(memory, "content"))))).collect()
}

fn note(line: impl Into<String>) -> Op {
    Op::Line(Tone::Note, line.into())
}
