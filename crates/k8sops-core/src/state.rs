//! The projection: the state of a session, as a pure fold of its log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    attachment::MessageAttachment,
    event::{
        ApprovalRequested, AssistantMessageEvent, EventBody, InputRequested, MessageFeedback, ServerIntroduction,
        SessionEvent,
    },
    ids::{MessageId, RunId, ToolCallId},
    lineage::LostToolCall,
    message::{AssistantMessage, ChatMessage, ReplyFeedback, TokenUsage, ToolMessage, UserMessage, is_zero},
    open_run::OpenRun,
    request_form::{ConversationForm, simplification_key},
    summary::SessionSummary,
    time::Timestamp,
    usage::{DailyUsage, UsageDay},
};

/// The state of a session as of the event [`SessionSummary::last_seq`]. A stored state is a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The part that lists show.
    pub summary: SessionSummary,
    /// The conversation. Shared, because a run copies the list for every model call.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The summary that replaces the oldest messages in requests to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<ContextCompaction>,
    /// The codes of the warnings since the last change of settings, so that a warning is not repeated.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub warned: BTreeSet<String>,
    /// The number of tool outputs so far. It numbers them, also when the oldest turns are dropped from a checkpoint.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_count: u64,
    /// How the conversation is simplified for models that rejected it, since the last change of settings. The keys are made
    /// by [`simplification_key`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub simplified: BTreeMap<String, ConversationForm>,
    /// What MCP servers said of themselves when the session saw them first, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerIntroduction>,
    /// Calls whose records the store has lost, as `log_truncated` says. A call is known until its run makes it again or ends,
    /// also if the store then loses more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_calls: Vec<LostToolCall>,
    /// Those of `lost_calls` that a message to the model names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told_lost_calls: Vec<ToolCallId>,
    /// The seq of the newest event from which memories were extracted.
    #[serde(default)]
    pub learned_up_to: u64,
    /// The usage on the day of the newest reply.
    #[serde(default)]
    pub spent: DailyUsage,
    /// The run in progress.
    pub run: Option<OpenRun>,
}

/// A summary of the oldest messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextCompaction {
    /// The seq of the event that holds the summary.
    pub seq: u64,
    /// The seq of the newest message that the summary replaces.
    pub up_to_seq: u64,
    /// The summary.
    pub summary: Arc<str>,
}

impl SessionState {
    /// The state after a log's first event; `None` if `event` is not a `session_created`.
    #[must_use]
    pub fn from_first_event(event: &SessionEvent) -> Option<Self> {
        let summary = SessionSummary::from_first_event(event)?;
        Some(Self {
            summary,
            messages: Vec::new(),
            run: None,
            compaction: None,
            warned: BTreeSet::new(),
            output_count: 0,
            simplified: BTreeMap::new(),
            servers: Vec::new(),
            lost_calls: Vec::new(),
            told_lost_calls: Vec::new(),
            learned_up_to: 0,
            spent: DailyUsage::default(),
        })
    }

    /// Folds a log, or the events after a checkpoint. `None` if the log does not begin with `session_created`.
    #[must_use]
    pub fn fold_events<'a>(
        checkpoint: Option<Self>,
        events: impl IntoIterator<Item = &'a SessionEvent>,
    ) -> Option<Self> {
        let mut events = events.into_iter();
        let mut state = match checkpoint {
            Some(state) => state,
            None => Self::from_first_event(events.next()?)?,
        };
        for event in events {
            state.apply_event(event);
        }
        Some(state)
    }

    /// The seq of the newest event that is in this state.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.summary.last_seq
    }

    /// The approximate size in bytes of a checkpoint; the counterpart of [`SessionEvent::estimated_bytes`].
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.estimated_bytes()).sum()
    }

    /// Drops the oldest turns until the rest has at most `max_bytes`. The newest turn stays, however large it is.
    pub fn drop_oldest_turns(&mut self, max_bytes: u64) {
        let mut remaining = self.estimated_bytes();
        let mut cut = 0;
        for (at, message) in self.messages.iter().enumerate() {
            if matches!(message.as_ref(), ChatMessage::User(_)) {
                cut = at;
                if remaining <= max_bytes {
                    break;
                }
            }
            remaining -= message.estimated_bytes();
        }
        self.messages.drain(..cut);
    }

    /// The approvals that wait for a decision.
    pub fn pending_approvals(&self) -> impl Iterator<Item = &ApprovalRequested> {
        self.run.iter().flat_map(OpenRun::pending_approvals)
    }

    /// The requests for input that wait for an answer.
    pub fn pending_inputs(&self) -> impl Iterator<Item = &InputRequested> {
        self.run.iter().flat_map(OpenRun::pending_inputs)
    }

    /// Applies the next event.
    pub fn apply_event(&mut self, event: &SessionEvent) {
        self.summary.apply_event(event);
        if let Some(run) = &mut self.run {
            run.apply_event(&event.body, event.ts);
        }
        self.apply_body(event);
        if let Some(run) = &mut self.run {
            run.count_time(&event.body, event.ts);
        }
    }

    fn apply_body(&mut self, event: &SessionEvent) {
        let SessionEvent { seq, ts, .. } = *event;
        match &event.body {
            EventBody::UserMessage(e) => {
                self.push_message(ChatMessage::User(UserMessage {
                    message_id: e.message_id,
                    seq,
                    ts,
                    command_id: e.command_id.clone(),
                    content: e.content.clone(),
                    attachments: e.attachments.clone(),
                    memory: false,
                    recalled: Vec::new(),
                    unavailable_servers: Vec::new(),
                    lost_calls: Vec::new(),
                }));
                self.tell_lost_calls();
            }
            EventBody::RunStarted(e) => {
                if let Some(message) = self.newest_user_message().filter(|_| e.memory) {
                    message.memory = true;
                }
                // No version writes a run event without a run id; a log that has one must not cause a panic.
                self.run = event.run_id.map(|run_id| OpenRun::from_started(run_id, e, ts));
            }
            EventBody::AssistantMessage(e) => {
                self.push_message(assistant_message(e, event.run_id, seq, ts));
                self.add_usage(ts, e.provider.as_deref(), e.model.as_deref(), e.usage);
            }
            EventBody::ToolEnd(e) => {
                let Some(call) = self.run.as_mut().and_then(|run| run.end_call(&e.tool_call_id)) else { return };
                if let Some(run_id) = event.run_id {
                    // The model was told. If it makes the call once more, it means to.
                    self.lost_calls.retain(|lost| !call.repeats(run_id, lost));
                }
                self.output_count += 1;
                self.push_message(ChatMessage::Tool(ToolMessage {
                    tool_call_id: call.id,
                    seq,
                    ts,
                    number: self.output_count,
                    name: call.name,
                    status: e.status,
                    content: e.content.clone(),
                }));
            }
            EventBody::RunFinished(_) | EventBody::RunFailed(_) => {
                self.run = None;
                self.lost_calls.retain(|lost| Some(lost.run_id) != event.run_id);
            }
            EventBody::ContextCompacted(e) => {
                self.compaction =
                    Some(ContextCompaction { seq, up_to_seq: e.up_to_seq, summary: e.summary.as_str().into() });
                self.add_usage(ts, e.provider.as_deref(), e.model.as_deref(), e.usage);
            }
            EventBody::MemoryRecalled(e) => {
                if let Some(message) = self.newest_user_message() {
                    message.recalled.clone_from(&e.memories);
                }
            }
            EventBody::MemorySaved(e) => {
                self.learned_up_to = e.up_to_seq;
                self.add_usage(ts, e.provider.as_deref(), e.model.as_deref(), e.usage);
            }
            EventBody::Warning(e) => {
                self.warned.insert(e.code.clone());
                if let Some(simplified) = &e.simplified {
                    let key = simplification_key(&simplified.provider, &simplified.model);
                    self.simplified.insert(key, simplified.remembered.clone());
                }
                if let Some(call) = &e.dropped_call {
                    self.add_usage(ts, Some(&call.provider), Some(&call.model), call.usage);
                }
                if let Some(message) = self.newest_user_message().filter(|_| !e.unavailable_servers.is_empty()) {
                    message.unavailable_servers.clone_from(&e.unavailable_servers);
                }
            }
            EventBody::MessageFeedback(e) => self.rate_reply(e, ts),
            EventBody::SettingsChanged(_) => {
                self.warned.clear();
                self.simplified.clear();
            }
            EventBody::ServersIntroduced(e) => {
                for introduced in &e.servers {
                    // The first words stay: a change would cost the cached beginning of the prompt.
                    if !self.servers.iter().any(|known| known.server == introduced.server) {
                        self.servers.push(introduced.clone());
                    }
                }
            }
            EventBody::LogTruncated(e) => {
                for lost in &e.lost_calls {
                    if !self.lost_calls.iter().any(|known| known.tool_call_id == lost.tool_call_id) {
                        self.told_lost_calls.retain(|told| *told != lost.tool_call_id);
                        self.lost_calls.push(lost.clone());
                    }
                }
                if self.run.is_some() {
                    self.tell_lost_calls();
                }
            }
            EventBody::SessionCreated(_)
            | EventBody::TitleChanged(_)
            | EventBody::ApprovalRequested(_)
            | EventBody::ApprovalResolved(_)
            | EventBody::InputRequested(_)
            | EventBody::InputResolved(_)
            | EventBody::ToolStart(_)
            | EventBody::RunRecovered(_) => {}
        }
    }

    /// Whether the conversation has a message of the user.
    #[must_use]
    pub fn has_user_message(&self, message_id: MessageId) -> bool {
        let is_it = |message: &Arc<ChatMessage>| matches!(message.as_ref(), ChatMessage::User(user) if user.message_id == message_id);
        // It is among the newest ones, if it is there.
        self.messages.iter().rev().any(is_it)
    }

    fn push_message(&mut self, message: ChatMessage) {
        self.messages.push(Arc::new(message));
    }

    /// Returns a reply that is in this state.
    #[must_use]
    pub fn find_reply(&self, message_id: MessageId) -> Option<&AssistantMessage> {
        self.messages.iter().rev().find_map(|message| match message.as_ref() {
            ChatMessage::Assistant(reply) if reply.message_id == message_id => Some(reply),
            _ => None,
        })
    }

    /// Returns an attachment of a message that is in this state.
    #[must_use]
    pub fn find_attachment(&self, id: &ToolCallId) -> Option<&MessageAttachment> {
        self.messages.iter().rev().find_map(|message| match message.as_ref() {
            ChatMessage::User(user) => user.attachments.iter().find(|attachment| attachment.attachment_id == *id),
            _ => None,
        })
    }

    /// Attaches a rating to its reply, unless the turn was dropped.
    fn rate_reply(&mut self, e: &MessageFeedback, ts: Timestamp) {
        let is_rated =
            |message: &ChatMessage| matches!(message, ChatMessage::Assistant(m) if m.message_id == e.message_id);
        let Some(message) = self.messages.iter_mut().rev().find(|message| is_rated(message)) else { return };
        if let ChatMessage::Assistant(reply) = Arc::make_mut(message) {
            let (rating, comment, by) = (e.rating, e.comment.clone(), e.by.clone());
            reply.feedback = Some(ReplyFeedback { rating, comment, by, ts });
        }
    }

    /// Has the newest message name the lost calls that none names.
    fn tell_lost_calls(&mut self) {
        let is_untold = |lost: &&LostToolCall| !self.told_lost_calls.contains(&lost.tool_call_id);
        let untold: Vec<LostToolCall> = self.lost_calls.iter().filter(is_untold).cloned().collect();
        if untold.is_empty() {
            return;
        }
        let Some(message) = self.newest_user_message() else { return };
        message.lost_calls.extend(untold);
        self.told_lost_calls = self.lost_calls.iter().map(|lost| lost.tool_call_id.clone()).collect();
    }

    /// The message that the run in progress answers.
    fn newest_user_message(&mut self) -> Option<&mut UserMessage> {
        let newest = self.messages.iter_mut().rev().find(|message| matches!(message.as_ref(), ChatMessage::User(_)))?;
        match Arc::make_mut(newest) {
            ChatMessage::User(message) => Some(message),
            _ => None,
        }
    }

    /// Adds to the day's usage. An event that names no model was written by that of the run.
    fn add_usage(&mut self, ts: Timestamp, provider: Option<&str>, model: Option<&str>, usage: TokenUsage) {
        let run = self.run.as_ref();
        let provider = provider.or_else(|| run.map(|run| run.provider.as_str())).unwrap_or_default();
        let model = model.or_else(|| run.map(|run| run.model.as_str())).unwrap_or_default();
        self.spent.add_usage(UsageDay::from_timestamp(ts), provider, model, usage);
    }
}

fn assistant_message(e: &AssistantMessageEvent, run_id: Option<RunId>, seq: u64, ts: Timestamp) -> ChatMessage {
    ChatMessage::Assistant(AssistantMessage {
        message_id: e.message_id,
        seq,
        ts,
        run_id,
        content: e.content.clone(),
        reasoning: e.reasoning.clone(),
        tool_calls: e.tool_calls.clone(),
        citations: e.citations.clone(),
        stop_reason: e.stop_reason,
        provider: e.provider.clone(),
        model: e.model.clone(),
        provider_data: e.provider_data.clone(),
        usage: e.usage,
        feedback: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventAuthor, EventDraft, LogTruncated, LostToolCall, RunFinished, RunId, RunOutcome, SessionCreated, SessionId,
        SessionOrigin, SessionSettings, UserMessageEvent,
    };

    fn new_state() -> SessionState {
        let created = EventBody::SessionCreated(SessionCreated {
            user_id: "anna".parse().unwrap(),
            title: None,
            settings: SessionSettings::for_model("p", "m"),
            by: EventAuthor::System,
            origin: SessionOrigin::User,
        });
        SessionState::from_first_event(&EventDraft::new(created).into_event(SessionId::new(), 1)).unwrap()
    }

    #[test]
    fn lost_calls_are_known_until_their_run_ends() {
        let mut state = new_state();
        let call = |run_id, id: &str| LostToolCall {
            run_id,
            tool_call_id: id.parse().unwrap(),
            name: "scale".into(),
            server: "k8s".into(),
            arguments: serde_json::json!({}),
        };
        let (run, next) = (RunId::new(), RunId::new());
        let session = state.summary.session_id;
        let truncated = |lost_calls| EventBody::LogTruncated(LogTruncated { from_seq: 2, lost: 1, lost_calls });
        for (seq, lost_calls) in
            [(9, vec![call(run, "a"), call(next, "b")]), (20, Vec::new()), (30, vec![call(run, "a")])]
        {
            state.apply_event(&EventDraft::new(truncated(lost_calls)).into_event(session, seq));
        }
        assert_eq!(state.lost_calls, [call(run, "a"), call(next, "b")]);
        let end = RunFinished { outcome: RunOutcome::Completed, usage: TokenUsage::default(), duration_ms: 0 };
        state.apply_event(&EventDraft::in_run(run, EventBody::RunFinished(end)).into_event(session, 31));
        assert_eq!(state.lost_calls, [call(next, "b")]);

        // Each call is told once.
        let say = |state: &mut SessionState, seq| {
            let message = UserMessageEvent {
                message_id: MessageId::new(),
                content: "hi".into(),
                attachments: Vec::new(),
                command_id: None,
            };
            let event = EventDraft::in_run(RunId::new(), EventBody::UserMessage(message)).into_event(session, seq);
            state.apply_event(&event);
            state.newest_user_message().map(|message| message.lost_calls.clone()).unwrap_or_default()
        };
        assert_eq!(say(&mut state, 32), [call(next, "b")]);
        state.apply_event(&EventDraft::new(truncated(vec![call(next, "c")])).into_event(session, 50));
        assert_eq!(say(&mut state, 51), [call(next, "c")]);
        assert_eq!(say(&mut state, 52), []);
    }

    #[test]
    fn drop_oldest_turns_keeps_the_newest_turn() {
        let message =
            |content: &str| Arc::new(ChatMessage::User(UserMessage { seq: 1, ..UserMessage::unlogged(content) }));
        let mut state = new_state();
        state.messages = (0..5).map(|n| message(&format!("{n}").repeat(1000))).collect();
        let first_chars = |state: &SessionState| -> Vec<char> {
            let messages = state.messages.iter().filter_map(|message| match message.as_ref() {
                ChatMessage::User(m) => m.content.chars().next(),
                _ => None,
            });
            messages.collect()
        };
        state.drop_oldest_turns(10_000);
        assert_eq!(first_chars(&state).len(), 5);
        state.drop_oldest_turns(3_000);
        assert_eq!(first_chars(&state), ['3', '4']);
        state.drop_oldest_turns(0);
        assert_eq!(first_chars(&state), ['4']);
    }
}
