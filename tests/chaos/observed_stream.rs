//! What a client has received of a session, and what it knows to be lost.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use serde_json::Value;

/// A logged event, as much of it as the test compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedEvent {
    pub seq: u64,
    pub event_type: String,
    /// The id of what the event is about: an approval, a message, or else a run.
    pub subject: String,
    /// Of the whole event.
    digest: u64,
    /// The beginning of the event, for reports.
    pub excerpt: String,
}

impl ObservedEvent {
    pub(crate) fn from_frame(frame: &Value) -> Option<Self> {
        let seq = frame["seq"].as_u64()?;
        let event_type = frame["type"].as_str().unwrap_or_default().to_owned();
        let subject = match event_type.as_str() {
            "approval_requested" | "approval_resolved" => &frame["approval_id"],
            "user_message" => &frame["message_id"],
            _ => &frame["run_id"],
        };
        let mut hasher = DefaultHasher::new();
        frame.to_string().hash(&mut hasher);
        let subject = subject.as_str().unwrap_or_default().to_owned();
        let excerpt = frame.to_string().chars().take(400).collect();
        Some(Self { seq, event_type, subject, digest: hasher.finish(), excerpt })
    }
}

/// A message that was accepted with 202.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AcceptedMessage {
    /// Its `Idempotency-Key`.
    pub key: String,
    pub message_id: String,
    pub run_id: String,
}

/// Something that a replica has acknowledged to the client.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledgement<T> {
    pub what: T,
    pub at: Instant,
}

/// The text of a message that a connection has received as previews.
#[derive(Debug, Default)]
pub(crate) struct PreviewText {
    message_id: String,
    text: String,
}

/// What the client has received.
#[derive(Default)]
pub(crate) struct ObservedStream {
    /// Logged events in the order of their arrival, without those that are known to be lost.
    pub events: Vec<ObservedEvent>,
    pub last_seq: u64,
    /// Events that are known to be lost, by their seq.
    lost: HashMap<u64, ObservedEvent>,
    /// When the client was told of a loss: by `gap`, by `log_truncated`, or because its session is gone.
    pub announcements: Vec<Instant>,
    /// Whether a snapshot follows that replaces what was received.
    is_gap_open: bool,
    /// Whether the client has to read the log from its beginning.
    pub must_reload: bool,
    /// Seqs of lost events that other events have got.
    pub reused: Vec<String>,
    /// Gaps for another reason than a loss.
    pub unexpected_gaps: u64,
    /// Seqs that were skipped.
    pub skipped: u64,
    /// Events that arrived again.
    pub repeated: u64,
    /// Events that first arrived after later ones.
    pub out_of_order: u64,
    /// Previews whose offset or text did not match the text before, in words.
    pub misplaced_previews: Vec<String>,
    pub tokens: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Retries of messages and approvals.
    pub retries: u64,
    /// The messages in the log, by their texts.
    pub messages: HashMap<String, AcceptedMessage>,
    /// The texts of messages as a door showed them to their end: message id and text.
    pub door_texts: Vec<(String, String)>,
    pub accepted: Vec<Acknowledgement<AcceptedMessage>>,
    /// Answered approval requests, by their ids.
    pub approved: Vec<Acknowledgement<String>>,
    /// Runs of messages of which the client learned by sending them again that they are lost.
    pub superseded: HashSet<String>,
    /// Messages for which one `Idempotency-Key` returned different receipts.
    pub accepted_twice: u64,
    /// What should not have happened, in words.
    pub problems: Vec<String>,
}

impl ObservedStream {
    /// Records a frame of a connection.
    pub(crate) fn record_frame(&mut self, frame: &Value, preview: &mut PreviewText) {
        let text = |name: &str| frame[name].as_str().unwrap_or_default();
        if let Some(event) = ObservedEvent::from_frame(frame) {
            if text("type") == "assistant_message" && text("message_id") == preview.message_id {
                // The previews are the message or its beginning.
                if !text("content").starts_with(&preview.text) {
                    self.misplaced_previews.push(format!("after {preview:?} came {frame}"));
                }
            }
            if text("type") == "user_message" {
                let field = |name: &str| text(name).to_owned();
                let message =
                    AcceptedMessage { key: field("content"), message_id: field("message_id"), run_id: field("run_id") };
                self.messages.insert(message.key.clone(), message);
            }
            if text("type") == "log_truncated" {
                self.announcements.push(Instant::now());
                self.drop_lost_events(frame["from_seq"].as_u64().unwrap_or_default());
                self.last_seq = event.seq - 1;
            }
            self.record_event(event);
            return;
        }
        match text("type") {
            "token" => {
                self.tokens += 1;
                if frame["offset"] == 0 {
                    *preview = PreviewText { message_id: text("message_id").to_owned(), text: String::new() };
                }
                let continues = frame["offset"] == preview.text.len() && text("message_id") == preview.message_id;
                if !continues {
                    self.misplaced_previews.push(format!("after {preview:?} came {frame}"));
                }
                preview.text.push_str(text("content"));
            }
            "gap" => {
                let is_loss = frame["reason"] == "log_truncated";
                self.unexpected_gaps += u64::from(!is_loss);
                self.announcements.push(Instant::now());
                self.is_gap_open = true;
            }
            "snapshot" if std::mem::take(&mut self.is_gap_open) => {
                let as_of_seq = frame["as_of_seq"].as_u64().unwrap_or_default();
                // A snapshot of what the client had is followed by all that is new. Any other one replaces everything, and
                // the client reads the log again, because the test compares events and not snapshots.
                let is_known = as_of_seq < self.last_seq && self.events.iter().any(|event| event.seq == as_of_seq);
                self.must_reload = !is_known;
                let kept = if is_known { as_of_seq } else { 0 };
                self.drop_lost_events(kept + 1);
                self.last_seq = kept;
                *preview = PreviewText::default();
            }
            "warning" if text("code") == "session_deleted" => self.announcements.push(Instant::now()),
            _ => {}
        }
    }

    fn record_event(&mut self, event: ObservedEvent) {
        if let Some(lost) = self.lost.get(&event.seq)
            && *lost != event
        {
            self.reused.push(format!("{} was first {}", event.excerpt, lost.excerpt));
        }
        if event.seq > self.last_seq {
            self.skipped += event.seq - self.last_seq - 1;
            self.last_seq = event.seq;
        } else if self.events.iter().any(|known| known.seq == event.seq) {
            self.repeated += 1;
        } else {
            self.out_of_order += 1;
        }
        self.events.push(event);
    }

    fn drop_lost_events(&mut self, from_seq: u64) {
        let (kept, lost): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events).into_iter().partition(|event| event.seq < from_seq);
        self.events = kept;
        self.lost.extend(lost.into_iter().map(|event| (event.seq, event)));
    }

    /// Whether the client was told of a loss after something was acknowledged.
    pub(crate) fn is_loss_announced_since(&self, at: Instant) -> bool {
        self.announcements.last().is_some_and(|last| *last >= at)
    }

    pub(crate) fn has_run_ended(&self, run_id: &str) -> bool {
        let ends = |event: &&ObservedEvent| event.event_type == "run_finished" || event.event_type == "run_failed";
        self.events.iter().rev().filter(ends).any(|event| event.subject == run_id)
    }

    /// Returns the approval requests without an answer.
    pub(crate) fn open_approvals(&self) -> Vec<String> {
        let ids = |event_type: &'static str| {
            self.events.iter().filter(move |event| event.event_type == event_type).map(|event| &event.subject)
        };
        let resolved: HashSet<&String> = ids("approval_resolved").collect();
        ids("approval_requested").filter(|id| !resolved.contains(id)).cloned().collect()
    }

    /// Formats the newest events for an error text.
    pub(crate) fn format_newest_events(&self) -> String {
        let newest = &self.events[self.events.len().saturating_sub(15)..];
        let lines = newest.iter().map(|event| format!("   {} {} {}", event.seq, event.event_type, event.subject));
        lines.collect::<Vec<_>>().join("\n")
    }
}
