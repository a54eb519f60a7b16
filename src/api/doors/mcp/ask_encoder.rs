//! A run as messages of the protocol: progress, elicitations, and the result.

use std::collections::BTreeSet;

use k8sops_core::{EventBody, StreamFrame, TransientEvent};
use serde_json::{Map, Value, json};

use super::{
    ask_result::AskResult,
    client_protocol::ProtocolEra,
    elicitation::{FormAudience, InteractionKey},
    json_rpc::{notification_json, request_json, result_json},
    stream_token::{StreamToken, encode_token},
};
use crate::api::doors::{
    run_cursor::RunRest,
    turn_stream::{AfterWaiting, TurnEncoder},
    waiting_interactions::WaitingInteractions,
};

/// How long a client waits before it opens a stream again, in milliseconds.
const RECONNECT_DELAY_MS: u32 = 1000;

/// How much progress grows without an event.
const PROGRESS_PART: f64 = 0.001;
/// The longest message of a progress notification, in characters. Hosts show it in a line.
const PROGRESS_CHARS: usize = 200;

/// Whether the places where the run waited are news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunHistory {
    /// The run is followed as it happens.
    Live,
    /// The run has ended, and is read from its beginning.
    Ended,
}

/// Whether the stream begins with its id, by which a client can open it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamResumption {
    Offered,
    Unknown,
}

/// Writes a run for the client that asked for it.
pub(super) struct AskEncoder {
    pub(super) era: ProtocolEra,
    pub(super) audience: FormAudience,
    pub(super) token: StreamToken,
    pub(super) resumption: StreamResumption,
    pub(super) history: RunHistory,
    /// What is said before the answer.
    pub(super) preface: Option<&'static str>,
    pub(super) state: EncoderState,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct EncoderState {
    /// The newest text of the agent.
    text: String,
    /// The seq of the newest event. Progress is counted by it, so that it grows on a stream that is opened again, too.
    seq: u64,
    /// The newest progress.
    progress: f64,
    /// The forms that were shown.
    shown: BTreeSet<InteractionKey>,
}

impl AskEncoder {
    fn write_progress(&mut self, message: &str, out: &mut String) {
        let Some(token) = &self.token.progress_token else { return };
        // What is between two events of the log is a part of a step.
        self.state.progress = (self.state.progress + PROGRESS_PART).max(self.state.seq as f64);
        let params = json!({"progressToken": token, "progress": self.state.progress, "message": short_line(message)});
        write_message(&notification_json("notifications/progress", &params), out);
    }

    fn write_result(&self, result: Value, out: &mut String) {
        write_message(&result_json(&self.token.request_id, result), out);
    }

    /// Returns the answer so far, behind its preface.
    fn text(&self) -> String {
        let parts = [self.preface.unwrap_or_default(), &self.state.text];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }

    /// Returns a result that asks the client to answer forms, and to send its request again.
    fn input_required(&self, waiting: &WaitingInteractions) -> Option<Value> {
        let forms = self.audience.describe_forms(waiting).into_iter();
        let requests: Map<String, Value> = forms
            .map(|form| (form.key.name(), json!({"method": "elicitation/create", "params": form.params})))
            .collect();
        (!requests.is_empty()).then(|| {
            json!({
                "resultType": "input_required",
                "inputRequests": requests,
                "requestState": encode_token(&self.token.place),
            })
        })
    }

    fn encode_event(&mut self, body: &EventBody, out: &mut String) {
        match body {
            EventBody::AssistantMessage(message) if !message.content.is_empty() => {
                self.state.text.clone_from(&message.content);
                if !message.tool_calls.is_empty() {
                    self.write_progress(&message.content, out);
                }
            }
            EventBody::ToolStart(start) if start.sent => {
                self.write_progress(&format!("Calling {} on {}", start.name, start.server), out);
            }
            EventBody::ToolEnd(end) => {
                self.write_progress(&format!("{}: {}", end.name, end.status.as_str()), out);
            }
            EventBody::RunRecovered(_) => self.write_progress("Resuming after an interruption", out),
            _ => {}
        }
    }
}

impl TurnEncoder for AskEncoder {
    fn encode_start(&mut self, out: &mut String) {
        if self.resumption == StreamResumption::Offered {
            out.push_str(&format!("id: {}\ndata: \n\n", encode_token(&self.token)));
        }
    }

    fn encode_frame(&mut self, frame: &StreamFrame, out: &mut String) {
        match frame {
            StreamFrame::Event(event) => {
                self.state.seq = event.seq;
                self.encode_event(&event.body, out);
            }
            StreamFrame::Transient(TransientEvent::ToolProgress(progress)) => {
                if let Some(message) = progress.message.as_deref().filter(|message| !message.is_empty()) {
                    self.write_progress(message, out);
                }
            }
            StreamFrame::Transient(_) => {}
        }
    }

    fn encode_keep_alive(&mut self, out: &mut String) {
        out.push_str(": keep-alive\n\n");
        // Clients give up on a request that shows no progress, not on one whose connection is silent.
        let message = if self.state.shown.is_empty() { "Working" } else { "Working, or waiting for an answer" };
        self.write_progress(message, out);
    }

    fn handle_waiting(&mut self, waiting: &WaitingInteractions, out: &mut String) -> AfterWaiting {
        if self.history == RunHistory::Ended {
            return AfterWaiting::Continues;
        }
        let forms = self.audience.describe_forms(waiting);
        if self.era == ProtocolEra::PerRequest || forms.is_empty() {
            return AfterWaiting::Ends;
        }
        for form in forms {
            if self.state.shown.insert(form.key) {
                let id = form.key.request_id(self.token.place.session);
                write_message(&request_json(&id, "elicitation/create", &form.params), out);
            }
        }
        AfterWaiting::Continues
    }

    fn encode_rest(&mut self, rest: &RunRest, out: &mut String) {
        match rest {
            RunRest::Interrupted(why) if self.resumption == StreamResumption::Offered && why.code() == "reconnect" => {
                // Without a response, the client opens the stream again, on another replica.
                out.push_str(&format!("retry: {RECONNECT_DELAY_MS}\n\n"));
                return;
            }
            RunRest::Waiting(waiting) if self.era == ProtocolEra::PerRequest => {
                if let Some(result) = self.input_required(waiting) {
                    self.write_result(result, out);
                    return;
                }
            }
            _ => {}
        }
        let place = self.token.place;
        let result = AskResult::from_rest(place.session, place.run, &self.text(), rest).to_json(self.era);
        self.write_result(result, out);
    }
}

/// Returns the first line of a text, cut to what a host can show.
fn short_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(PROGRESS_CHARS).collect()
}

fn write_message(json: &str, out: &mut String) {
    out.push_str(&format!("event: message\ndata: {json}\n\n"));
}
