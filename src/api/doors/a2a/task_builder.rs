//! Turns a run into a task, and into the updates of a task.

use data_encoding::HEXLOWER;
use k8sops_core::{
    AssistantMessageEvent, CommandBody, CommandId, EventBody, InboxEntry, MessageId, RunOutcome, SessionEvent,
    StreamFrame, TextDelta, Timestamp, ToolEnd, ToolStart, TransientEvent,
};
use serde_json::{Map, Value, json};

use super::{
    client_message::client_message_id,
    human_input::{HITL_EXTENSION, describe_request},
    service_parameters::HitlActivation,
    task_id::TaskId,
    task_query::{ArtifactInclusion, HistoryLength},
    task_resource::{
        AgentMessage, ArtifactUpdate, MessageRole, StatusUpdate, StreamItem, TaskResource, TaskState, TaskStatus,
        TextPart,
    },
    text_artifact::{ArtifactChunk, TextArtifact},
};
use crate::api::doors::{
    preceding_run::PrecedingWait,
    run_cursor::{RunInterruption, RunRest},
    waiting_interactions::{InteractionId, WaitingInteractions},
};

/// The name of a text that ends a run.
const ANSWER: &str = "answer";
/// The name of a text before tool calls.
const COMMENTARY: &str = "commentary";
/// Said of a task that cannot start.
const BEHIND_WAITING: &str = "The task waits for another task of its context, which waits for an answer.";
/// The key of what programs that know k8sops read.
const METADATA_KEY: &str = "k8sops";

/// A task as far as its run is.
#[derive(Debug, Clone)]
pub(super) struct TaskBuilder {
    id: TaskId,
    context: String,
    hitl: HitlActivation,
    status: TaskStatus,
    artifacts: Vec<TextArtifact>,
    /// The message of the client.
    request: Option<AgentMessage>,
    /// What the agent asked and got answers to.
    asked: Vec<AgentMessage>,
    last_seq: u64,
    last_ts: Timestamp,
}

impl TaskBuilder {
    /// A task whose run has not started. `context` is the name that its session has for the client.
    pub(super) fn new(id: TaskId, context: Option<&str>, hitl: HitlActivation) -> Self {
        let created = id.run.created_at();
        Self {
            id,
            context: context.map_or_else(|| id.session.to_string(), str::to_owned),
            hitl,
            status: TaskStatus { state: TaskState::Submitted, message: None, timestamp: created },
            artifacts: Vec::new(),
            request: None,
            asked: Vec::new(),
            last_seq: 0,
            last_ts: created,
        }
    }

    pub(super) fn id(&self) -> TaskId {
        self.id
    }

    /// Returns the seq of the newest event of the run; 0 before its start.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(super) fn state(&self) -> TaskState {
        self.status.state
    }

    /// Whether nothing comes until the client does something.
    pub(super) fn is_at_rest(&self) -> bool {
        self.state().is_terminal() || self.state() == TaskState::InputRequired
    }

    /// Whether it has not started, because the task before it waits for the client.
    pub(super) fn is_blocked(&self) -> bool {
        self.state() == TaskState::Submitted && self.status.message.is_some()
    }

    /// Returns the task.
    pub(super) fn resource(&self, history: HistoryLength, artifacts: ArtifactInclusion) -> TaskResource {
        let messages: Vec<&AgentMessage> = self.request.iter().chain(&self.asked).collect();
        let newest = messages.into_iter().cloned();
        let skipped = history.skipped(newest.len());
        TaskResource {
            id: self.id.to_string(),
            context_id: self.context.clone(),
            status: self.status.clone(),
            artifacts: (artifacts == ArtifactInclusion::Included)
                .then(|| self.artifacts.iter().map(TextArtifact::whole).collect()),
            history: newest.skip(skipped).collect(),
            metadata: json!({METADATA_KEY: {"sessionId": self.id.session, "runId": self.id.run}}),
        }
    }

    /// Says something before what the task waits for.
    pub(super) fn add_note(&mut self, note: &str) {
        match &mut self.status.message {
            Some(message) => message.parts.insert(0, TextPart { text: note.to_owned() }),
            None => self.status.message = Some(self.agent_message(note.to_owned(), Map::new())),
        }
    }

    /// Says what the task before this one waits for. Appends the update that it causes.
    pub(super) fn wait_behind(&mut self, wait: &PrecedingWait, updates: &mut Vec<StreamItem>) {
        let before = TaskId { session: self.id.session, run: wait.run_id };
        let details = json!({"waitsForTask": before.to_string()});
        let metadata = Map::from_iter([(METADATA_KEY.to_owned(), details)]);
        let text = format!("{BEHIND_WAITING}\n\n{}", wait.waiting.describe());
        let mut message = self.agent_message(text, metadata);
        // It has no seq, and may wait for one thing after the other.
        let asked = wait.waiting.ids().map(InteractionId::digits).next().unwrap_or_default();
        message.message_id = format!("{}-behind-{asked}", self.id.run_digits());
        self.set_status(TaskState::Submitted, Some(message), updates);
    }

    /// Sets the message that a run is still to begin with.
    pub(super) fn set_queued_message(&mut self, entry: &InboxEntry) {
        if let CommandBody::Message { message_id, content, .. } = &entry.command.body {
            self.request = Some(self.user_message(*message_id, content, Some(&entry.command.command_id)));
        }
    }

    /// Sets the message that the client has just sent, until the log has it.
    pub(super) fn set_sent_message(&mut self, message_id: &str, text: &str) {
        if self.request.is_none() {
            self.request = Some(self.message_of_user(message_id.to_owned(), text));
        }
    }

    /// Applies a frame of the run. Appends the updates that it causes.
    pub(super) fn apply_frame(&mut self, frame: &StreamFrame, updates: &mut Vec<StreamItem>) {
        match frame {
            StreamFrame::Event(event) => self.apply_event(event, updates),
            StreamFrame::Transient(TransientEvent::Token(delta)) => self.add_text(delta, updates),
            StreamFrame::Transient(_) => {}
        }
    }

    /// Applies that the run rests. Appends the update that it causes; none if the run goes on elsewhere.
    pub(super) fn apply_rest(&mut self, rest: &RunRest, updates: &mut Vec<StreamItem>) {
        let ended = match rest {
            RunRest::Waiting(waiting) => return self.wait_for_input(waiting, updates),
            RunRest::Finished(finished) => match finished.outcome {
                RunOutcome::Completed => (TaskState::Completed, None),
                RunOutcome::Cancelled => (TaskState::Canceled, None),
                RunOutcome::Limit => (TaskState::Failed, Some("A limit of the run was reached.".to_owned())),
            },
            RunRest::Failed(failed) => (TaskState::Failed, Some(format!("{} ({})", failed.message, failed.code))),
            RunRest::Interrupted(why @ RunInterruption::MessageLost) => (TaskState::Failed, Some(why.message())),
            RunRest::Interrupted(_) => return,
        };
        let (state, text) = ended;
        let message = text.map(|text| self.agent_message(text, Map::new()));
        self.set_status(state, message, updates);
    }

    fn apply_event(&mut self, event: &SessionEvent, updates: &mut Vec<StreamItem>) {
        (self.last_seq, self.last_ts) = (event.seq, event.ts);
        match &event.body {
            EventBody::UserMessage(message) => {
                let command = message.command_id.as_ref();
                self.request = Some(self.user_message(message.message_id, &message.content, command));
            }
            EventBody::RunStarted(_) => self.set_status(TaskState::Working, None, updates),
            EventBody::AssistantMessage(message) => self.end_message(message, updates),
            EventBody::ToolStart(start) => self.start_call(start, updates),
            EventBody::ToolEnd(end) => self.end_call(end, updates),
            EventBody::ApprovalResolved(_) | EventBody::InputResolved(_)
                if self.state() == TaskState::InputRequired =>
            {
                self.set_status(TaskState::Working, None, updates);
            }
            EventBody::RunRecovered(recovered) => self.void_texts(&recovered.superseded, updates),
            _ => {}
        }
    }

    fn add_text(&mut self, delta: &TextDelta, updates: &mut Vec<StreamItem>) {
        let artifact = self.artifact_of(delta.message_id);
        if let Some(chunk) = artifact.add_text(delta.offset, &delta.content) {
            let artifact = artifact.clone();
            self.push_chunk(&artifact, chunk, ChunkPosition::Middle, updates);
        }
    }

    fn end_message(&mut self, message: &AssistantMessageEvent, updates: &mut Vec<StreamItem>) {
        let is_known = self.artifacts.iter().any(|artifact| artifact.message == message.message_id);
        if message.content.is_empty() && !is_known {
            return;
        }
        let name = if message.tool_calls.is_empty() { ANSWER } else { COMMENTARY };
        let artifact = self.artifact_of(message.message_id);
        let chunk = artifact.complete(&message.content, name);
        let artifact = artifact.clone();
        self.push_chunk(&artifact, chunk, ChunkPosition::Last, updates);
    }

    /// Empties texts that were shown and do not count: the model has to write them again.
    fn void_texts(&mut self, superseded: &[MessageId], updates: &mut Vec<StreamItem>) {
        let is_void = |artifact: &TextArtifact| superseded.contains(&artifact.message);
        let void: Vec<TextArtifact> = self.artifacts.extract_if(.., |artifact| is_void(artifact)).collect();
        for artifact in void {
            let chunk = ArtifactChunk { text: String::new(), append: false };
            self.push_chunk(&artifact, chunk, ChunkPosition::Last, updates);
        }
    }

    fn artifact_of(&mut self, message: MessageId) -> &mut TextArtifact {
        let at = self.artifacts.iter().position(|artifact| artifact.message == message).unwrap_or_else(|| {
            self.artifacts.push(TextArtifact::new(message));
            self.artifacts.len() - 1
        });
        &mut self.artifacts[at]
    }

    fn push_chunk(
        &self,
        artifact: &TextArtifact,
        chunk: ArtifactChunk,
        position: ChunkPosition,
        updates: &mut Vec<StreamItem>,
    ) {
        updates.push(StreamItem::ArtifactUpdate(ArtifactUpdate {
            task_id: self.id.to_string(),
            context_id: self.context.clone(),
            append: chunk.append,
            artifact: artifact.with_text(chunk.text),
            last_chunk: position == ChunkPosition::Last,
        }));
    }

    fn start_call(&mut self, start: &ToolStart, updates: &mut Vec<StreamItem>) {
        let details = json!({"toolCallId": start.tool_call_id, "name": start.name, "server": start.server,
            "arguments": start.arguments, "effect": start.effect, "status": "running"});
        self.report_call(format!("`{}` is running.", start.name), details, updates);
    }

    fn end_call(&mut self, end: &ToolEnd, updates: &mut Vec<StreamItem>) {
        let details = json!({"toolCallId": end.tool_call_id, "name": end.name, "server": end.server,
            "status": end.status, "bytes": end.bytes, "durationMs": end.duration_ms});
        self.report_call(format!("`{}` ended: {}.", end.name, end.status.as_str()), details, updates);
    }

    fn report_call(&mut self, text: String, details: Value, updates: &mut Vec<StreamItem>) {
        let call = Map::from_iter([("toolCall".to_owned(), details)]);
        let metadata = Map::from_iter([(METADATA_KEY.to_owned(), Value::Object(call))]);
        let message = self.agent_message(text, metadata);
        self.set_status(TaskState::Working, Some(message), updates);
    }

    fn wait_for_input(&mut self, waiting: &WaitingInteractions, updates: &mut Vec<StreamItem>) {
        let mut message = self.agent_message(waiting.describe(), Map::new());
        if self.hitl == HitlActivation::Active
            && let Some(request) = describe_request(waiting)
        {
            message.metadata.insert(HITL_EXTENSION.to_owned(), request);
            message.extensions.push(HITL_EXTENSION);
        }
        // An event that changes nothing of it makes the run rest again.
        let is_known = self.status.message.as_ref().is_some_and(|known| known.parts == message.parts);
        if self.state() != TaskState::InputRequired || !is_known {
            self.set_status(TaskState::InputRequired, Some(message), updates);
        }
    }

    fn set_status(&mut self, state: TaskState, message: Option<AgentMessage>, updates: &mut Vec<StreamItem>) {
        // What was asked and is not waited for any more is a part of the conversation.
        if self.state() == TaskState::InputRequired {
            self.asked.extend(self.status.message.take());
        }
        self.status = TaskStatus { state, message, timestamp: self.last_ts };
        updates.push(StreamItem::StatusUpdate(StatusUpdate {
            task_id: self.id.to_string(),
            context_id: self.context.clone(),
            status: self.status.clone(),
        }));
    }

    fn agent_message(&self, text: String, metadata: Map<String, Value>) -> AgentMessage {
        AgentMessage {
            message_id: format!("{}-{:x}", self.id.run_digits(), self.last_seq),
            context_id: self.context.clone(),
            task_id: Some(self.id.to_string()),
            role: MessageRole::Agent,
            parts: vec![TextPart { text }],
            metadata,
            extensions: Vec::new(),
        }
    }

    fn user_message(&self, id: MessageId, content: &str, command: Option<&CommandId>) -> AgentMessage {
        let of_client = command.and_then(client_message_id).map(str::to_owned);
        self.message_of_user(of_client.unwrap_or_else(|| HEXLOWER.encode(id.as_bytes())), content)
    }

    fn message_of_user(&self, message_id: String, content: &str) -> AgentMessage {
        AgentMessage {
            message_id,
            context_id: self.context.clone(),
            task_id: Some(self.id.to_string()),
            role: MessageRole::User,
            parts: vec![TextPart { text: content.to_owned() }],
            metadata: Map::new(),
            extensions: Vec::new(),
        }
    }
}

/// Where a chunk is in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkPosition {
    Middle,
    Last,
}
