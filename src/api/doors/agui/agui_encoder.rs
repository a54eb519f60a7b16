//! A run as events of AG-UI.

use std::collections::HashMap;

use k8sops_core::{
    AssistantMessageEvent, EventBody, MessageId, RunOutcome, SessionId, StreamFrame, TextDelta, TokenUsage, ToolCallId,
    ToolEnd, ToolProgress, TransientEvent,
};
use serde_json::{Value, json};

use super::{
    agui_event::{AgUiEvent, RunOutcomeValue, RunUsage},
    conversation::{AgUiConversation, new_question_id, result_message_id},
    interrupts::describe_interrupts,
    run_input::ClientGeneration,
};
use crate::api::doors::{run_cursor::RunRest, turn_stream::TurnEncoder, waiting_interactions::WaitingInteractions};

/// The type of the activity that shows a tool call.
const TOOL_ACTIVITY: &str = "k8sops.tool";
/// The role of messages of the model.
const ASSISTANT: &str = "assistant";

/// Whether a stream begins with the conversation so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpeningSnapshot {
    Sent,
    Omitted,
}

/// What a client called its thread and its run.
#[derive(Debug, Clone)]
pub(super) struct ClientRun {
    pub(super) thread_id: String,
    pub(super) run_id: String,
    pub(super) generation: ClientGeneration,
}

/// Writes a run as events.
pub(super) struct AgUiEncoder {
    client: ClientRun,
    session: SessionId,
    conversation: AgUiConversation,
    opening: OpeningSnapshot,
    /// The open text message, and how many bytes of it were sent.
    open_text: Option<(MessageId, usize)>,
    open_reasoning: Option<MessageId>,
    /// Text was sent that is void; a snapshot corrects it.
    has_void_text: bool,
    /// The calls whose activity was sent, with what it shows.
    activities: HashMap<ToolCallId, Value>,
    model: (String, String),
    usage: TokenUsage,
}

impl AgUiEncoder {
    pub(super) fn new(
        client: ClientRun,
        session: SessionId,
        conversation: AgUiConversation,
        opening: OpeningSnapshot,
    ) -> Self {
        Self {
            client,
            session,
            conversation,
            opening,
            open_text: None,
            open_reasoning: None,
            has_void_text: false,
            activities: HashMap::new(),
            model: (String::new(), String::new()),
            usage: TokenUsage::default(),
        }
    }

    /// Writes a stream without a run: the conversation, a text for the user, and what the session waits for.
    pub(super) fn encode_without_run(&mut self, text: Option<&str>, waiting: &WaitingInteractions) -> String {
        let mut out = String::new();
        self.encode_start(&mut out);
        if let Some(text) = text {
            write_text(MessageId::new().to_string(), text, &mut out);
        }
        if waiting.is_empty() {
            self.write_finished(Some(RunOutcomeValue::Success), &mut out);
        } else {
            self.write_interrupt(waiting, &mut out);
        }
        out
    }

    fn write_snapshot(&mut self, out: &mut String) {
        self.has_void_text = false;
        AgUiEvent::MessagesSnapshot { messages: self.conversation.messages() }.write(out);
    }

    fn add_text(&mut self, delta: &TextDelta, out: &mut String) {
        self.close_reasoning(out);
        let sent = match self.open_text {
            Some((id, sent)) if id == delta.message_id => sent,
            _ => {
                self.close_text(out);
                let message_id = delta.message_id.to_string();
                AgUiEvent::TextMessageStart { message_id, role: ASSISTANT }.write(out);
                0
            }
        };
        // A text that starts over cannot be taken back. What was sent stays until a snapshot corrects it.
        self.has_void_text |= delta.offset < sent;
        if !delta.content.is_empty() {
            AgUiEvent::TextMessageContent { message_id: delta.message_id.to_string(), delta: &delta.content }
                .write(out);
        }
        self.open_text = Some((delta.message_id, delta.offset + delta.content.len()));
    }

    fn close_text(&mut self, out: &mut String) {
        if let Some((id, _)) = self.open_text.take() {
            AgUiEvent::TextMessageEnd { message_id: id.to_string() }.write(out);
        }
    }

    fn add_reasoning(&mut self, delta: &TextDelta, out: &mut String) {
        let message_id = reasoning_id(delta.message_id);
        if self.open_reasoning != Some(delta.message_id) {
            self.close_reasoning(out);
            self.open_reasoning = Some(delta.message_id);
            AgUiEvent::ReasoningStart { message_id: message_id.clone() }.write(out);
            AgUiEvent::ReasoningMessageStart { message_id: message_id.clone(), role: "reasoning" }.write(out);
        }
        if !delta.content.is_empty() {
            AgUiEvent::ReasoningMessageContent { message_id, delta: &delta.content }.write(out);
        }
    }

    fn close_reasoning(&mut self, out: &mut String) {
        if let Some(id) = self.open_reasoning.take() {
            AgUiEvent::ReasoningMessageEnd { message_id: reasoning_id(id) }.write(out);
            AgUiEvent::ReasoningEnd { message_id: reasoning_id(id) }.write(out);
        }
    }

    fn close_messages(&mut self, out: &mut String) {
        self.close_reasoning(out);
        self.close_text(out);
    }

    fn encode_event(&mut self, body: &EventBody, out: &mut String) {
        self.conversation.apply_event(body);
        if let Some(usage) = body.model_usage() {
            self.usage += usage;
        }
        match body {
            // A client that attached has no message that was logged after its snapshot.
            EventBody::UserMessage(_) if self.opening == OpeningSnapshot::Sent => {
                self.close_messages(out);
                self.write_snapshot(out);
            }
            EventBody::RunStarted(started) => self.model = (started.provider.clone(), started.model.clone()),
            EventBody::AssistantMessage(message) => self.end_message(message, out),
            EventBody::ToolStart(start) => {
                let shown = json!({"toolCallId": start.tool_call_id, "name": start.name, "server": start.server,
                    "effect": start.effect, "status": "running"});
                self.write_activity(&start.tool_call_id, shown, out);
            }
            EventBody::ToolEnd(end) => self.end_call(end, out),
            EventBody::RunRecovered(recovered) => {
                self.close_messages(out);
                write_custom("run_recovered", json!({"attempt": recovered.attempt, "reason": recovered.reason}), out);
                self.write_snapshot(out);
            }
            EventBody::Warning(_)
            | EventBody::ApprovalResolved(_)
            | EventBody::MemoryRecalled(_)
            | EventBody::ContextCompacted(_) => {
                write_custom(body.event_type(), serde_json::to_value(body).unwrap_or_default(), out);
            }
            _ => {}
        }
    }

    fn end_message(&mut self, message: &AssistantMessageEvent, out: &mut String) {
        self.close_messages(out);
        if self.has_void_text {
            self.write_snapshot(out);
            return;
        }
        for call in &message.tool_calls {
            let tool_call_id = call.id.as_str();
            let parent_message_id = message.message_id.to_string();
            AgUiEvent::ToolCallStart { tool_call_id, tool_call_name: &call.name, parent_message_id }.write(out);
            AgUiEvent::ToolCallArgs { tool_call_id, delta: &call.arguments.to_string() }.write(out);
            AgUiEvent::ToolCallEnd { tool_call_id }.write(out);
        }
    }

    fn end_call(&mut self, end: &ToolEnd, out: &mut String) {
        if let Some(mut shown) = self.activities.remove(&end.tool_call_id) {
            shown["status"] = end.status.as_str().into();
            shown["durationMs"] = end.duration_ms.into();
            self.write_activity(&end.tool_call_id, shown, out);
            self.activities.remove(&end.tool_call_id);
        }
        AgUiEvent::ToolCallResult {
            message_id: result_message_id(&end.tool_call_id),
            tool_call_id: end.tool_call_id.as_str(),
            content: &end.content,
            role: "tool",
            metadata: json!({"k8sops": {"status": end.status, "bytes": end.bytes, "truncated": end.truncated}}),
        }
        .write(out);
    }

    fn add_progress(&mut self, progress: &ToolProgress, out: &mut String) {
        let known = self.activities.get(&progress.tool_call_id).cloned();
        let mut shown = known.unwrap_or_else(|| json!({"toolCallId": progress.tool_call_id, "status": "running"}));
        shown["progress"] = json!(progress.progress);
        if let Some(total) = progress.total {
            shown["total"] = json!(total);
        }
        if let Some(message) = &progress.message {
            shown["message"] = message.as_str().into();
        }
        self.write_activity(&progress.tool_call_id, shown, out);
    }

    fn write_activity(&mut self, call: &ToolCallId, shown: Value, out: &mut String) {
        let message_id = format!("activity-{call}");
        AgUiEvent::ActivitySnapshot { message_id, activity_type: TOOL_ACTIVITY, content: shown.clone(), replace: true }
            .write(out);
        self.activities.insert(call.clone(), shown);
    }

    fn write_interrupt(&self, waiting: &WaitingInteractions, out: &mut String) {
        if self.client.generation == ClientGeneration::BeforeVersion1 {
            // Such a client may know no interrupts, and show nothing but text.
            write_text(new_question_id(), &waiting.describe(), out);
        }
        let interrupts = describe_interrupts(waiting);
        self.write_finished(Some(RunOutcomeValue::Interrupt { interrupts }), out);
    }

    fn write_finished(&self, outcome: Option<RunOutcomeValue>, out: &mut String) {
        let (provider, model) = &self.model;
        let usage = match self.usage.total_tokens() {
            0 => Vec::new(),
            _ => vec![RunUsage::new(provider, model, &self.usage)],
        };
        let ClientRun { thread_id, run_id, .. } = &self.client;
        AgUiEvent::RunFinished { thread_id, run_id, outcome, usage }.write(out);
    }

    /// Writes the end of a run that did not complete: as its outcome, or as text for clients that fail on it.
    fn write_cancelled(&self, why: &str, out: &mut String) {
        match self.client.generation {
            ClientGeneration::Version1 => self.write_finished(Some(RunOutcomeValue::Cancelled), out),
            ClientGeneration::BeforeVersion1 => {
                write_text(MessageId::new().to_string(), why, out);
                self.write_finished(None, out);
            }
        }
    }
}

impl TurnEncoder for AgUiEncoder {
    fn encode_start(&mut self, out: &mut String) {
        let version_1 = self.client.generation == ClientGeneration::Version1;
        AgUiEvent::RunStarted {
            thread_id: &self.client.thread_id,
            run_id: &self.client.run_id,
            protocol_version: version_1.then_some("1.0"),
            metadata: json!({"k8sops": {"sessionId": self.session}}),
        }
        .write(out);
        if self.opening == OpeningSnapshot::Sent {
            self.write_snapshot(out);
        }
    }

    fn encode_frame(&mut self, frame: &StreamFrame, out: &mut String) {
        match frame {
            StreamFrame::Event(event) => self.encode_event(&event.body, out),
            StreamFrame::Transient(TransientEvent::Token(delta)) => self.add_text(delta, out),
            StreamFrame::Transient(TransientEvent::Reasoning(delta)) => self.add_reasoning(delta, out),
            StreamFrame::Transient(TransientEvent::ToolProgress(progress)) => self.add_progress(progress, out),
            StreamFrame::Transient(TransientEvent::Warning(warning)) => {
                write_custom("warning", json!({"code": warning.code, "message": warning.message}), out);
            }
            StreamFrame::Transient(_) => {}
        }
    }

    fn encode_rest(&mut self, rest: &RunRest, out: &mut String) {
        self.close_messages(out);
        match rest {
            RunRest::Finished(finished) => match finished.outcome {
                RunOutcome::Completed => self.write_finished(Some(RunOutcomeValue::Success), out),
                RunOutcome::Cancelled => self.write_cancelled("The run was cancelled.", out),
                RunOutcome::Limit => self.write_cancelled("A limit of the run was reached.", out),
            },
            RunRest::Failed(failed) => AgUiEvent::RunError { message: &failed.message, code: &failed.code }.write(out),
            RunRest::Waiting(waiting) => {
                self.write_snapshot(out);
                self.write_interrupt(waiting, out);
            }
            RunRest::Interrupted(why) => {
                AgUiEvent::RunError { message: &why.message(), code: why.code() }.write(out);
            }
        }
    }
}

fn reasoning_id(message: MessageId) -> String {
    format!("reasoning-{message}")
}

fn write_text(message_id: String, text: &str, out: &mut String) {
    AgUiEvent::TextMessageStart { message_id: message_id.clone(), role: ASSISTANT }.write(out);
    AgUiEvent::TextMessageContent { message_id: message_id.clone(), delta: text }.write(out);
    AgUiEvent::TextMessageEnd { message_id }.write(out);
}

fn write_custom(name: &str, value: Value, out: &mut String) {
    AgUiEvent::Custom { name: format!("k8sops:{name}"), value }.write(out);
}
